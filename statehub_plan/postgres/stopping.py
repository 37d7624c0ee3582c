"""Taking a stream down: subscription, slot, what was recorded of it; whatever of them is still there."""

from __future__ import annotations

from typing import Literal

import psycopg

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.moments import Moment, passed_by
from statehub_plan.postgres import state
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.fill import FINISHED_PART
from statehub_plan.postgres.filling import forget_fill
from statehub_plan.postgres.replication import drop_publication, drop_subscription, stream_name
from statehub_plan.postgres.slots import drop_slot, drop_sync_slots
from statehub_plan.redact import redact

__all__ = ["Stopped", "stop_following"]


SlotLeft = Literal["dropped", "absent", "left"]


class Stopped(Frozen):
    """What `stop_following` came to. `slot`: dropped now, gone already, or left on a sender that is out of reach, where
    it keeps WAL until this is called again; `out_of_reach` says why."""

    stream: str
    subscription_dropped: bool
    slot: SlotLeft
    publication_dropped: bool
    out_of_reach: str | None


def stop_following(
    receiver_dsn: str,
    sender_dsn: str,
    *,
    epoch: int,
    subscriber_dsn: str | None = None,
    keep_publication: bool = True,
    slot_timeout_s: float = 10.0,
    moment: Moment = passed_by,
) -> Stopped:
    """The receiver follows the sender no more: no subscription, no slot, nothing recorded. Idempotent, in any order of
    deaths: what it needs to know is derived from the receiver's identity.

    `subscriber_dsn`: the receiver for a role that owns the subscription. A publication may serve the other receivers,
    or be needed again; it goes only if `keep_publication` is false. The rows on the receiver stay as they are. Works
    while the sender is out of reach: then its slot is left, and said to be. StatehubError `slot-in-use`.
    """
    with (
        connect(receiver_dsn, purpose="stop following") as receiver,
        connect(subscriber_dsn or receiver_dsn, purpose="stop following") as subscriber,
    ):
        name = stream_name(state.identity(receiver))
        with receiver.transaction():  # keeps other runs out while the subscriber's own session works
            state.claim_epoch(receiver, epoch)
            state.spoil_transfer(receiver)  # without its stream it falls behind, and nothing may go on from there
            dropped = drop_subscription(subscriber, name)
        moment("unsubscribed")
        try:
            slot, publication = _at_the_sender(sender_dsn, receiver, name, epoch, keep_publication, slot_timeout_s)
            problem = None
        except _OutOfReach as unreachable:
            slot, publication, problem = "left", False, str(unreachable)
        moment("slot-dropped")
        with receiver.transaction():
            state.claim_epoch(receiver, epoch)
            forget_fill(receiver)
    return Stopped(
        stream=name,
        subscription_dropped=dropped,
        slot=slot,
        publication_dropped=publication,
        out_of_reach=problem,
    )


class _OutOfReach(Exception):
    """Nobody answers there, or has ceased to; never leaves this module."""


def _at_the_sender(
    dsn: str, receiver: Connection, name: str, epoch: int, keep_publication: bool, timeout_s: float
) -> tuple[SlotLeft, bool]:
    try:
        sender = connect(dsn, purpose="stop following")
    except StatehubError as error:
        raise _OutOfReach(error.what) from error
    with sender:
        try:
            slot: SlotLeft = "dropped" if drop_slot(sender, name, timeout_s=timeout_s) else "absent"
            drop_sync_slots(sender, receiver)
            return slot, _drop_publications(sender, epoch, keep_publication)
        except psycopg.OperationalError as error:
            if sender.closed:
                raise _OutOfReach(redact(" ".join(str(error).split()))) from error
            raise


def _drop_publications(sender: Connection, epoch: int, keep: bool) -> bool:
    with sender.transaction():
        if state.is_installed(sender):
            state.claim_epoch(sender, epoch)
        drop_publication(sender, publication=FINISHED_PART)
        return False if keep else drop_publication(sender)
