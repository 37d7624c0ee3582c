"""The append-only, hash-chained record of every run, and the lease that lets one run at a time change a service.

It lives outside the databases that move: in an SQLite file, or in a PostgreSQL database of its own.
"""

from __future__ import annotations

from statehub_plan.journal.heartbeat import Heartbeat
from statehub_plan.journal.locate import file_of, open_journal
from statehub_plan.journal.protocol import Journal, JournalTampered, LeaseLost, Locked

__all__ = ["Heartbeat", "Journal", "JournalTampered", "LeaseLost", "Locked", "file_of", "open_journal"]
