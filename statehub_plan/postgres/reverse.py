"""The stream back: made before the primary moves, so that the old side can follow the new one from its first write on.

On the side that is to become primary: a publication and a slot. On the present primary: a disabled subscription whose
relations are known and whose origin is moved, under the hold, to the point from which the new primary's own writes
begin. The origin is part of the old side's log, so no crash of the new one sets it back, as it would its slot.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.moments import Moment, passed_by
from statehub_plan.postgres.connect import connect, user_tables
from statehub_plan.postgres.filling import begin_fill, mark_following
from statehub_plan.postgres.replication import (
    create_subscription,
    drop_subscription,
    publish,
    read_subscription,
    stream_name,
)
from statehub_plan.postgres.slots import create_slot, drop_slot
from statehub_plan.postgres.state import claim_epoch, identity

__all__ = ["ReverseEnds", "ReversePrepared", "prepare_reverse"]


@dataclass(frozen=True, slots=True)
class ReverseEnds:
    """How the stream back is reached. `receiver_dsn`: the present primary, as the tool's role; `subscriber_dsn`: the
    same database as a role that may subscribe there; `sender_dsn`: the side that is to become primary;
    `publisher`: that side as the *receiver's server* reaches it."""

    receiver_dsn: str
    subscriber_dsn: str
    sender_dsn: str
    publisher: str


class ReversePrepared(Frozen):
    """What `prepare_reverse` came to. Whatever the sender commits from `consistent_point` on is kept by the slot."""

    stream: str
    consistent_point: str
    tables: int


def prepare_reverse(
    ends: ReverseEnds, *, epoch: int, timeout_s: float = 120.0, moment: Moment = passed_by
) -> ReversePrepared:
    """Publication, slot and disabled subscription of the stream back, made anew. Writers wait for nothing.

    Begins by removing what an earlier attempt left, so it can be repeated after a kill at any point. The slot waits for
    the sender's running transactions, of whichever database, for `timeout_s`: mostly those of the apply worker.
    StatehubError `slot-not-created`, which names them, or `subscription-refused` with the statement that helps.
    """
    with (
        connect(ends.receiver_dsn, purpose="reverse") as receiver,
        connect(ends.sender_dsn, purpose="reverse") as sender,
    ):
        for one in (receiver, sender):
            with one.transaction():
                claim_epoch(one, epoch)
        name = stream_name(identity(receiver))
        with connect(ends.subscriber_dsn, purpose="reverse") as subscriber:
            drop_subscription(subscriber, name)
            drop_slot(sender, name)
            publish(sender, user_tables(sender))
            slot = create_slot(ends.sender_dsn, name, timeout_s=timeout_s)
            slot.close()
            moment("slot-made")
            # Recorded first: a subscription that is there counts as prepared, and what carries a stream on, or proves
            # it, asks for the record of its beginning.
            with receiver.transaction():
                claim_epoch(receiver, epoch)
                begin_fill(receiver, slot=name, point=slot.consistent_point)
                mark_following(receiver)
            moment("recorded")
            create_subscription(subscriber, name=name, publisher=ends.publisher, slot=name, enabled=False)
            moment("subscribed")
            made = read_subscription(subscriber, name)
        if made is None:
            raise StatehubError(
                code="subscription-gone",
                what=f"the subscription {name} was there and is gone again",
                hint="find out who drops subscriptions on that server, then run again",
            )
    return ReversePrepared(stream=name, consistent_point=slot.consistent_point, tables=made.tables)


def forget_reverse_slot_lag(sender_dsn: str, name: str) -> None:
    """Moves the slot up to now, so that little is left to decode later. Costs what has been written since; a slot that
    is being read, or gone, is left alone."""
    with connect(sender_dsn, purpose="advance") as sender:
        try:
            sender.execute(
                "SELECT pg_replication_slot_advance(slot_name, pg_current_wal_insert_lsn()) FROM pg_replication_slots "
                "WHERE slot_name = %s AND NOT active AND restart_lsn IS NOT NULL",
                [name],
            )
        except psycopg.errors.ObjectInUse:
            return
