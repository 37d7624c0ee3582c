"""One look at the whole world of a plan: every source at once, every fact of the catalogue known or unknown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from statehub_plan.access import resolve_path
from statehub_plan.model.facts import Fact, Observation
from statehub_plan.model.spec import CutoverPlan, OperatingModel, TransferMethod
from statehub_plan.observe.access import access_source
from statehub_plan.observe.api import api_source
from statehub_plan.observe.backup import backup_source
from statehub_plan.observe.gather import Answers, Clock, Source, gather
from statehub_plan.observe.parallel import Attempt
from statehub_plan.observe.platform import platform_source
from statehub_plan.observe.postgres import database_source
from statehub_plan.observe.preflight import preflight_source
from statehub_plan.observe.replication import disk_source


def observe(
    plan: CutoverPlan,
    base_dir: Path,
    *,
    now: Clock,
    timeout_s: float = 5.0,
    deep: bool = True,
    extra: tuple[Fact, ...] = (),
) -> Observation:
    """All facts about the plan's endpoints, access paths and backup, and `extra` ones (from the journal, say).

    Blocks for at most `timeout_s`, and for what reading the newest backup takes the first time: what has not answered
    by then is unknown, and is hung up on. Unless `deep`, size, schema revision, row counts, pre-flight, disks, backup
    and platforms are not looked at and are not in the result; disks and WAL only where rows may travel by replication
    or a command that tells the disk left is declared. Read-only, but for commands that the plan names. ValueError when
    an extra fact has the id of an observed one.
    """
    began_at = now()
    facts = gather(tuple(_sources(plan, base_dir, now, deep)), now=now, timeout_s=timeout_s)
    return Observation(observed_at=began_at, facts=tuple(sorted((*facts, *extra), key=lambda fact: fact.id)))


def _sources(plan: CutoverPlan, base_dir: Path, now: Clock, deep: bool) -> Iterator[Source]:
    for name, endpoint in sorted(plan.spec.endpoints.items()):
        streams = plan.spec.transfer.method is not TransferMethod.DUMP or endpoint.database.disk_free is not None
        yield database_source(name, endpoint, base_dir, now=now, deep=deep, streams=streams)
        if streams and deep:
            yield disk_source(name, endpoint.database, base_dir)
        if endpoint.api is not None:
            yield api_source(name, endpoint.api)
        if endpoint.platform is not None and deep:
            yield platform_source(name, endpoint.platform, base_dir)
    for path in plan.spec.access:
        yield access_source(path, base_dir)
    if deep:
        yield preflight_source(plan, base_dir)
        yield backup_source(plan.spec.backup, base_dir, now=now, allowed_signers=plan.spec.allowed_signers)
    if plan.spec.operating_model is not None:
        yield _document_source(plan.spec.operating_model, base_dir)


def _document_source(document: OperatingModel, base_dir: Path) -> Source:
    """document {path, exists}."""
    path = resolve_path(document.path, base_dir)

    def look(answers: Answers, attempt: Attempt) -> None:
        answers.know("document", {"path": document.path, "exists": path.is_file()}, time.monotonic())

    return Source(name="operating model document", promises={"document": document.path}, look=look)
