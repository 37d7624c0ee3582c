"""Checks of what the databases hold already, and of what else writes into them."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.preflight import Severity
from statehub_plan.model.stream import OWN_STREAMS
from statehub_plan.postgres.checks.declare import Look, Move, Place, Probe, Query, Seen, check, ident
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.contents import described, user_objects
from statehub_plan.postgres.proof import fence_status
from statehub_plan.postgres.register import read_decisions
from statehub_plan.postgres.state import read_state

__all__ = ["left_by_undecided_transfer"]

_SUBSCRIPTIONS = Query(
    "SELECT s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
    f"WHERE d.datname = current_database() AND s.subname !~ '{OWN_STREAMS}' ORDER BY 1"
)


def left_by_undecided_transfer(target: Connection) -> bool:
    """Whether everything in this database came from a transfer whose decision never fell, and nobody could write here
    since: then it is nobody's only copy, and may go without being asked for."""
    current = read_state(target)
    if current is None or current.copied or current.transfer is None or current.transfer.term is None:
        return False
    term = current.transfer.term
    decided = any(each.primary is not None and each.term >= term for each in read_decisions(target))
    return not decided and (current.opened_term or 0) < term and fence_status(target).complete


def kept_since_its_freeze(target: Connection) -> bool:
    """Whether this database was primary until a hold froze it, and nobody could write here since: the primary after it
    began with every row of it, so it is replaced, once it is dumped, without being asked for."""
    current = read_state(target)
    if current is None or current.copied or current.fence is None or current.fence.hold is None:
        return False
    opened = (current.opened_term or 0) >= current.fence.term
    return current.fence.term > 0 and not opened and fence_status(target).complete


def _content(target: Connection, move: Move) -> str:
    goes = move.replace or left_by_undecided_transfer(target) or (move.replaces_kept and kept_since_its_freeze(target))
    objects = () if goes else user_objects(target)
    return "; ".join(described(objects)) if objects else ""


def _copied_state(connection: Connection, _: Move) -> bool:
    state = read_state(connection)
    return state is not None and state.copied


_CONTENT = Probe(_content)
_COPIED_STATE = Probe(_copied_state)


@check(
    "target-not-empty",
    Severity.ERROR,
    Place.TARGET,
    title="the target is empty, or may be replaced",
    reason="what is there already may be somebody's only copy",
    here=(_CONTENT,),
)
def _not_empty(look: Look) -> Iterator[Seen]:
    content = look.here.probed(_CONTENT)
    if content:
        yield Seen(
            f"the target is not empty: {content}",
            "take an empty database, or set transfer.targetContent: replace (it is dumped, then dropped)",
        )


@check(
    "target-subscribes",
    Severity.ERROR,
    Place.TARGET,
    title="the target subscribes to nobody else",
    reason="something else writes into it, past every fence, while it is filled and compared",
    here=(_SUBSCRIPTIONS,),
)
def _target_subscribes(look: Look) -> Iterator[Seen]:
    yield from _subscribing(look, "the target has subscriptions: something else writes into it")


@check(
    "source-subscribes",
    Severity.ERROR,
    Place.SOURCE,
    title="the source subscribes to nobody",
    reason="apply workers pass fence triggers: a frozen source goes on changing, and what arrives then is lost",
    here=(_SUBSCRIPTIONS,),
)
def _source_subscribes(look: Look) -> Iterator[Seen]:
    yield from _subscribing(look, "the source has subscriptions: what they apply passes the fence")


def _subscribing(look: Look, what: str) -> Iterator[Seen]:
    for (name,) in look.here.rows(_SUBSCRIPTIONS):
        yield Seen(f"{what} ({name})", f"DROP SUBSCRIPTION {ident(name)}", name)


@check(
    "state-copied",
    Severity.ERROR,
    Place.EACH,
    title="the tool's own state was written in this database",
    reason="a dump or a template brought another database's decisions along: nothing that it says is true here",
    here=(_COPIED_STATE,),
)
def _state_copied(look: Look) -> Iterator[Seen]:
    if look.here.probed(_COPIED_STATE):
        yield Seen(
            f"the schema statehub_plan of the {look.side} was written in another database and came with a copy of it",
            "DROP SCHEMA statehub_plan CASCADE",
        )
