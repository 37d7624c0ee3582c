"""Moving the primary by replication between two majors, there and back again, with writers that keep a ledger."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.compare import compare
from tests.integration.ledgered import SCHEMA, SHORT, Moved, ledger, moved
from tests.integration.served_database import eventually


@pytest.mark.parametrize("upwards", [True, False])
def test_cutover_switchback_and_cutover_again_lose_nothing(
    source_db: str, target_db: str, tmp_path: Path, upwards: bool
) -> None:
    """The whole journey, to the newer major or to the older one: three moves under up to 2,000 small transactions a
    second, then every acknowledged row is there, once, and both sides are equal."""
    old, new = (source_db, target_db) if upwards else (target_db, source_db)
    with moved(old, new, tmp_path) as pair, ledger(pair, writers=8, pause_s=0.004) as written:
        first = pair.old
        for _ in range(3):
            pair.move()
            assert written.goes_on(100)
        written.stop()
        assert first is pair.new
        written.assert_nothing_lost(pair.old)
        pair.assert_equal()
        assert {"25006", "57P01"} & written.seen, "nobody was told that the primary has moved"


def test_a_side_that_follows_says_why_its_sequences_differ(pair: Moved) -> None:
    """Compared on its own, outside a move; a stream carries no values of sequences."""
    pair.old.app("SELECT nextval('public.ticket')")
    pair.drain()
    found = compare(pair.old.tool_dsn, pair.new.tool_dsn)
    assert {"sequence"} == {one.kind for one in found.differences}
    assert ["the target follows another database"] == [
        note.partition(":")[0] for note in found.notes if "follows another" in note
    ]


def test_a_thousand_tables_move_at_once(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Their number is paid for before the hold; nothing is lost, and each of them is fenced and opened."""
    many = "".join(f"CREATE TABLE public.t{n} (id integer PRIMARY KEY, n integer);\n" for n in range(1000))
    with moved(source_db, target_db, tmp_path, schema=SCHEMA + many) as pair, ledger(pair) as written:

        def write(part: str, _switch: object) -> None:
            if part == "prepared":
                pair.old.app("INSERT INTO public.t7 VALUES (1, 1); UPDATE public.t999 SET n = 1")

        pair.prepare()
        timings = pair.decide(at=write)
        pair.settle()
        assert written.goes_on()
        written.stop()
        written.assert_nothing_lost(pair.old)
        assert [(1,)] == pair.old.admin("SELECT id FROM public.t7")
        fences = "SELECT tgenabled::text, count(*)::int FROM pg_trigger WHERE tgname = 'statehub_plan_fence' GROUP BY 1"
        assert [("D", 1005)] == pair.old.admin(fences)
        assert [("O", 1005)] == pair.new.admin(fences)
        assert timings.gap_ms > 0


@contextmanager
def _small_disk(directory: Path, owner_of: Path, megabytes: int) -> Iterator[Path]:
    """A file system of that size; skips where this user may not mount one."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", directory], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here (needs root): {mounted.stderr.decode().strip()}")
    try:
        status = owner_of.stat()
        subprocess.run(["chown", f"{status.st_uid}:{status.st_gid}", directory], check=True)
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def test_a_disk_that_is_full_while_following_loses_nothing(source_db: str, target_db: str, tmp_path: Path) -> None:
    """The apply worker fails again and again: no switch begins, the source goes on, and once there is room again the
    stream has everything and the move succeeds."""
    with closing(psycopg.connect(target_db)) as session:
        row = session.execute("SHOW data_directory").fetchone()
    assert row is not None
    data = Path(row[0])
    place = data.parent / f"small-{tmp_path.name}"
    place.mkdir(mode=0o755)
    with _small_disk(place, data, 24), moved(source_db, target_db, tmp_path) as pair:
        tablespace = f"small_{data.parent.stat().st_ino}"
        _outside(target_db, f"CREATE TABLESPACE {tablespace} LOCATION '{place}'")
        pair.new.admin(f"BEGIN READ WRITE; ALTER TABLE public.doc SET TABLESPACE {tablespace}; COMMIT")
        try:
            _fill_up(pair, place)
        finally:
            for side in (pair.old, pair.new):
                side.admin("BEGIN READ WRITE; ALTER TABLE public.doc SET TABLESPACE pg_default; COMMIT")
            _outside(target_db, f"DROP TABLESPACE {tablespace}")
        pair.assert_equal()


def _outside(dsn: str, statement: str) -> None:
    """As a superuser whom the read-only default does not bind; such statements take no transaction block."""
    with closing(psycopg.connect(dsn, autocommit=True, options="-c default_transaction_read_only=off")) as admin:
        admin.execute(statement.encode())


def _fill_up(pair: Moved, place: Path) -> None:
    ballast = place / "ballast"
    with ledger(pair) as written:
        pair.prepare()
        ballast.write_bytes(b"x" * (20 << 20))
        pair.old.app(
            "INSERT INTO public.doc SELECT n, 'full ' || n, repeat(n::text, 100) FROM generate_series(10000, 20000) n"
        )
        here = "SELECT oid FROM pg_database WHERE datname = current_database()"
        [(slot,)] = pair.new.admin(f"SELECT subname FROM pg_subscription WHERE subdbid = ({here})")
        failures = "SELECT sum(apply_error_count) FROM pg_stat_subscription_stats WHERE subname = %s"
        assert eventually(lambda: pair.new.admin(failures, slot)[0] > (0,), 60)
        with pytest.raises(StatehubError) as raised:
            pair.decide(replace(SHORT, near_s=1))
        assert raised.value.code in ("barrier-not-arrived", "stream-behind")
        assert pair.stays_shut()
        assert written.goes_on()
        ballast.unlink()
        pair.move()
        assert written.goes_on()
        written.stop()
        written.assert_nothing_lost(pair.old)
        assert [(10_001,)] == pair.old.admin("SELECT count(*) FROM public.doc WHERE id >= 10000")
