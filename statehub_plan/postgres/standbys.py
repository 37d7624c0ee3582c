"""Standbys of the side that is frozen: whether the freeze has reached those that follow closely.

One of them that takes over without it would be writable beside the new primary. Where `synchronous_standby_names` is
set, a commit waits by itself (`transaction.commit`), and yet it can return unconfirmed without a word: once nobody is
demanded any more, the server wakes all who wait as if they had been answered (syncrep.c,
SyncRepUpdateSyncStandbysDefined); and other names let another standby answer. Operators rewrite them just when a
standby falls silent (CloudNativePG's `dataDurability: preferred`, Patroni). So each is asked, whatever is set.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.transaction import StandbySilent

__all__ = ["Standbys", "await_standbys", "close_standbys"]

_POLL_S = 0.005

# What streams a log and replays nothing (pg_receivewal, pg_basebackup) is no standby, nor is a logical slot's receiver;
# one that is far behind is not waited for, and a figure that this role may not see (pg_read_all_stats) is none. Without
# a name of its own, two may look alike. Flushed, whatever synchronous_commit says: an outage takes what is but written.
_LOOK = """
SELECT here.lsn::text, current_setting('synchronous_standby_names') <> '',
       concat_ws(' at ', coalesce(nullif(s.application_name, ''), 'walreceiver'), host(s.client_addr)),
       s.sync_state IN ('sync', 'quorum'),
       pg_wal_lsn_diff(here.lsn, s.flush_lsn) < 16777216 AND clock_timestamp() - s.reply_time < interval '30 s',
       s.flush_lsn >= here.lsn
FROM (SELECT coalesce(%s::pg_lsn, pg_current_wal_flush_lsn()) AS lsn) here
LEFT JOIN pg_stat_replication s ON s.state = 'streaming' AND s.replay_lsn IS NOT NULL
    AND NOT EXISTS (SELECT FROM pg_replication_slots r WHERE r.active_pid = s.pid AND r.slot_type = 'logical')
"""


class _Standby(NamedTuple):
    """One that streams; of none (None) nothing is known."""

    name: str
    synchronous: bool | None
    close: bool | None
    arrived: bool | None


class _Seen(NamedTuple):
    lsn: str
    demanded: bool
    standbys: tuple[_Standby, ...]


@dataclass(frozen=True, slots=True)
class Standbys:
    """Names of those that follow closely, and how many have each. `unseen`: commits wait, and for none of these: it is
    away, or too far behind, or this role may not see it."""

    names: Mapping[str, int]
    unseen: bool = False

    def __bool__(self) -> bool:
        return bool(self.names) or self.unseen


def close_standbys(connection: Connection) -> Standbys:
    """Those of this server that stream from it, answer, and are less than 16 MB behind, whether or not commits wait for
    them. To be asked before the commit in question: whoever falls silent meanwhile is close no more."""
    seen = _look(connection)
    close = [one for one in seen.standbys if one.close]
    return Standbys(_counted(close), unseen=seen.demanded and not any(one.synchronous for one in close))


def await_standbys(connection: Connection, standbys: Standbys, *, what: str, timeout_s: float) -> None:
    """Returns once each of them has flushed all that is committed here by now: one question, where they have it.

    StatehubError `standby-silent` with those that have not in time, also because they are gone; StandbySilent where
    commits waited for an unseen one and nobody is demanded any more. Asks nothing where there are none."""
    if not standbys:
        return
    deadline = time.monotonic() + timeout_s
    seen = _look(connection)
    if standbys.unseen and not seen.demanded:
        raise StandbySilent(what)
    while silent := Counter(standbys.names) - _counted(one for one in seen.standbys if one.arrived):
        if time.monotonic() > deadline:
            raise _silent(what, sorted(silent.elements()), timeout_s)
        time.sleep(_POLL_S)
        seen = _look(connection, seen.lsn)


def _look(connection: Connection, lsn: str | None = None) -> _Seen:
    """Everybody who streams, measured against that position, or the end of what is committed here."""
    rows = connection.execute(_LOOK.encode(), [lsn]).fetchall()
    (here, demanded), standbys = rows[0][:2], (_Standby(*row[2:]) for row in rows)
    return _Seen(str(here), bool(demanded), tuple(standbys))


def _counted(standbys: Iterable[_Standby]) -> Counter[str]:
    return Counter(one.name for one in standbys)


def _silent(what: str, names: list[str], timeout_s: float) -> StatehubError:
    return StatehubError(
        code="standby-silent",
        what=f"{what} is committed here, and {len(names)} standbys that followed closely have not confirmed within "
        f"{timeout_s:.1f} s that they have it: one of them that takes over would be open for writes",
        hint="bring back what is listed, or stop it for good: what is gone before the next attempt is not waited for",
        details=tuple(names),
    )
