"""What can go wrong with a journal in PostgreSQL: races, privileges, lost connections, stalled sessions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.journal import LeaseLost, Locked, open_journal
from statehub_plan.journal.postgres import PostgresJournal
from statehub_plan.model.record import Record, RecordKind
from statehub_plan.postgres.transaction import StandbySilent
from tests.integration.served_database import demand_standby

NOW = datetime(2026, 6, 27, 10, 0, 0, tzinfo=UTC)
INSTALL_LOCK = 0x5348504A


@pytest.fixture
def journal(source_db: str) -> Iterator[PostgresJournal]:
    """An empty journal in a fresh database."""
    opened = PostgresJournal(source_db)
    yield opened
    opened.close()


@pytest.fixture
def outside(source_db: str) -> Iterator[psycopg.Connection]:
    """Somebody else's session in the journal's database."""
    with psycopg.connect(source_db, autocommit=True) as connection:
        yield connection


def fact(journal: PostgresJournal) -> Record:
    """A new record without a lease."""
    return journal.append(
        None, service="hub", plan_name="plan", run="", kind=RecordKind.FACT, step=None, payload={}, at=NOW
    )


def end_sessions(outside: psycopg.Connection, name: str) -> None:
    """Sessions of this application name are ended, as by a server's administrator."""
    outside.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", [name])


def test_two_first_writers_make_the_schema_once(source_db: str, outside: psycopg.Connection) -> None:
    """Both saw no schema and wait for each other; the second must notice that the first has made it."""
    outside.execute("SELECT pg_advisory_lock(%s)", [INSTALL_LOCK])
    first, second = PostgresJournal(source_db), PostgresJournal(source_db)
    with ThreadPoolExecutor(2) as pool:
        records = [pool.submit(fact, each) for each in (first, second)]
        waiting = "SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = %s"
        while outside.execute(waiting, [INSTALL_LOCK]).fetchone() != (True,):
            time.sleep(0.01)
        outside.execute("SELECT pg_advisory_unlock(%s)", [INSTALL_LOCK])
    first.close()
    second.close()
    assert [1, 2] == sorted(each.result().seq for each in records)


def test_a_role_without_privileges_is_told_which_it_needs(source_db: str, outside: psycopg.Connection) -> None:
    """Neither making nor writing the journal fails without saying what to grant."""
    role = f"guest_{outside.info.backend_pid}"
    outside.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'guest-pw'")
    guest = PostgresJournal(make_conninfo(source_db, user=role, password="guest-pw"))
    try:
        with pytest.raises(StatehubError) as refused:
            fact(guest)
        assert "journal-permission" == refused.value.code
        assert "GRANT CREATE" in refused.value.hint
    finally:
        guest.close()
        outside.execute(f"DROP ROLE {role}")


def test_a_lost_connection_costs_one_command_not_the_journal(
    journal: PostgresJournal, outside: psycopg.Connection
) -> None:
    """The append that met the loss fails and says so; the next one connects again."""
    assert 1 == fact(journal).seq
    end_sessions(outside, "statehub-plan journal")
    with pytest.raises(StatehubError) as refused:
        fact(journal)
    assert "journal-unreachable" == refused.value.code
    assert "STATEHUB_PLAN_JOURNAL=/path/to/a/new/journal.db statehub-plan abort" in refused.value.hint
    assert Exit.ERROR == refused.value.exit_status
    assert 2 == fact(journal).seq


def test_a_lease_ends_with_its_session(journal: PostgresJournal, outside: psycopg.Connection, source_db: str) -> None:
    """When the server ends the session that holds the lock, the holder learns it and another may take over."""
    lease = journal.acquire("hub", "alice@ops", ttl_s=3600, now=NOW)
    end_sessions(outside, "statehub-plan lease hub")
    with pytest.raises(LeaseLost, match="connection"):
        journal.heartbeat(lease, NOW)
    assert journal.current_lease("hub") is None
    assert 2 == journal.acquire("hub", "alice@ops", ttl_s=3600, now=NOW).epoch


def test_a_session_stalled_in_the_middle_of_a_write_blocks_nobody_for_ever(
    journal: PostgresJournal, outside: psycopg.Connection
) -> None:
    """While somebody sits on the head of the chain the others are refused with exit status 6, and go on afterwards."""
    fact(journal)
    assert journal._main is not None
    journal._main.execute("SET lock_timeout = '50ms'")
    with outside.transaction():
        outside.execute("SELECT FROM statehub_plan_journal.head FOR UPDATE")
        with pytest.raises(Locked) as refused:
            fact(journal)
    assert Exit.LOCKED == refused.value.exit_status
    assert "journal-busy" == refused.value.code
    assert 2 == fact(journal).seq
    limits = journal._main.execute("SELECT current_setting('idle_in_transaction_session_timeout')").fetchone()
    assert ("10s",) == limits, "the server itself ends a writer of ours that was stopped"


def test_a_server_that_only_reads_is_named_as_such(source_db: str, outside: psycopg.Connection) -> None:
    """A standby can't keep a journal; the refusal points to the primary."""
    journal = PostgresJournal(source_db)
    fact(journal)
    assert journal._main is not None
    journal._main.execute("SET default_transaction_read_only = on")
    with pytest.raises(StatehubError) as refused:
        fact(journal)
    assert "journal-read-only" == refused.value.code
    journal.close()


def test_a_record_that_no_standby_confirms_is_told_apart(source_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is here and a failover may forget it: whoever writes it is not left waiting without end, and is told, once."""
    monkeypatch.setattr("statehub_plan.journal.postgres._STANDBY_WAIT_S", 0.5)
    journal = PostgresJournal(source_db)
    fact(journal)
    demand_standby(source_db, "nobody")
    try:
        lease = journal.acquire("hub", "alice@ops", ttl_s=3600, now=NOW)
        with pytest.raises(StandbySilent, match="a record of the journal is committed here"):
            fact(journal)
        journal.heartbeat(lease, NOW)
        assert 3 == fact(journal).seq
    finally:
        demand_standby(source_db, "")
    assert 4 == fact(journal).seq
    journal.close()


def test_a_wrong_password_is_refused_without_repeating_it(source_db: str) -> None:
    """The refusal names the cause; the password is nowhere in it."""
    with pytest.raises(StatehubError) as refused:
        open_journal(make_conninfo(source_db, password="canary-wrong-password"))
    assert "wrong-password" == refused.value.code
    assert "canary" not in str(refused.value)
