"""An ordinary migration while the fallback follows: on both sides by hand, into the stream by `refresh`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from statehub_plan.cli.workspace import Workspace
from statehub_plan.demo.cluster import SUPERUSER
from statehub_plan.demo.world import SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit
from statehub_plan.schemas import problems
from tests.integration.applying import ran
from tests.integration.fill_actor import die_at
from tests.integration.forking import forked
from tests.integration.observing import now
from tests.integration.replicating import (
    aborted,
    approved_move,
    away_from,
    carried_out,
    drop_slot_into,
    equal_after_a_drain,
    keeps_writing,
    run_at,
    stream_into,
    writable,
)
from tests.integration.served_database import eventually

BOTH = (SOURCE, TARGET)
KEYED = "CREATE TABLE public.{} (id bigint PRIMARY KEY, note text)"


@pytest.fixture(scope="module")
def moved(world: DemoWorld) -> DemoWorld:
    """The target is primary, the source follows it, and a client writes all the while."""
    carried_out(approved_move(world, "there", TARGET))
    return world


def migrate(world: DemoWorld, site: str, *statements: str) -> None:
    """As README tells it: the owner's session insists on READ WRITE, which the fallback's default is not."""
    with world.sites[site].connect_as_owner() as session:
        session.execute("BEGIN READ WRITE")
        for statement in statements:
            session.execute(statement.encode())
        session.execute("COMMIT")


def rows(world: DemoWorld, site: str, table: str) -> int:
    """How many there are."""
    with psycopg.connect(world.sites[site].dsn(SUPERUSER), autocommit=True) as session:
        found = session.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert found is not None
    return int(found[0])


def arrives(world: DemoWorld, table: str) -> bool:
    """Whether the fallback comes to have as many rows as the primary, to which nobody writes any more."""
    return eventually(lambda: rows(world, TARGET, table) == rows(world, SOURCE, table), timeout_s=30)


@contextmanager
def inserting(world: DemoWorld, table: str) -> Iterator[list[int]]:
    """Somebody who writes to a table of the primary all the while; what was acknowledged."""
    acknowledged: list[int] = []
    failed: list[psycopg.Error] = []
    ending = threading.Event()

    def write() -> None:
        try:
            with psycopg.connect(world.sites[TARGET].dsn(SUPERUSER), autocommit=True) as session:
                while not ending.wait(0.005):
                    number = 1_000_000 + len(acknowledged)
                    session.execute(f"INSERT INTO {table} VALUES (%s, 'w')".encode(), [number])
                    acknowledged.append(number)
        except psycopg.Error as error:
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert eventually(lambda: len(acknowledged) > 3 or bool(failed))
        yield acknowledged
    finally:
        ending.set()
        thread.join()
    assert [] == failed


def refused(world: DemoWorld, code: str) -> list[str]:
    """What `refresh` has to say that ends with 1, with its remedy last."""
    found = ran("refresh", world.plan_file, "--json")
    assert (Exit.ERROR, code) == (found.status, found.json["error"]["code"]), found.told
    assert () == problems("output-failure", found.json)
    return [found.json["error"]["what"], *found.json["error"]["details"], found.json["error"]["remedy"]]


def test_a_table_on_one_side_only_is_refused_and_told_with_the_order_to_follow(moved: DemoWorld) -> None:
    """DDL on the primary alone, as a deployment does it: both what is missing are named, and nothing is published."""
    migrate(moved, TARGET, KEYED.format("coupon"), "ALTER TABLE public.idempotency_key ADD COLUMN note text")
    assert eventually(
        lambda: "broken" == _stream(moved)["state"], timeout_s=30
    )  # the client's next row has that column
    assert eventually(lambda: "`refresh`" in str(_stream(moved)["why"]), timeout_s=30)
    told = refused(moved, "sides-differ")
    assert f"public.coupon is on {TARGET} only" in told
    column = f"public.idempotency_key column note: text on {TARGET}, absent on {SOURCE}"
    assert column in told
    assert "BEGIN READ WRITE" in told[-1]
    migrate(moved, SOURCE, "ALTER TABLE public.idempotency_key ADD COLUMN note text")
    migrate(moved, SOURCE, KEYED.format("coupon"))
    assert eventually(lambda: "streaming" == _stream(moved)["state"], timeout_s=30)


def _stream(world: DemoWorld) -> dict[str, object]:
    found: dict[str, object] = ran("observe", world.plan_file, "--json").json["streams"][SOURCE]
    return found


def test_whoever_asks_is_led_to_it_where_a_table_has_no_fence(moved: DemoWorld) -> None:
    """The fallback answers; what it lacks is a fence: plan, switchback, observe and doctor say what gives it one."""
    for making in ("plan", "switchback"):
        found = ran(making, moved.plan_file)
        assert Exit.ERROR == found.status
        assert "`refresh` completes the fence" in " ".join(found.out.split())
    seen = ran("observe", moved.plan_file, "--json").json["observation"]["facts"]
    (writes,) = (fact for fact in seen if fact["id"] == f"{SOURCE}.writes")
    assert "no enabled fence: public.coupon" in writes["reason"]
    assert "`refresh`" in writes["reason"]
    found = ran("doctor", moved.plan_file, "--json")
    (check,) = (one for one in found.json["checks"] if one["id"] == f"{SOURCE}.unfenced")
    assert (False, True) == (check["ok"], "statehub-plan refresh" in check["remedy"])
    assert "`refresh`" in ran("guard", moved.plan_file).err


def test_what_is_on_both_sides_is_fenced_published_and_copied_while_everybody_writes(moved: DemoWorld) -> None:
    """Rows from before and from meanwhile arrive; until then the fallback's own writers could reach that table."""
    with inserting(moved, "public.coupon") as acknowledged:
        done = ran("refresh", moved.plan_file, "--json")
        assert Exit.DONE == done.status, done.told
        after = len(acknowledged)
        assert eventually(lambda: len(acknowledged) > after + 3)
    assert () == problems("output-refresh", done.json)
    coupon = ["public.coupon"]
    assert (coupon, coupon, coupon) == tuple(done.json[name] for name in ("fenced", "published", "copied"))
    assert arrives(moved, "public.coupon")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        migrate(moved, SOURCE, "INSERT INTO public.coupon VALUES (1, 'not here')")
    guarded = ran("guard", moved.plan_file)
    assert (Exit.DONE, "") == (guarded.status, guarded.err)
    assert "way back: lossless" in guarded.out
    again = ran("refresh", moved.plan_file)
    assert (Exit.DONE, f"nothing to take in; {SOURCE} follows, way back: lossless\n") == (again.status, again.out)
    kept = ran("history", moved.plan_file).out
    assert "stream-refreshed passed" in kept
    assert "stream-refreshed failed" in kept


@pytest.mark.parametrize(
    ("name", "function", "event"),
    [("k1", "_fence_one", "return"), ("k2", "publish_also", "return"), ("k3", "_publish", "return"),
     ("k4", "refresh_subscription", "return"), ("k5", "await_tables", "call"), ("k6", "await_barrier", "call")],
)  # fmt: skip
def test_whoever_is_killed_is_carried_on_from(moved: DemoWorld, name: str, function: str, event: str) -> None:
    """Anywhere between fence and copy; in the end every row is there once."""
    for site in BOTH:
        migrate(moved, site, KEYED.format(name))
    migrate(moved, TARGET, f"INSERT INTO public.{name} SELECT n, 'before' FROM generate_series(1, 5000) n")

    def killed() -> int:
        die_at(function, event, 1)
        return ran("refresh", moved.plan_file).status

    with inserting(moved, f"public.{name}"):
        assert -9 == forked(killed)
        done = eventually(lambda: Exit.LOCKED != ran("refresh", moved.plan_file).status, timeout_s=60)
        assert done
    last = ran("refresh", moved.plan_file)
    assert Exit.DONE == last.status, last.told
    assert arrives(moved, f"public.{name}")


def test_partitions_strange_names_and_sequences_are_taken_along(moved: DemoWorld) -> None:
    """Parents are fenced and their leaves published; sequences are told to wait for a switch."""
    for site in BOTH:
        migrate(
            moved,
            site,
            'CREATE SCHEMA "Odd.one"',
            'CREATE TABLE "Odd.one"."a ""b""" (id bigserial PRIMARY KEY)',
            "CREATE TABLE public.parted (id bigint PRIMARY KEY) PARTITION BY RANGE (id)",
            "CREATE TABLE public.parted_1 PARTITION OF public.parted FOR VALUES FROM (0) TO (1000)",
            "CREATE UNLOGGED TABLE public.scrap (id bigint)",
        )
    migrate(
        moved,
        TARGET,
        'INSERT INTO "Odd.one"."a ""b""" SELECT FROM generate_series(1, 9)',
        "INSERT INTO public.parted SELECT generate_series(1, 99)",
    )
    done = ran("refresh", moved.plan_file, "--json")
    assert Exit.DONE == done.status, done.told
    odd = '"Odd.one"."a ""b"""'
    assert [odd, "public.parted", "public.parted_1", "public.scrap"] == done.json["fenced"]
    assert [odd, "public.parted_1"] == done.json["published"] == done.json["copied"]
    assert ['"Odd.one"."a ""b""_id_seq"'] == done.json["sequences"]
    assert arrives(moved, odd)
    assert arrives(moved, "public.parted")
    run_at(moved, TARGET, "DROP TABLE public.scrap")
    run_at(moved, SOURCE, "DROP TABLE public.scrap")


def test_rows_that_no_stream_brought_are_for_a_person_to_see(moved: DemoWorld) -> None:
    """A seed that the migration wrote on both sides, or a write that went astray: fenced at once, not copied over."""
    for site in BOTH:
        migrate(moved, site, KEYED.format("seeded"), "INSERT INTO public.seeded VALUES (1, 'seed')")
    told = refused(moved, "fallback-holds-rows")
    assert "public.seeded" in told
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        migrate(moved, SOURCE, "INSERT INTO public.seeded VALUES (2, 'astray')")
    with psycopg.connect(moved.sites[SOURCE].dsn(), autocommit=True) as session:  # as the remedy says
        for statement in ("BEGIN READ WRITE", "SELECT statehub_plan.admit()", "TRUNCATE public.seeded", "COMMIT"):
            session.execute(statement.encode())
    assert Exit.DONE == ran("refresh", moved.plan_file).status
    assert 1 == rows(moved, SOURCE, "public.seeded")


def test_a_table_without_identity_is_not_published(moved: DemoWorld) -> None:
    """Its writers would be refused UPDATE and DELETE on the primary."""
    for site in BOTH:
        migrate(moved, site, "CREATE TABLE public.keyless (note text)")
    told = refused(moved, "identity-missing")
    assert f"public.keyless on {TARGET}" in told
    for site in BOTH:
        migrate(moved, site, "ALTER TABLE public.keyless REPLICA IDENTITY FULL")
    assert Exit.DONE == ran("refresh", moved.plan_file).status


def test_a_table_that_left_the_publication_is_not_put_back_as_if_nothing_were_missing(moved: DemoWorld) -> None:
    """What was written meanwhile is in no stream; made anew there, and empty, it is copied as a whole."""
    run_at(moved, TARGET, "ALTER PUBLICATION statehub_plan DROP TABLE ONLY public.k1", "DELETE FROM public.k1")
    run_at(moved, TARGET, "INSERT INTO public.k1 VALUES (7, 'missed')")
    assert "public.k1" in refused(moved, "stream-gap")
    migrate(moved, SOURCE, "DROP TABLE public.k1", KEYED.format("k1"))
    assert Exit.DONE == ran("refresh", moved.plan_file).status
    assert 1 == rows(moved, SOURCE, "public.k1")


def test_nothing_is_done_while_a_run_has_the_lease_or_nobody_knows_who_is_primary(moved: DemoWorld) -> None:
    """It may be freezing, or moving the primary."""
    with Workspace.load(moved.plan_file) as workspace:
        lease = workspace.journal.acquire(workspace.service, "somebody", ttl_s=30, now=now(), at_least=1_000)
        locked = ran("refresh", moved.plan_file)
        workspace.journal.release(lease)
    assert Exit.LOCKED == locked.status
    with psycopg.connect(moved.sites[SOURCE].cluster.dsn(), autocommit=True) as session:
        session.execute("ALTER DATABASE statehub ALLOW_CONNECTIONS false")
        session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'statehub'")
    try:
        found = ran("refresh", moved.plan_file)
    finally:
        with psycopg.connect(moved.sites[SOURCE].cluster.dsn(), autocommit=True) as session:
            session.execute("ALTER DATABASE statehub ALLOW_CONNECTIONS true")
    assert Exit.ERROR == found.status
    assert "nothing was done" in found.err


def test_a_prepared_switch_is_finished_or_taken_away_first(moved: DemoWorld) -> None:
    """The stream that leads back from it would lack what is taken in now."""
    back = approved_move(moved, "rehearsed", SOURCE)
    rehearsed = ran("rehearse", back)
    assert Exit.DONE == rehearsed.status, rehearsed.told
    assert "`abort`" in refused(moved, "switch-prepared")[-1]
    aborted(moved, "kept")
    done = ran("refresh", moved.plan_file)
    assert (Exit.DONE, "nothing to take in") == (done.status, done.out.partition(";")[0])
    assert "streaming" == _stream(moved)["state"]


def test_a_complete_switchback_brings_everything_along(moved: DemoWorld) -> None:
    """Nothing acknowledged is lost, and the other side follows in turn; there the same command serves the next
    migration."""
    assert keeps_writing(moved)
    carried_out(approved_move(moved, "back", SOURCE))
    assert {SOURCE} == writable(moved)
    for site in (TARGET, SOURCE):
        migrate(moved, site, KEYED.format("later"))
    migrate(moved, SOURCE, "INSERT INTO public.later VALUES (1, 'l')")
    done = ran("refresh", moved.plan_file)
    assert Exit.DONE == done.status, done.told
    assert "copied 1 table: public.later" in done.out
    assert 0 == moved.stop_client()
    found = moved.verify(SOURCE)
    assert (0, 0) == (found.lost, found.duplicated), found
    assert equal_after_a_drain(moved, SOURCE)


def test_a_fallback_that_does_not_follow_is_not_touched(moved: DemoWorld) -> None:
    """Which README says how to fill anew."""
    drop_slot_into(moved, away_from(SOURCE))
    for site in (TARGET, SOURCE):
        migrate(moved, site, KEYED.format("too_late"))
    told = refused(moved, "not-following")
    assert "When the fallback is lost or no longer follows" in told[-1]
    assert stream_into(moved, TARGET)
    migrate(moved, TARGET, "INSERT INTO public.too_late VALUES (1, 'nobody has fenced it')")
