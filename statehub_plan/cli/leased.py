"""A stage for what is done outside a run: under the service's lease, with facts on record and no step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import JsonValue

from statehub_plan.cli.runs import LEASE_TTL_S, epochs_taken
from statehub_plan.cli.workspace import Workspace, author, utc_now
from statehub_plan.model.facts import Evidence, Observation
from statehub_plan.model.plan import Plan
from statehub_plan.model.record import RecordKind
from statehub_plan.reporter import Reporter

if TYPE_CHECKING:
    from statehub_plan.steps.stage import Stage


@contextmanager
def leased_stage(
    workspace: Workspace, plan: Plan, seen: tuple[Observation, tuple[Evidence, ...]], run: str, reporter: Reporter
) -> Iterator[Stage]:
    """Held until the block is left; StatehubError (exit 6) while somebody else has the lease."""
    from statehub_plan.journal import Heartbeat
    from statehub_plan.steps.stage import Stage

    journal = workspace.journal
    lease = journal.acquire(
        workspace.service, author(), ttl_s=LEASE_TTL_S, now=utc_now(), at_least=epochs_taken(workspace, plan)
    )
    try:
        with Heartbeat(journal, lease) as heartbeat:

            def record_fact(kind: str, state: str, payload: dict[str, JsonValue]) -> None:
                journal.append(
                    lease,
                    service=workspace.service,
                    plan_name=plan.spec.metadata.name,
                    run=run,
                    kind=RecordKind.FACT,
                    step=None,
                    payload={**payload, "kind": kind, "state": state},
                    at=utc_now(),
                )

            yield Stage(
                plan=plan,
                base_dir=workspace.base_dir,
                home=workspace.home,
                run=run,
                epoch=lease.epoch,
                owner=run,
                now=utc_now,
                record_fact=record_fact,
                check_lease=heartbeat.check,
                look=lambda: seen,
                records=workspace.records,
                reporter=reporter,
            )
    finally:
        journal.release(lease)
