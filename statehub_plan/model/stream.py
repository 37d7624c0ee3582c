"""What a stream from one database into another is called, and where one stands."""

from __future__ import annotations

from enum import StrEnum

from statehub_plan.model.base import Frozen
from statehub_plan.model.plan import Identity

OWN_STREAMS = "^statehub_plan_[0-9]+_[0-9]+$"
"""What the tool's slots and subscriptions are called: a regular expression, the server's and Python's. A user's own may
begin like them."""


class StreamState(StrEnum):
    """`ready`: set up and not started. `broken`: it does not stream and could go on. `lost`: what it missed is gone
    from the sender, so it can only be made anew. `nobody`: there is no stream."""

    NOBODY = "nobody"
    COPYING = "copying"
    READY = "ready"
    STREAMING = "streaming"
    BROKEN = "broken"
    LOST = "lost"


class Stream(Frozen):
    """A stream as both of its ends show it.

    `lag_bytes`: WAL of the sender that the receiver has not confirmed; `retained_bytes`: WAL that its slot keeps there;
    `disk_free_bytes`: what is left where the sender keeps it; each None where it is not known. `lossless`: everything
    that was or will be committed on the sender can still arrive; `why` says what speaks against it. False where that
    cannot be seen, and then `observed` is False too. `since`: whole seconds since 1970, None where nobody knows since
    when it is so.
    """

    state: StreamState
    why: str
    slot: str | None = None
    lag_bytes: int | None = None
    retained_bytes: int | None = None
    disk_free_bytes: int | None = None
    lossless: bool = False
    observed: bool = True
    since: int | None = None


class Orphan(Frozen):
    """A slot of the tool's that nobody reads and that belongs to no stream which is there or under way: it keeps WAL
    for nobody. `retained_bytes` is None where the server does not say."""

    endpoint: str
    name: str
    retained_bytes: int | None


class IdleSlot(Frozen):
    """A slot of the tool's that nobody reads now: it keeps WAL on its endpoint's disk until somebody does, or drops it.
    `orphan`: it belongs to no stream that is there or under way."""

    endpoint: str
    name: str
    retained_bytes: int | None
    orphan: bool


def stream_name(receiver: Identity) -> str:
    """What slot and subscription of the stream into this database are called; unique among all clusters."""
    if not receiver.known:
        raise ValueError("a stream is named after a database that is known")
    return f"statehub_plan_{receiver.system_identifier}_{receiver.database_oid}"
