"""The Kubernetes home of an endpoint, read through `kubectl get … -o json`."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from statehub_plan import processes
from statehub_plan.errors import StatehubError
from statehub_plan.jsonpointer import PointerError, resolve
from statehub_plan.model.spec import Platform
from statehub_plan.observe.gather import Answers, Source
from statehub_plan.observe.parallel import Attempt
from statehub_plan.redact import redact

CLUSTER_RESOURCE = "clusters.postgresql.cnpg.io"  # spelled out: other operators have a `cluster` too

_CLUSTER = {
    "phase": "/status/phase",
    "instances": "/spec/instances",
    "ready_instances": "/status/readyInstances",
    "primary": "/status/currentPrimary",
    "image": "/spec/imageName",
}
_DEPLOYMENT = {
    "replicas": "/spec/replicas",
    "ready_replicas": "/status/readyReplicas",
    "updated_replicas": "/status/updatedReplicas",
    "image": "/spec/template/spec/containers/0/image",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where kubectl is to look; None leaves it to kubectl's own configuration."""

    context: str | None = None
    namespace: str | None = None

    def argv(self, resource: str) -> list[str]:
        """The whole command."""
        context = ["--context", self.context] if self.context else []
        namespace = ["--namespace", self.namespace] if self.namespace else []
        return ["kubectl", *context, *namespace, "get", resource, "-o", "json"]


def platform_source(endpoint: str, platform: Platform, base_dir: Path) -> Source:
    """ENDPOINT.platform {namespace, cluster: {…} | null, deployment: {…} | null}; unknown when kubectl fails.

    What Kubernetes leaves out of an object (`readyReplicas` when it is 0, say) is null here.
    """
    fact_id = f"{endpoint}.platform"
    target = Target(platform.context, platform.namespace)
    wanted: dict[str, tuple[str, dict[str, str]]] = {}
    if platform.cluster is not None:
        wanted["cluster"] = (f"{CLUSTER_RESOURCE}/{platform.cluster}", _CLUSTER)
    if platform.deployment is not None:
        wanted["deployment"] = (f"deployments.apps/{platform.deployment}", _DEPLOYMENT)
    if not wanted:  # at least that there is such a place
        wanted["phase"] = (f"namespaces/{platform.namespace}", {"namespace": "/status/phase"})

    def look(answers: Answers, attempt: Attempt) -> None:
        began = time.monotonic()
        found: dict[str, JsonValue] = {"namespace": platform.namespace, "cluster": None, "deployment": None}
        for key, (resource, fields) in wanted.items():
            document = get_resource(resource, target, base_dir, timeout_s=attempt.remaining_s(), attempt=attempt)
            found[key] = {name: _at(document, pointer) for name, pointer in sorted(fields.items())}
        answers.know(fact_id, found, began)

    how = "; ".join(" ".join(target.argv(resource)) for resource, _ in wanted.values())
    return Source(name=f"platform of {endpoint}", promises={fact_id: how}, look=look)


def get_resource(resource: str, target: Target, base_dir: Path, *, timeout_s: float, attempt: Attempt) -> JsonValue:
    """What `kubectl get RESOURCE -o json` prints. StatehubError `kubectl-missing`, `kubectl-failed`, and those of
    `processes.run`. Blocks for at most `timeout_s`."""
    argv = target.argv(resource)
    try:
        ended = processes.run(argv, timeout_s=timeout_s, cwd=base_dir, stop=attempt.stop)
    except StatehubError as error:
        if error.code != "command-missing":
            raise
        raise StatehubError(
            code="kubectl-missing",
            what="kubectl is not there, so nothing is known about the cluster",
            hint="install it (https://kubernetes.io/docs/tasks/tools/) and give it a context for this cluster",
        ) from error
    if ended.exit_status != 0:
        raise StatehubError(
            code="kubectl-failed",
            what=redact(f"{' '.join(argv)}: {ended.complaint()}"),
            hint="check context, namespace and rights with the same command",
        )
    try:
        document: JsonValue = json.loads(ended.stdout)
    except (ValueError, RecursionError) as error:
        raise StatehubError(
            code="kubectl-failed",
            what=redact(f"{' '.join(argv)} did not print JSON: {ended.stdout[:40]!r}"),
            hint="check that `kubectl` is the real one",
        ) from error
    return document


def _at(document: JsonValue, pointer: str) -> JsonValue:
    try:
        return resolve(document, pointer)
    except PointerError:
        return None
