"""The service's lease around whatever acts under it: runs, and what is done outside of them without a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pydantic import JsonValue

from statehub_plan.cli.workspace import Workspace, author, utc_now
from statehub_plan.errors import StatehubError
from statehub_plan.model.facts import Evidence, Observation
from statehub_plan.model.plan import Plan
from statehub_plan.model.record import Lease, RecordKind
from statehub_plan.planning import turned
from statehub_plan.registers import read_register
from statehub_plan.reporter import Reporter

if TYPE_CHECKING:
    from statehub_plan.steps.stage import Stage

LEASE_TTL_S = 30.0

Seen = tuple[Observation, tuple[Evidence, ...]]

Append = Callable[[RecordKind, str | None, dict[str, JsonValue]], None]


def standing_plan(workspace: Workspace, seen: Seen) -> Plan:
    """As if whoever is primary now were wished so: after a switchback, the other side is the fallback."""
    primary = read_register(workspace.document, seen[0]).primary or workspace.document.spec.desired.primary
    return workspace.plan(turned(workspace.document, primary), *seen)


@contextmanager
def leased(workspace: Workspace, plan: Plan, reporter: Reporter) -> Iterator[Lease]:
    """Held until the block is left; StatehubError (exit 6) while somebody else has the lease."""
    journal, taken = workspace.journal, epochs_taken(workspace, plan)
    lease = journal.acquire(workspace.service, author(), ttl_s=LEASE_TTL_S, now=utc_now(), at_least=taken)
    try:
        yield lease
    finally:
        try:
            journal.release(lease)
        except StatehubError as error:  # it goes with this process; how the run ended is what a person has to know
            reporter.note(f"that the lease is free is not on record: {error.what}")


def appending(workspace: Workspace, run: str, lease: Lease | None, reporter: Reporter) -> Append:
    """Puts on record what `run` does under this lease (without one only what it found out); a record that no standby of
    the journal confirms is a note."""
    from statehub_plan.postgres.transaction import StandbySilent

    def append(kind: RecordKind, step: str | None, payload: dict[str, JsonValue]) -> None:
        try:
            workspace.journal.append(
                lease,
                service=workspace.service,
                plan_name=workspace.document.metadata.name,
                run=run,
                kind=kind,
                step=step,
                payload=payload,
                at=utc_now(),
            )
        except StandbySilent as silent:  # on record; what the databases say about themselves counts
            reporter.note(silent.what)

    return append


@contextmanager
def leased_stage(workspace: Workspace, plan: Plan, run: str, reporter: Reporter) -> Iterator[Stage]:
    """A stage for what no run does, under the lease: with facts on record, and no step.

    Whoever had the lease just before may have frozen or moved the primary: what was seen until then (`plan` too) is no
    reason to act, `look` is."""
    from statehub_plan.journal import Heartbeat
    from statehub_plan.steps.stage import Stage

    with leased(workspace, plan, reporter) as lease, Heartbeat(workspace.journal, lease) as heartbeat:
        append = appending(workspace, run, lease, reporter)
        yield Stage(
            plan=plan,
            base_dir=workspace.base_dir,
            home=workspace.home,
            run=run,
            epoch=lease.epoch,
            owner=run,
            now=utc_now,
            record_fact=lambda kind, state, payload: append(
                RecordKind.FACT, None, {**payload, "kind": kind, "state": state}
            ),
            check_lease=heartbeat.check,
            look=lambda: workspace.observe(deep=False),
            records=workspace.records,
            reporter=reporter,
        )


def epochs_taken(workspace: Workspace, plan: Plan) -> int:
    """The highest epoch that has acted on either side; one that does not answer now refuses a lower one by itself."""
    from statehub_plan.postgres.connect import resolve_dsn
    from statehub_plan.postgres.state import claimed_epoch

    taken = 0
    for endpoint in plan.spec.spec.endpoints.values():
        with suppress(StatehubError):  # a reference that leads nowhere is told by whoever needs it
            taken = max(taken, claimed_epoch(resolve_dsn(endpoint.database.dsn, workspace.base_dir)))
    return taken
