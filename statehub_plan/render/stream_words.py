"""Streams in words: who follows whom, how far behind, what that costs the sender, whether the way back is lossless."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from statehub_plan.model.facts import Observation
from statehub_plan.model.spec import CutoverPlan, FallbackMode, size_bytes
from statehub_plan.model.stream import Orphan, Stream, StreamState
from statehub_plan.registers import read_register
from statehub_plan.render.words import moment, shown
from statehub_plan.streams import stream_between

ORPHANED = "and no run is going to: drop it with pg_drop_replication_slot"
_UNITS = ((1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"))


def size_text(size: int) -> str:
    """`0.2 MB`, `12 MB`, `1.5 GB`: powers of 1024, as plans write their limits."""
    unit, name = next(((unit, name) for unit, name in _UNITS if size >= unit), _UNITS[-1])
    amount = f"{size / unit:.1f}" if size < 10 * unit else f"{size / unit:.0f}"
    return f"{amount.removesuffix('.0')} {name}"


def stream_text(stream: Stream, sender: str, *, retained_limit_bytes: int, way_back: bool) -> str:
    """What a stream from `sender` does, to be said of its receiver; with `way_back`, whether going back is lossless."""
    if not stream.observed:
        doubt = ", so nobody knows whether the way back is lossless" if way_back else ""
        return f"whether it follows {sender} could not be observed{doubt}: {shown(stream.why)}"
    since = f", since {moment(datetime.fromtimestamp(stream.since, UTC))}" if stream.since is not None else ""
    if stream.state is StreamState.STREAMING:
        does = f"follows {sender}"
    elif stream.state is StreamState.READY:
        does = f"is ready to follow {sender}"
    elif stream.state is StreamState.COPYING:
        does = f"is being filled from {sender} ({shown(stream.why)})"
    elif way_back and not stream.lossless:
        return f"WAY BACK NOT LOSSLESS: it does not follow {sender}{since}, because {shown(stream.why)}"
    else:
        does = f"DOES NOT FOLLOW {sender}{since} ({shown(stream.why)})"
    parts = [does, *_figures(stream, retained_limit_bytes)]
    if not stream.lossless and stream.state in (StreamState.STREAMING, StreamState.READY):
        parts.append(f"{'WAY BACK ' if way_back else ''}NOT LOSSLESS: {shown(stream.why, 300)}")
    elif way_back:
        again = " once it follows again" if stream.state is StreamState.BROKEN else ""
        parts.append(f"way back: lossless{again}" if stream.lossless else "way back: not lossless yet")
    return ", ".join(parts)


def _figures(stream: Stream, retained_limit_bytes: int) -> Iterator[str]:
    if stream.lag_bytes is not None:
        yield f"{size_text(stream.lag_bytes)} behind"
    if stream.retained_bytes is not None:
        yield f"slot retains {size_text(stream.retained_bytes)} of WAL (limit {size_text(retained_limit_bytes)})"
    if stream.disk_free_bytes is not None:
        yield f"{size_text(stream.disk_free_bytes)} of disk left"


def of_receiver(receiver: str, told: str) -> str:
    """A sentence of `stream_text` with its subject; one that is loud or in doubt begins by saying so."""
    if told.startswith("WAY BACK"):
        return told if receiver == "It" else told.replace(": it does", f": {receiver} does", 1)
    if told.startswith("whether it"):
        return told.replace("whether it", "Whether it" if receiver == "It" else f"whether {receiver}", 1)
    return f"{receiver} {told}"


def slot_text(endpoint: str, name: str, retained_bytes: int | None) -> str:
    """What a slot that nobody reads costs."""
    size = f"{size_text(retained_bytes)} of" if retained_bytes is not None else "an unknown amount of"
    return f"{endpoint} keeps {size} WAL for slot {name}, which nobody reads"


def told_orphans(document: CutoverPlan, left: tuple[Orphan, ...], primary: str) -> tuple[str, ...]:
    """A sentence for each; the guard looks after those of the primary."""
    limits = document.spec.desired.fallback.limits
    limit = size_text(size_bytes(limits.drop_slot_at_retained))
    return tuple(
        f"{slot_text(one.endpoint, one.name, one.retained_bytes)}, {ORPHANED}"
        + (f"; this guard does at {limit}, or once the disk is short" if one.endpoint == primary else "")
        for one in left
    )


def told_streams(document: CutoverPlan, observation: Observation) -> tuple[str, ...]:
    """A sentence for each stream that is there or should be by the wish; none where nothing follows anything."""
    return tuple(_told(document, observation))


def _told(document: CutoverPlan, observation: Observation) -> Iterator[str]:
    fallback = document.spec.desired.fallback
    primary = read_register(document, observation).primary
    limit = size_bytes(fallback.limits.drop_slot_at_retained)
    for receiver in document.spec.endpoints:
        sender = next(name for name in document.spec.endpoints if name != receiver)
        stream = stream_between(observation, receiver, sender)
        wished = fallback.mode is FallbackMode.FOLLOWING and receiver == fallback.endpoint and primary == sender
        there = stream.observed and stream.state is not StreamState.NOBODY
        if wished or there:
            told = stream_text(stream, sender, retained_limit_bytes=limit, way_back=wished)
            yield of_receiver(receiver, told)
