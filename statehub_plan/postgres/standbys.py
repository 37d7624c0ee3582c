"""Standbys that no commit waits for (CloudNativePG's default): whether a freeze has reached those that follow closely.

One of them that takes over without it would be writable beside the new primary. Where `synchronous_standby_names` is
set, the server's own wait says more (`transaction.commit`), and nothing is asked here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.connect import Connection

__all__ = ["Standbys", "await_standbys", "close_standbys"]

_POLL_S = 0.005

# What streams a log and replays nothing (pg_receivewal) is no standby; one that is far behind is not waited for, and a
# figure that this role may not see (pg_read_all_stats) is none. Without a name of its own, two may look alike.
_STANDBYS = """
SELECT concat_ws(' at ', coalesce(nullif(s.application_name, ''), 'walreceiver'), host(s.client_addr)), {asked}
FROM pg_stat_replication s
WHERE current_setting('synchronous_standby_names') = '' AND s.state = 'streaming' AND s.replay_lsn IS NOT NULL
  AND NOT EXISTS (SELECT FROM pg_replication_slots r WHERE r.active_pid = s.pid AND r.slot_type = 'logical')
"""
_CLOSE = _STANDBYS.format(
    asked="pg_wal_lsn_diff(pg_current_wal_flush_lsn(), s.flush_lsn) < 16777216 "
    "AND clock_timestamp() - s.reply_time < interval '30 s'"
)
_ARRIVED = _STANDBYS.format(asked="s.flush_lsn >= %s::pg_lsn")


@dataclass(frozen=True, slots=True)
class Standbys:
    """Names of those that follow closely, and how many have each."""

    names: Mapping[str, int]

    def __bool__(self) -> bool:
        return bool(self.names)


def close_standbys(connection: Connection) -> Standbys:
    """Those of this server that stream from it, answer, and are less than 16 MB behind."""
    return Standbys(_counted(connection, _CLOSE))


def await_standbys(connection: Connection, standbys: Standbys, *, what: str, timeout_s: float) -> None:
    """Returns once each of them has flushed all that is committed here by now; StatehubError `standby-silent` with
    those that have not in time, also because they are gone. Asks nothing where there are none."""
    if not standbys:
        return
    row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    deadline = time.monotonic() + timeout_s
    while True:
        arrived = _counted(connection, _ARRIVED, str(row[0]) if row else "0/0")
        silent = Counter(standbys.names) - Counter(arrived)
        if not silent or not _asked_for(connection):
            return
        if time.monotonic() > deadline:
            raise _silent(what, sorted(silent.elements()), timeout_s)
        time.sleep(_POLL_S)


def _counted(connection: Connection, query: str, *parameters: str) -> Mapping[str, int]:
    rows = connection.execute(query.encode(), parameters or None)
    return Counter(str(name) for name, asked in rows if asked is True)


def _asked_for(connection: Connection) -> bool:
    row = connection.execute("SELECT current_setting('synchronous_standby_names') = ''").fetchone()
    return row == (True,)


def _silent(what: str, names: list[str], timeout_s: float) -> StatehubError:
    return StatehubError(
        code="standby-silent",
        what=f"{what} is committed here, and {len(names)} standbys that followed closely have not confirmed within "
        f"{timeout_s:.1f} s that they have it: one of them that takes over would be open for writes",
        hint="bring back what is listed, or stop it for good: what is gone before the next attempt is not waited for",
        details=tuple(names),
    )
