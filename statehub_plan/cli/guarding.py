"""`guard`: one look after the slot of a following fallback, for a timer that goes on when no run does."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import JsonValue

from statehub_plan.abstraction import ground
from statehub_plan.cli.leased import Seen, leased_stage, standing_plan
from statehub_plan.cli.options import document_argument, json_option
from statehub_plan.cli.output import TerminalReporter, print_json, print_text
from statehub_plan.cli.workspace import Workspace, utc_now
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.output import GuardOutput
from statehub_plan.model.plan import Plan
from statehub_plan.model.spec import FallbackMode
from statehub_plan.redact import redact
from statehub_plan.registers import read_register
from statehub_plan.world import Role, Term

if TYPE_CHECKING:
    from statehub_plan.postgres.guard import Dropped
    from statehub_plan.status import Alarm


@click.command()
@document_argument
@json_option
def guard(document: Path, as_json: bool) -> int:
    """Look once at the stream into DOCUMENT's fallback, and drop its slot if it is about to fill the primary's disk; so
    with slots that earlier streams have left there and nobody is going to read, which are told in any case.

    For cron or a timer, for as long as the fallback follows: a run that stabilizes looks by itself. Needs the lease
    (exit 6 while a run has it). Changes nothing else. Where the slot could not be looked after, or nobody can tell who
    is primary, exit 1 says so. A journal that is damaged, wherever, is told afterwards, with exit 1: a disk that fills
    waits for nobody. What was dropped is then told there too, as it may not be on record.

    Exit 1 too where nobody, both sides or the wrong one accept writes, or clients are pointed at a side that refuses
    them: no run is at work then, and a timer is who notices first.

    A way back that is not lossless is told on stderr, and leaves exit 0: the disk was looked after, which is what this
    is for, and a timer that failed each time for what no guard can mend would hide the time when it cannot guard.
    """
    from statehub_plan.render import told_orphans, told_streams
    from statehub_plan.streams import orphans, stream_between

    with Workspace.load(document) as workspace:
        plan, seen, dropped, for_nobody = _look(workspace, TerminalReporter(quiet=as_json))
        if dropped is not None or for_nobody:
            seen = workspace.observe(deep=False)
        stream = stream_between(seen[0], plan.old, plan.new)
        moved = read_register(plan.spec, seen[0]).decided > 0
        if moved and plan.spec.spec.desired.fallback.mode is FallbackMode.FOLLOWING and not stream.lossless:
            click.echo(redact(f"statehub-plan: the way back is not lossless: {stream.why}"), err=True)
        left = orphans(seen[0], (plan.old, plan.new))
        for line in told_orphans(plan.spec, left, plan.new):
            click.echo(redact(f"statehub-plan: {line}"), err=True)
        told = told_streams(plan.spec, seen[0])
        if (alarm := _alarm(plan, seen)) is not None:
            raise _alarming(alarm, (*told, *_told(plan, dropped, *for_nobody)))
        if as_json:
            output = GuardOutput(
                fallback=plan.old,
                stream=stream,
                dropped=_plain(dropped),
                orphans=left,
                orphans_dropped=tuple(one.model_dump(mode="json") for one in for_nobody),
            )
            print_json(output)
        elif told or not left:
            print_text("\n".join(told) or "nothing follows anything: nothing to guard")
    return Exit.DONE


def _seen(workspace: Workspace) -> Seen:
    """A quick look; without what the journal knows where that cannot be read."""
    from statehub_plan.journal import JournalTampered

    try:
        return workspace.observe(deep=False)
    except JournalTampered:
        return workspace.observe(deep=False, unrecorded=True)


def _look(workspace: Workspace, reporter: TerminalReporter) -> tuple[Plan, Seen, Dropped | None, tuple[Dropped, ...]]:
    """What was seen under the service's lease, as a plan and as it was, and which slots were dropped; StatehubError
    `not-guarded` where nothing could be told or done, JournalTampered once that is done, where the journal is damaged:
    no record of it is waited for then, and what there is of it is not relied on (`guard_fallback`)."""
    from statehub_plan.journal import JournalTampered
    from statehub_plan.steps.guarding import guard_fallback, guard_orphans

    damage: JournalTampered | None = None
    plan = standing_plan(workspace, _seen(workspace))
    with leased_stage(workspace, plan, f"guard-{secrets.token_hex(4)}", reporter) as stage:
        failed: list[str] = []
        unrecorded: list[str] = []

        def record_fact(kind: str, state: str, payload: dict[str, JsonValue]) -> None:
            nonlocal damage
            if state == "failed":
                failed.append(f"the slot {payload.get('slot')}: {payload.get('why')}")
            try:
                stage.record_fact(kind, state, payload)
            except JournalTampered as error:
                damage = damage or error
                unrecorded.append(f"{kind} {state}")

        try:
            workspace.journal.verify()
        except JournalTampered as error:
            damage = error
        seen = _seen(workspace)
        plan = standing_plan(workspace, seen)
        grounded = ground(plan.spec, *seen, now=utc_now())
        guarding = replace(stage, plan=plan, record_fact=record_fact)
        dropped = guard_fallback(guarding, seen[0], grounded, remembered=damage is None)
        for_nobody = guard_orphans(guarding, seen[0], grounded)
    if plan.spec.spec.desired.fallback.mode is not FallbackMode.FROZEN:
        if grounded.world.primary is Role.UNKNOWN or grounded.world.term is Term.UNKNOWN:
            failed.append(f"who is primary is not known: {grounded.register.basis}")
        if failed:
            raise _not_guarded(list(filter(None, (*_alarms(plan, seen), *failed, damage.what if damage else None))))
    if damage is not None:
        damage.details += _told(plan, dropped, *for_nobody)
        damage.details += (*(f"{what} is not on record" for what in unrecorded), *_alarms(plan, seen))
        raise damage
    return plan, seen, dropped, for_nobody


def _alarm(plan: Plan, seen: Seen) -> Alarm | None:
    """What is wrong beside the disk; that a side could not be observed is for whoever needs that to tell."""
    from statehub_plan.status import AlarmKind, alarm_of

    alarm = alarm_of(plan.spec, seen[0], read_register(plan.spec, seen[0]))
    return None if alarm is None or alarm.kind is AlarmKind.UNKNOWN else alarm


def _alarms(plan: Plan, seen: Seen) -> tuple[str, ...]:
    alarm = _alarm(plan, seen)
    return () if alarm is None else (f"{alarm.what}: {alarm.remedy}",)


def _alarming(alarm: Alarm, guarded: tuple[str, ...]) -> StatehubError:
    return StatehubError(code=alarm.kind.value, what=alarm.what, hint=alarm.remedy, details=guarded)


def _told(plan: Plan, *dropped: Dropped | None) -> tuple[str, ...]:
    return tuple(f"the slot {one.slot} on {plan.new} was dropped, because {one.why}" for one in dropped if one)


def _plain(dropped: Dropped | None) -> dict[str, JsonValue] | None:
    return None if dropped is None else dropped.model_dump(mode="json")


def _not_guarded(why: list[str]) -> StatehubError:
    return StatehubError(
        code="not-guarded",
        what="the disk of the primary was not guarded",
        hint="mend what is listed, then run `guard` again; until then look after the disk yourself (`observe` shows "
        "what the slot keeps)",
        details=tuple(why),
    )
