"""Both sides' facts about one stream put together: does the receiver follow, how far behind, can it catch up. Pure.

A slot is on the sender's cluster, the subscription in the receiver's database; neither side alone knows whether the
way back is lossless. What is not known is never taken for fine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from statehub_plan.model.facts import FactStatus, Observation
from statehub_plan.model.plan import Identity
from statehub_plan.model.stream import IdleSlot, Orphan, Stream, StreamState, stream_name

_FILLING = {"filling": "its rows are being copied", "building": "its indexes are being built"}
FILLING = frozenset(_FILLING)
"""Stages of a fill that comes before the subscription."""

SLOT_DROPPED = "slot_dropped"
"""`ENDPOINT.slot_dropped` is the journal's fact about the newest slot that the guard dropped there."""

SLOT_DROPPED_KIND = "slot-dropped"
"""Kind of the record that it rests on; its state is `begun` before, `passed` after, `failed` where nothing was dropped.
"""

ORPHAN_DROPPED_KIND = "orphan-slot-dropped"
"""The same of a slot that belonged to no stream; it is not why the stream into the fallback is lost."""
_REFRESH = "; `refresh` takes in what both sides have"

_Row = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class _Ends:
    """What is known of a stream's two ends; `slot` and `subscription` are None where there is none."""

    observation: Observation
    receiver: str
    sender: str
    name: str
    slot: _Row | None
    subscription: _Row | None
    fill_stage: str | None
    fill_timeline: int | None

    def stream(self, state: StreamState, why: str, *, lossless: bool = False, since: int | None = None) -> Stream:
        """The stream in this state, with the slot's figures."""
        slot = self.slot or {}
        doubts = tuple(self._doubts()) if lossless else ()
        if doubts:
            lossless = False
            why = "; ".join(doubts if state in (StreamState.READY, StreamState.STREAMING) else (why, *doubts))
        return Stream(
            state=state,
            why=why,
            slot=None if self.slot is None else self.name,
            lag_bytes=_size(slot.get("lag_bytes")),
            retained_bytes=_size(slot.get("retained_bytes")),
            disk_free_bytes=_size(self.observation.value(f"{self.sender}.disk_free_bytes")),
            lossless=lossless,
            since=since,
        )

    def _doubts(self) -> Iterator[str]:
        """What makes rows go missing without anything that fails."""
        sender, receiver = self.sender, self.receiver
        unpublished = _names(self.observation.value(f"{sender}.unpublished"))
        if unpublished:
            tables, are = ("1 table", "is") if len(unpublished) == 1 else (f"{len(unpublished)} tables", "are")
            yield f"{tables} of {sender} {are} not in the stream: {', '.join(unpublished[:5])}{_REFRESH}"
        taken = None if self.subscription is None else self.subscription.get("subscribed")
        if isinstance(taken, list):
            left = sorted(set(_names(self.observation.value(f"{sender}.published"))) - set(_names(taken)))
            if left:
                tables, are = ("1 table", "is") if len(left) == 1 else (f"{len(left)} tables", "are")
                yield (
                    f"{tables} that {sender} publishes {are} not subscribed by {receiver}: "
                    f"{', '.join(left[:5])}{_REFRESH}"
                )
        if self.fill_timeline is not None:
            yield from self._failed_over(self.fill_timeline)

    def _failed_over(self, began: int) -> Iterator[str]:
        """A promoted standby of the receiver may lack what was confirmed to the sender, which never sends it again."""
        fact_id = f"{self.receiver}.timeline"
        now = self.observation.value(fact_id)
        if not isinstance(now, int):
            unseen = _unseen(self.observation, fact_id) or "it is a standby now"
            yield f"whether {self.receiver} has failed over since the stream began is not known: {unseen}"
        elif now != began:
            yield (
                f"{self.receiver} has failed over since the stream began (timeline {began}, now {now}): rows may be "
                "missing without an error; rehearse, or make it anew"
            )


def following(observation: Observation, receiver: str, sender: str) -> dict[str, JsonValue]:
    """`stream_between` as plain JSON."""
    plain: dict[str, JsonValue] = stream_between(observation, receiver, sender).model_dump(mode="json")
    return plain


def stream_between(observation: Observation, receiver: str, sender: str) -> Stream:
    """Where the stream from `sender` into `receiver` (names of endpoints) stands, by the facts of both."""
    ends = _ends(observation, receiver, sender)
    if isinstance(ends, str):
        return _dropped_unseen(observation, sender, ends) or Stream(state=StreamState.BROKEN, why=ends, observed=False)
    return _before_subscription(ends) if ends.subscription is None else _subscribed(ends, ends.subscription)


def fill_under_way(observation: Observation, receiver: str) -> bool:
    """Whether a side was being filled online and does not follow yet, as far as can be seen."""
    transfer = observation.value(f"{receiver}.transfer")
    return isinstance(transfer, dict) and transfer.get("fill_stage") in FILLING


def orphans(observation: Observation, endpoints: tuple[str, str]) -> tuple[Orphan, ...]:
    """Slots of the tool's in both endpoints' databases that nobody reads and nobody is going to, sorted. What cannot be
    seen makes no slot an orphan; `stream_between` says that it cannot."""
    return tuple(
        Orphan(endpoint=one.endpoint, name=one.name, retained_bytes=one.retained_bytes)
        for one in idle_slots(observation, endpoints)
        if one.orphan
    )


def idle_slots(observation: Observation, endpoints: tuple[str, str]) -> tuple[IdleSlot, ...]:
    """Slots of the tool's in both endpoints' databases that nobody reads now, sorted."""
    found = []
    for sender, receiver in (endpoints, endpoints[::-1]):
        ends = _ends(observation, receiver, sender)
        used = isinstance(ends, str) or ends.subscription is not None or ends.fill_stage in FILLING
        database = _identity(observation, sender).database
        for row in _rows(observation.value(f"{sender}.slots")):
            if row.get("ours") is not True or row.get("active") is True or row.get("database") != database:
                continue
            own = isinstance(ends, str) or row.get("name") == ends.name
            name, retained = str(row.get("name")), _size(row.get("retained_bytes"))
            found.append(IdleSlot(endpoint=sender, name=name, retained_bytes=retained, orphan=not (used and own)))
    return tuple(sorted(found, key=lambda one: (one.endpoint, one.name)))


def slots_into_others(observation: Observation, sender: str) -> tuple[str, ...]:
    """Names of the tool's slots in the sender's own database, sorted: on a primary that has moved, of the stream into
    its fallback, and of what nobody is going to read."""
    database = _identity(observation, sender).database
    rows = _rows(observation.value(f"{sender}.slots"))
    return tuple(
        sorted(str(row.get("name")) for row in rows if row.get("ours") is True and row.get("database") == database)
    )


def _expected_name(observation: Observation, receiver: str) -> str | None:
    identity = _identity(observation, receiver)
    return stream_name(identity) if identity.known else None


def _ends(observation: Observation, receiver: str, sender: str) -> _Ends | str:
    """Both ends, or why they are not known."""
    for fact_id in (f"{receiver}.identity", f"{receiver}.subscriptions", f"{receiver}.transfer", f"{sender}.slots"):
        unseen = _unseen(observation, fact_id)
        if unseen is not None:
            return unseen
    name = _expected_name(observation, receiver)
    if name is None:
        return f"{receiver} is not identified"
    transfer = observation.value(f"{receiver}.transfer")
    fill: _Row = transfer if isinstance(transfer, dict) else {}
    stage, timeline = fill.get("fill_stage"), fill.get("fill_timeline")
    return _Ends(
        observation=observation,
        receiver=receiver,
        sender=sender,
        name=name,
        slot=_slot(observation, sender, name),
        subscription=_named(observation.value(f"{receiver}.subscriptions"), name),
        fill_stage=stage if isinstance(stage, str) else None,
        fill_timeline=timeline if isinstance(timeline, int) else None,
    )


def _before_subscription(ends: _Ends) -> Stream:
    lost = None if ends.slot is None else _why_lost(ends.slot)
    if ends.fill_stage in FILLING:
        if ends.slot is None:  # it was made before the fill was begun
            why, since = _dropped(ends) or (f"while it is filled, its slot is no longer on {ends.sender}", None)
            return ends.stream(StreamState.LOST, why, since=since)
        if lost is not None:
            return ends.stream(StreamState.LOST, f"while it is filled, {lost}", since=_inactive_since(ends.slot))
        return ends.stream(StreamState.COPYING, _FILLING[str(ends.fill_stage)])
    if ends.slot is not None:
        why = "its slot is there, and neither a subscription nor a fill under way"
        return ends.stream(StreamState.LOST, why, since=_inactive_since(ends.slot))
    why, since = _dropped(ends) or ("no subscription, no slot", None)
    return ends.stream(StreamState.NOBODY, why, since=since)


def _subscribed(ends: _Ends, subscription: _Row) -> Stream:
    slot = ends.slot
    if slot is None:
        why, since = _dropped(ends) or (f"its slot is no longer on {ends.sender}", _last_seen(subscription))
        return ends.stream(StreamState.LOST, why, since=since)
    lost = _why_lost(slot)
    if lost is not None:
        return ends.stream(StreamState.LOST, lost, since=_inactive_since(slot) or _last_seen(subscription))
    if subscription.get("slot") != ends.name:
        return _broken(ends, subscription, "its subscription is not bound to its slot")
    if subscription.get("enabled") is not True:
        return ends.stream(StreamState.READY, "set up, not started", lossless=True)
    if subscription.get("tables_ready") != subscription.get("tables"):
        ready = f"{subscription.get('tables_ready')} of {subscription.get('tables')} tables are past their first copy"
        return ends.stream(StreamState.COPYING, ready)
    if subscription.get("running") is True and slot.get("active") is True:
        return ends.stream(StreamState.STREAMING, "its worker runs and its slot is read", lossless=True)
    return _broken(ends, subscription, _why_broken(subscription, slot))


def _broken(ends: _Ends, subscription: _Row, why: str) -> Stream:
    """Not streaming, and everything that it misses is still there."""
    since = _inactive_since(ends.slot) or _last_seen(subscription)
    return ends.stream(StreamState.BROKEN, why, lossless=True, since=since)


def _why_broken(subscription: _Row, slot: _Row) -> str:
    worker = "runs" if subscription.get("running") is True else "does not run"
    read = "is read" if slot.get("active") is True else "is not read"
    errors = subscription.get("errors")
    failed = (
        f"; {errors} failed applies, its server's log says of which row, `refresh` for want of which DDL"
        if isinstance(errors, int) and errors
        else ""
    )
    return f"its worker {worker} and its slot {read}{failed}"


def _why_lost(slot: _Row) -> str | None:
    if (
        slot.get("wal_status") != "lost"
        and slot.get("invalidation_reason") is None
        and slot.get("conflicting") is not True
    ):
        return None
    reason = slot.get("invalidation_reason")
    return f"the server no longer keeps what its slot needs ({reason or 'wal_status lost'})"


def _dropped_unseen(observation: Observation, sender: str, unseen: str) -> Stream | None:
    """Whatever is the matter with a receiver that is away: where the journal knows that the guard dropped the slot of
    the stream into it, and the sender has none of the tool's, that stream is lost."""
    value = observation.value(f"{sender}.{SLOT_DROPPED}")
    if not isinstance(value, dict) or _unseen(observation, f"{sender}.slots") or slots_into_others(observation, sender):
        return None
    why = f"its slot was dropped: {value.get('why')}; {unseen}"
    return Stream(state=StreamState.LOST, why=why, since=_size(value.get("at")))


def _dropped(ends: _Ends) -> tuple[str, int | None] | None:
    """Why the guard dropped this very slot and when, if the journal says so."""
    value = ends.observation.value(f"{ends.sender}.{SLOT_DROPPED}")
    if not isinstance(value, dict) or value.get("slot") != ends.name:
        return None
    return f"its slot was dropped: {value.get('why')}", _size(value.get("at"))


def _slot(observation: Observation, sender: str, name: str) -> _Row | None:
    """The slot, if it is one of this very database: names are unique in a cluster, not in the world."""
    row = _named(observation.value(f"{sender}.slots"), name)
    database = _identity(observation, sender).database
    return None if row is None or database not in (None, row.get("database")) else row


def _unseen(observation: Observation, fact_id: str) -> str | None:
    fact = observation.get(fact_id)
    if fact is None:
        return f"nobody looked at {fact_id}"
    return f"{fact_id} could not be observed: {fact.reason}" if fact.status is FactStatus.UNKNOWN else None


def _identity(observation: Observation, endpoint: str) -> Identity:
    value = observation.value(f"{endpoint}.identity")
    return Identity.model_validate(value) if isinstance(value, dict) else Identity()


def _rows(value: JsonValue) -> Iterator[_Row]:
    yield from (row for row in (value if isinstance(value, list) else ()) if isinstance(row, dict))


def _named(value: JsonValue, name: str) -> _Row | None:
    return next((row for row in _rows(value) if row.get("name") == name), None)


def _names(value: JsonValue) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _inactive_since(slot: _Row | None) -> int | None:
    return None if slot is None else _size(slot.get("inactive_since"))


def _last_seen(subscription: _Row) -> int | None:
    return _size(subscription.get("last_received"))


def _size(value: JsonValue) -> int | None:
    """A number that is none below zero: a slot that was just read may be a little ahead."""
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else None
