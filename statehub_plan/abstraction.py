"""(Plan document, observation) → the finite world, seen from the wish. Pure.

Everything that is not known becomes `unknown` here and nowhere else, and whether a fact may be believed (a stage under
a hold that is not ours, a proof under another term) is decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import JsonValue

from statehub_plan.model.base import SKEW, digest, epoch_s
from statehub_plan.model.facts import Evidence as ProbeEvidence
from statehub_plan.model.facts import EvidenceStatus, FactStatus, Observation
from statehub_plan.model.plan import Identity
from statehub_plan.model.record import drill_outdated
from statehub_plan.model.spec import CutoverPlan, FailoverDrill, Stabilization, duration_s
from statehub_plan.registers import (
    Register,
    decisions_of,
    endpoints_by_role,
    fence_term,
    frozen_by_a_hold,
    identity_of,
    mapping_of,
    number_of,
    observed_decision,
    read_register,
)
from statehub_plan.streams import stream_between
from statehub_plan.world import (
    Access,
    Data,
    Due,
    Evidence,
    Follows,
    Health,
    Reach,
    Role,
    Side,
    Stable,
    Term,
    TransferStage,
    World,
    Writes,
    prepared_by_stream,
)

BEGUN = "begun"
"""State of a failover drill whose outcome is not on record: under way, or interrupted."""


@dataclass(frozen=True, slots=True)
class Grounded:
    """The world as seen from the wish, and what it stands on."""

    world: World
    old: str
    new: str
    register: Register
    redirect_due: bool = False
    """An interrupted redirect is on record: paths may be half changed where their files say nothing of it."""

    @property
    def term(self) -> int:
        """The term that a plan made now would take: a pending one is continued, else the first free one."""
        return self.register.next_term


def _writes(observation: Observation, endpoint: str, hold: str | None) -> Writes:
    value = observation.value(f"{endpoint}.writes")
    if value == "held":
        holder = mapping_of(observation, f"{endpoint}.fence").get("hold")
        return Writes.HELD if hold is not None and holder == hold else Writes.UNKNOWN
    return {"open": Writes.OPEN, "frozen": Writes.FROZEN}.get(str(value), Writes.UNKNOWN)


def _health(observation: Observation, endpoint: str) -> Health:
    healthy = mapping_of(observation, f"{endpoint}.api.health").get("healthy")
    return {True: Health.OK, False: Health.FAILING}.get(healthy, Health.UNKNOWN)  # type: ignore[call-overload, no-any-return]


def _reach(observation: Observation, endpoint: str) -> Reach:
    return Reach.REACHABLE if observation.value(f"{endpoint}.reach") == "reachable" else Reach.UNREACHABLE


def _stage(reached: TransferStage, new: Side) -> TransferStage:
    """A side that a stream keeps current is prepared for whatever term comes next; one whose stream is lost is not,
    whatever its record says."""
    if reached in (TransferStage.NONE, TransferStage.PREPARED) and prepared_by_stream(new):
        return TransferStage.PREPARED
    return TransferStage.NONE if new.follows is Follows.LOST and reached is TransferStage.PREPARED else reached


def _reached(plan: CutoverPlan, observation: Observation, register: Register, hold: str | None) -> TransferStage:
    """How far the transfer has come, if its record may be believed: same source, same term, target still fenced, and
    beyond `prepared` only under the hold or freeze under which it was reached."""
    old, new = endpoints_by_role(plan)
    row = mapping_of(observation, f"{new}.transfer")
    fence = mapping_of(observation, f"{old}.fence")
    stage = row.get("stage")
    believable = (
        stage in set(TransferStage)
        and row.get("term") == register.next_term
        and row.get("source") == identity_of(observation, old).system_identifier
        and observation.value(f"{new}.writes") == "frozen"
    )
    if not believable:
        return TransferStage.NONE
    if stage in (TransferStage.NONE, TransferStage.PREPARED):
        return TransferStage(str(stage))
    under_hold = _writes(observation, old, hold) is Writes.HELD and row.get("hold") == hold
    frozen_since = (
        observation.value(f"{old}.writes") == "frozen"
        and fence.get("term") == row.get("term")
        and fence.get("hold") == row.get("hold")
    )
    return TransferStage(str(stage)) if under_hold or frozen_since else TransferStage.NONE


def _data(observation: Observation, endpoint: str, register: Register, stage: TransferStage) -> Data:
    """Content of one side relative to the primary."""
    if register.primary == endpoint:
        return Data.EQUAL
    tables = observation.get(f"{endpoint}.tables")
    if tables is None or tables.status is FactStatus.UNKNOWN:
        return Data.UNKNOWN
    if not number_of(tables.value):
        return Data.ABSENT
    if stage is TransferStage.PROVED:
        return Data.EQUAL
    fenced = fence_term(observation, endpoint)
    primary_frozen = (
        register.primary is not None
        and observation.value(f"{register.primary}.writes") == "frozen"
        and fenced == register.decided != 0
        and frozen_by_a_hold(observation, endpoint)
    )
    if primary_frozen:
        return Data.EQUAL
    # A source keeps the name of its hold, a target what was transferred into it for a later term. Frozen without
    # either: it was open when it should not have been, and may hold rows of its own.
    transferred = mapping_of(observation, f"{endpoint}.transfer").get("term") is not None
    kept_in_order = frozen_by_a_hold(observation, endpoint) or (fenced > register.decided and transferred)
    in_order = kept_in_order and observation.value(f"{endpoint}.writes") == "frozen"
    return Data.STALE if in_order else Data.DIVERGED


def _term(observation: Observation, register: Register) -> Term:
    if register.primary is None:
        return Term.UNKNOWN
    fenced = fence_term(observation, register.primary)
    frozen = observation.value(f"{register.primary}.writes") == "frozen"
    if not frozen or fenced <= register.decided:
        return Term.SETTLED
    return Term.BURNED if fenced in register.burned else Term.PENDING


def _access(plan: CutoverPlan, observation: Observation, primary: Role, *, redirecting: bool) -> Access:
    """Where clients are pointed. One path that nobody can read makes that unknown, unless another is known to keep
    clients away from a primary that was decided: those can be taken along, and `new` is never said of the rest. Nor
    is it where a redirect was interrupted, which is done again as soon as a primary was decided, unless the caller is
    `redirecting` just now."""
    old, new = endpoints_by_role(plan)
    if not plan.spec.access:
        return Access.NEW if primary is Role.NEW else Access.OLD
    pointed = [mapping_of(observation, f"access.{path.name}").get("endpoint") for path in plan.spec.access]
    if any(name not in (old, new) for name in pointed):
        return Access.SPLIT if primary is Role.NEW and old in pointed else Access.UNKNOWN
    if len(set(pointed)) > 1:
        return Access.SPLIT
    if pointed[0] == old:
        return Access.OLD
    again = primary is Role.NEW and not redirecting and redirect_is_due(plan, observation)
    return Access.SPLIT if again else Access.NEW


def redirect_is_due(plan: CutoverPlan, observation: Observation) -> bool:
    """Whether the journal knows of a redirect that did not come to a good end, whatever the paths' files say; or of a
    switch of which nothing more is on record, if the decision that stands is its own."""
    left = mapping_of(observation, "redirect")
    if left.get("interrupted") is not True or left.get("if_decided") is not True:
        return left.get("interrupted") is True
    decision = observed_decision(plan, observation)
    return decision is not None and decision.run == left.get("run")


def _evidence(evidence: tuple[ProbeEvidence, ...], recorded: bool) -> Evidence:
    if any(one.status is EvidenceStatus.FAILED for one in evidence):
        return Evidence.INCOMPLETE
    if any(one.status is EvidenceStatus.UNKNOWN for one in evidence):
        return Evidence.UNKNOWN
    return Evidence.RECORDED if recorded or not evidence else Evidence.COMPLETE


def _backup(plan: CutoverPlan, observation: Observation, primary: str | None, now: datetime) -> Due:
    """A backup counts when it is whole, young enough, of the database that is primary now, and signed where it is to
    be."""
    fact = observation.get("backup")
    if fact is None or fact.status is FactStatus.UNKNOWN or primary is None:
        return Due.UNKNOWN
    if not isinstance(fact.value, dict):
        return Due.DUE
    fresh = _fresh(fact.value.get("taken_at"), plan.spec.backup.max_age, now)
    same = _is_identity(fact.value, identity_of(observation, primary))
    sound = fact.value.get("checksum_ok") is True and fact.value.get("signature_missing") is not True
    return Due.DONE if fresh and same and sound else Due.DUE


def _fresh(at: JsonValue, max_age: str, now: datetime) -> bool:
    """Not too long ago, and not in the future either: by a clock that was wrong it would stay fresh until then."""
    return -SKEW.total_seconds() <= epoch_s(now) - number_of(at) <= duration_s(max_age)


def of_database(value: JsonValue | Mapping[str, JsonValue], identity: Identity) -> bool:
    """Whether a record's `identity` is this one; so is any where this one is not known. A record of an earlier release
    has none: it says nothing about a database that is known."""
    return not identity.known or (isinstance(value, Mapping) and _is_identity(value.get("identity"), identity))


def _is_identity(value: JsonValue | Mapping[str, JsonValue], identity: Identity) -> bool:
    """Whether these are all three parts of an identity that is known."""
    parts = identity.model_dump(mode="json")
    return identity.known and isinstance(value, Mapping) and parts == {part: value.get(part) for part in parts}


def _drill(observation: Observation, name: str, max_age: str, now: datetime) -> Due:
    value = mapping_of(observation, f"drill.{name}")
    if value.get("passed") is not True:
        return Due.FAILED
    return Due.DONE if _fresh(value.get("at"), max_age, now) else Due.DUE


def _restore_drill(plan: CutoverPlan, observation: Observation, register: Register, now: datetime) -> Due:
    """It counts for the database that is primary now, and a backup of it that was no older than backups may be, was
    taken since it is primary (or is the newest one), encrypted as the newest one is, and not restored on the very
    fallback whose loss the drill is to make bearable. One that could not be signed has yet to be made, as has one by an
    earlier release, which compared less."""
    settings, primary = plan.spec.drills.restore, register.primary
    value, newest = mapping_of(observation, "drill.restore"), mapping_of(observation, "backup")
    report = value.get("report")
    if settings is None or primary is None or not isinstance(report, dict):
        return Due.DUE
    identity = identity_of(observation, primary)
    taken, drilled = (_seconds(report.get(name)) for name in ("taken_at", "drilled_at"))
    is_newest = report.get("manifest_digest") == newest.get("manifest_digest") is not None
    counts = (
        _is_identity(report.get("identity"), identity)
        and _is_identity(newest, identity)
        and (is_newest or taken >= _decided_s(observation, register))
        and taken > 0
        and -SKEW.total_seconds() <= drilled - taken <= duration_s(plan.spec.backup.max_age)
        and report.get("encrypted") == newest.get("encrypted") is not None
        and _restored_elsewhere(plan, observation, primary, value)
        and value.get("state") != "unsigned"
        and not drill_outdated(value)
    )
    return _drill(observation, "restore", settings.max_age, now) if counts else Due.DUE


def _seconds(value: JsonValue) -> int:
    """An instant of a report that came through the journal; 0, which is long ago, where it is none."""
    try:
        return epoch_s(datetime.fromisoformat(str(value)))
    except ValueError:
        return 0


def _decided_s(observation: Observation, register: Register) -> int:
    """When the present primary was decided on; 0 before any decision."""
    rows = decisions_of(observation, register.primary or "") or []
    return max((number_of(row.get("decided_at")) for row in rows if row.get("term") == register.decided), default=0)


def _restored_elsewhere(
    plan: CutoverPlan, observation: Observation, primary: str, value: Mapping[str, JsonValue]
) -> bool:
    """Not on the fallback: by the endpoint's name and by the cluster (which says nothing where both endpoints are in
    one). Before the move there is no fallback yet."""
    old, new = endpoints_by_role(plan)
    where, report = value.get("restored_on"), value.get("report")
    server = report.get("restored_on") if isinstance(report, dict) else None
    cluster = server.get("system_identifier") if isinstance(server, dict) else None
    if where not in (old, new) or cluster is None:
        return False
    fallback, own = identity_of(observation, old), identity_of(observation, primary)
    apart = cluster == own.system_identifier or (fallback.known and cluster != fallback.system_identifier)
    return primary == old or (where != old and apart)


def _failover_drill(observation: Observation, drill: FailoverDrill | None, now: datetime, primary: str | None) -> Due:
    """It counts for the endpoint that failed over, the database that this was (a failover keeps its identity), and for
    what the plan has people do and look at now. One that was only begun does not count, nor does any before it."""
    value = mapping_of(observation, "drill.failover")
    shown = (value.get("endpoint"), value.get("definition"))
    if drill is None or primary is None or shown != (primary, drill.definition):
        return Due.DUE
    if not of_database(value, identity_of(observation, primary)) or value.get("state") == BEGUN:
        return Due.DUE
    return _drill(observation, "failover", drill.max_age, now)


def watched_s(wanted: Stabilization) -> int:
    """For how many seconds a new primary has to be observed."""
    return round(duration_s(wanted.duration))


def stabilization_for(
    wanted: Stabilization, value: JsonValue, decided: int, primary: Identity
) -> Mapping[str, JsonValue]:
    """Of the fact `stabilization`, what speaks for a plan that wants this much under the decision `decided`, for the
    database `primary` where that is known: a look that ended as long a watch with as few failures, else the newest one.
    Nothing where that one passed for less, as another lane may have it: for this plan nobody has watched yet."""
    looks = looks_at(value, decided, primary)
    for look in looks:
        if _passes(wanted, look):
            return look
    return {} if not looks or looks[0].get("state") == "passed" else looks[0]


def looks_at(value: JsonValue, decided: int, primary: Identity) -> list[Mapping[str, JsonValue]]:
    """The looks in the fact `stabilization` that were at this database under this decision, newest first."""
    newest = value if isinstance(value, dict) else {}
    earlier = newest.get("earlier")
    looks = (newest, *(earlier if isinstance(earlier, list) else ()))
    return [
        look for look in looks if isinstance(look, dict) and look.get("term") == decided and of_database(look, primary)
    ]


def _passes(wanted: Stabilization, look: Mapping[str, JsonValue]) -> bool:
    observed_s, failures = look.get("observed_s"), look.get("failures")
    known = isinstance(observed_s, int) and isinstance(failures, int)
    enough = known and number_of(observed_s) >= watched_s(wanted) and number_of(failures) <= wanted.max_failures
    return look.get("state") == "passed" and enough


def _stabilization(plan: CutoverPlan, observation: Observation, register: Register) -> Stable:
    """Before any decision there is nothing to stabilize."""
    if register.decided == 0:
        return Stable.PASSED
    identity = Identity() if register.primary is None else identity_of(observation, register.primary)
    value = stabilization_for(plan.spec.stabilization, observation.value("stabilization"), register.decided, identity)
    states = {"running": Stable.RUNNING, "passed": Stable.PASSED, "failed": Stable.FAILED}
    return states.get(str(value.get("state")), Stable.NONE)


def _document(plan: CutoverPlan, observation: Observation, register: Register) -> Due:
    """A plan that wants none finds it due after every decision, as the model says of each; nobody asks for it then."""
    if register.decided == 0:
        return Due.DONE
    if plan.spec.operating_model is None:
        return Due.DUE
    recorded = mapping_of(observation, "document.recorded")
    identity = Identity() if register.primary is None else identity_of(observation, register.primary)
    written = recorded.get("term") == register.decided and of_database(recorded, identity)
    exists = mapping_of(observation, "document").get("exists") is True
    return Due.DONE if written and exists else Due.DUE


def _follows(observation: Observation, receiver: str, sender: str) -> Follows:
    return Follows(stream_between(observation, receiver, sender).state.value)


def compared_as(plan: CutoverPlan) -> str:
    """Digest of what a comparison under this plan looks at: a proof that looked at less is none for it."""
    wanted = plan.spec.compare
    waived = sorted(one.model_dump_json(by_alias=True) for one in wanted.waive)
    return digest({"content": wanted.content, "waive": waived})


def _rehearsal(plan: CutoverPlan, observation: Observation, register: Register, new: str, now: datetime) -> Due:
    """A rehearsal counts for one decision, one stream, the definitions that both sides had then, and a comparison that
    looked at what this plan wants looked at."""
    value = mapping_of(observation, "rehearsal")
    if not value or value.get("term") != register.next_term:
        return Due.DUE
    if value.get("passed") is not True:
        return Due.FAILED
    transfer = mapping_of(observation, f"{new}.transfer")
    stream = [transfer.get("fill_slot"), transfer.get("fill_point")]
    seen = {name: observation.value(f"{name}.definitions") for name in plan.spec.endpoints}
    fresh = _fresh(value.get("at"), plan.spec.transfer.rehearsal.max_age, now)
    same = (
        value.get("compared_as") == compared_as(plan)
        and [value.get("stream"), value.get("stream_point")] == stream
        and value.get("watermarks") == seen
    )
    return Due.DONE if fresh and same else Due.DUE


def ground(
    plan: CutoverPlan,
    observation: Observation,
    evidence: tuple[ProbeEvidence, ...],
    *,
    now: datetime,
    hold: str | None = None,
    evidence_recorded: bool = False,
    redirecting: bool = False,
) -> Grounded:
    """The finite world of `observation` as seen from the plan's wish. `hold` is the caller's own hold, if it has one;
    locks that anybody else holds make writability unknown. `redirecting`: the caller is redirecting clients, and knows
    better than the journal."""
    old, new = endpoints_by_role(plan)
    register = read_register(plan, observation)
    primary = {old: Role.OLD, new: Role.NEW}.get(register.primary or "", Role.UNKNOWN)
    reached = _reached(plan, observation, register, hold) if primary is Role.OLD else TransferStage.NONE
    sides = {
        name: Side(
            reach=_reach(observation, name),
            writes=_writes(observation, name, hold),
            data=_data(observation, name, register, reached),
            follows=_follows(observation, name, away),
            health=_health(observation, name),
        )
        for name, away in ((old, new), (new, old))
    }
    stage = _stage(reached, sides[new]) if primary is Role.OLD else TransferStage.NONE
    fallback = old if primary is Role.NEW else new
    world = World(
        old=sides[old],
        new=sides[new],
        primary=primary,
        term=_term(observation, register),
        transfer=stage,
        access=_access(plan, observation, primary, redirecting=redirecting),
        evidence=_evidence(evidence, evidence_recorded),
        backup=_backup(plan, observation, register.primary, now),
        restore_drill=_restore_drill(plan, observation, register, now),
        failover_drill=_failover_drill(observation, plan.spec.drills.failover, now, register.primary),
        rehearsal=_rehearsal(plan, observation, register, new, now),
        stabilization=_stabilization(plan, observation, register),
        document=_document(plan, observation, register),
        retired=mapping_of(observation, f"{fallback}.fence").get("retired") is True,
    )
    return Grounded(world, old, new, register, redirect_is_due(plan, observation))


def facts_age(observation: Observation, now: datetime) -> timedelta:
    """Age of the oldest fact."""
    return max((now - fact.observed_at for fact in observation), default=timedelta(0))
