"""The pre-flight checks on real servers: each is tripped by something real, and a sound pair trips none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from statehub_plan.components import PgInstallation
from statehub_plan.demo.cluster import Cluster
from statehub_plan.errors import StatehubError
from statehub_plan.model.preflight import Found, Severity, Side
from statehub_plan.model.spec import Endpoint, TransferMethod
from statehub_plan.postgres.checks.declare import Move, Query, Seen
from statehub_plan.postgres.checks.ends import end_of
from statehub_plan.postgres.checks.registry import CHECKS
from statehub_plan.postgres.checks.run import MOST, End, run_checks
from statehub_plan.postgres.connect import connect
from tests.integration import tripped

ROUTES = [Move(method=method, following=following) for method in TransferMethod for following in (False, True)]


@pytest.fixture(scope="module")
def own_clusters(pg_installations: tuple[PgInstallation, ...], scratch: Path) -> Iterator[tuple[Cluster, Cluster]]:
    """A pair that may be misconfigured, and restarted."""
    with (
        Cluster.create(scratch, "bad-source", pg_installations[0], settings=tripped.BAD_SOURCE) as source,
        Cluster.create(scratch, "bad-target", pg_installations[-1], settings=tripped.BAD_TARGET) as target,
    ):
        yield source, target


class _Situations:
    """What was found in each situation; each is brought about once."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._found: dict[str, tuple[Found, ...]] = {}

    def __getitem__(self, name: str) -> tuple[Found, ...]:
        if name not in self._found:
            if name in tripped.OWN_CLUSTERS:
                pair = self._request.getfixturevalue("own_clusters")
            else:
                pair = tuple(self._request.getfixturevalue(f"{side}_cluster") for side in ("source", "target"))
            with tripped.SITUATIONS[name](*pair) as found:
                self._found[name] = found
        return self._found[name]


@pytest.fixture(scope="module")
def situations(request: pytest.FixtureRequest) -> _Situations:
    """Brought about when first asked for."""
    return _Situations(request)


@pytest.mark.parametrize(
    ("situation", "check_id"), [(name, one) for name, expected in tripped.EXPECTED.items() for one in expected]
)
def test_each_check_is_tripped_by_something_real(situations: _Situations, situation: str, check_id: str) -> None:
    """It names exactly what is wrong, on the side where the remedy applies, and says what to do."""
    found = [one for one in situations[situation] if one.id == check_id]
    expected = tripped.EXPECTED[situation][check_id]
    assert expected == {
        (one.side.value, None if (one.side.value, None) in expected else one.subject or None) for one in found
    }
    assert [] == [one for one in found if "could not be looked at" in one.what]
    assert [] == [one for one in found if one.severity is not Severity.INFO and not one.remedy]


def test_every_check_has_something_that_trips_it() -> None:
    """A check that was never seen to fail is no check; and nothing is expected that does not exist."""
    ids = [one.id for one in CHECKS]
    seen = {check_id for expected in tripped.EXPECTED.values() for check_id in expected}
    assert len(ids) == len(set(ids)) >= 60
    assert set(ids) == seen | tripped.BY_ANSWERS
    assert set() == seen & tripped.BY_ANSWERS


SOUND = {"max_slot_wal_keep_size": "10GB"}


@pytest.fixture(scope="module")
def sound(pg_installations: tuple[PgInstallation, ...], scratch: Path) -> Iterator[tuple[Cluster, Cluster]]:
    """Two servers as they should be."""
    with (
        Cluster.create(scratch, "sound-source", pg_installations[0], settings=SOUND) as source,
        Cluster.create(scratch, "sound-target", pg_installations[-1], settings=SOUND) as target,
    ):
        yield source, target


SOUND_TABLES = """
CREATE EXTENSION pg_trgm;
CREATE TABLE plans (id int PRIMARY KEY, title text NOT NULL, at timestamptz);
CREATE TABLE tasks (id int PRIMARY KEY, plan_id int REFERENCES plans, note jsonb, UNIQUE (plan_id, note));
CREATE INDEX ON tasks (plan_id);
CREATE VIEW open_tasks AS SELECT * FROM tasks;
INSERT INTO plans VALUES (1, 'first', now());
"""


def test_a_sound_pair_trips_nothing(sound: tuple[Cluster, Cluster]) -> None:
    """Both methods, both directions, roles that are no superusers, with the privileges that the checks ask for."""
    source, _ = sound
    as_tool = [tripped.sound_hub(cluster) for cluster in sound]
    with psycopg.connect(as_tool[0]) as connection:
        connection.execute(SOUND_TABLES)
    with ExitStack() as stack:
        old, new = (stack.enter_context(connect(dsn, purpose="test", read_only=True)) for dsn in as_tool)
        superuser = stack.enter_context(connect(source.dsn("hub"), purpose="test", read_only=True))
        for move in ROUTES:
            assert () == run_checks(
                End(old, subscriber=superuser, app_roles=("app",), disk_free_bytes=tripped.PLENTY),
                End(new, app_roles=("app",), disk_free_bytes=tripped.PLENTY),
                move,
            )


def test_remedies_that_are_statements_do_what_they_promise(source_db: str, target_db: str) -> None:
    """What is proposed is run as it stands, and then nothing is left to complain about."""
    tables = tripped.SCHEMA[: tripped.SCHEMA.index("CREATE UNLOGGED")]
    odd = '"Odd ""one""; DROP SCHEMA public"'
    tripped.on(source_db, tables, f'CREATE TABLE public.{odd} (a int NOT NULL, CONSTRAINT {odd[:-1]} key" UNIQUE (a))')
    wanted = ("no-replica-identity", "replica-identity-")
    before = [one for one in tripped.look(source_db, target_db, tripped.REPLICATION) if one.id.startswith(wanted)]
    assert any("USING INDEX" in one.remedy for one in before)
    for one in before:
        if "ADD PRIMARY KEY" not in one.remedy.split(" (or")[0]:
            tripped.on(source_db, one.remedy.split(" (or")[0])
    after = [one for one in tripped.look(source_db, target_db, tripped.REPLICATION) if one.id.startswith(wanted)]
    assert {"public.computed", "public.whole"} == {".".join(one.subject.split(".")[:2]) for one in after
                                                   if one.severity is Severity.ERROR}  # fmt: skip


def test_a_published_table_without_identity_would_have_hurt_the_service(source_db: str) -> None:
    """The incident behind the check, on a real server: the publisher itself refuses updates."""
    tripped.on(source_db, "CREATE TABLE public.bare (a int)", "INSERT INTO public.bare VALUES (1)")
    tripped.on(source_db, "UPDATE public.bare SET a = 2", "CREATE PUBLICATION p FOR TABLE public.bare")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        tripped.on(source_db, "UPDATE public.bare SET a = 3")


def test_a_whole_row_with_a_generated_column_is_refused_by_a_publisher_of_18(source_db: str, target_db: str) -> None:
    """The way back is looked at as well: what the older side sends, the newer one would refuse to."""
    table = (
        "CREATE TABLE public.computed (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)",
        "ALTER TABLE public.computed REPLICA IDENTITY FULL",
        "INSERT INTO public.computed VALUES (1)",
    )
    tripped.on(source_db, *table)
    found = {
        following: {one.id for one in tripped.look(source_db, target_db, move)}
        for following in (False, True)
        for move in [Move(method=TransferMethod.REPLICATION, following=following)]
    }
    assert [False, True] == ["replica-identity-generated" in found[following] for following in (False, True)]
    tripped.on(target_db, *table, "CREATE PUBLICATION p FOR TABLE public.computed")
    with pytest.raises(psycopg.Error, match="generated"):
        tripped.on(target_db, "UPDATE public.computed SET id = 2")


def test_a_question_that_is_refused_makes_its_checks_say_so(source_db: str, target_db: str) -> None:
    """Not knowing is told with the check's own severity, and takes no other check with it."""
    refused = Query("SELECT 1 / 0")
    chosen = next(one for one in CHECKS if one.id == "in-recovery")
    broken = replace(chosen, id="broken", here=(refused,), judge=lambda look: [Seen(str(look.here.rows(refused)))])
    tripped.on(source_db, "SELECT lo_create(0)")
    others = [one for one in CHECKS if one.id in ("large-objects", "in-recovery", "target-not-empty")]
    with connect(source_db, purpose="test") as old, connect(target_db, purpose="test") as new:
        found = run_checks(End(old), End(new), Move(method=TransferMethod.DUMP), checks=(broken, *others))
    assert [("broken", "error"), ("large-objects", "error"), ("broken", "error")] == [
        (one.id, one.severity.value) for one in found
    ]
    assert "division by zero" in found[0].what


def test_a_lost_session_is_an_error_and_no_clean_bill(source_db: str, target_db: str) -> None:
    """The server that goes away while it is asked must never look as if nothing had been found."""
    with connect(source_db, purpose="test") as old, connect(target_db, purpose="test") as new:
        tripped.on(target_db, f"SELECT pg_terminate_backend({new.info.backend_pid}, 10000)")
        with pytest.raises(StatehubError) as caught:
            run_checks(End(old), End(new), Move(method=TransferMethod.DUMP))
    assert "preflight-unanswered" == caught.value.code


DISK = {
    "known": ([sys.executable, "-c", "print(2 ** 50)"], None),
    "failed": (["sh", "-c", "echo no such disk >&2; exit 3"], "exit status 3: no such disk"),
    "words": (["sh", "-c", "echo plenty"], "sh printed no whole number of bytes"),
    "missing": (["/nonexistent/df"], "/nonexistent/df"),
}


@pytest.mark.parametrize("outcome", sorted(DISK))
def test_what_is_left_on_a_disk_is_printed_by_a_command(
    source_db: str, target_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    """A command that fails, or says something else than a number, leaves it unknown with the reason."""
    monkeypatch.setenv("CHECKED_SUBSCRIBER", source_db)
    command, reason = DISK[outcome]
    database = {"dsn": {"env": "X"}, "subscriberDsn": {"env": "CHECKED_SUBSCRIBER"}, "diskFree": command}
    endpoint = Endpoint.model_validate({"title": "old", "database": database})
    chosen = [one for one in CHECKS if one.id == "disk-unknown"]
    with ExitStack() as stack:
        sessions = [stack.enter_context(connect(dsn, purpose="test")) for dsn in (source_db, target_db)]
        end = end_of(endpoint, sessions[0], tmp_path, lambda dsn: stack.enter_context(connect(dsn, purpose="test")))
        assert end.subscriber is not None
        found = run_checks(end, End(sessions[1], disk_free_bytes=1), ROUTES[0], checks=chosen)
    told = [one.what for one in found]
    assert [] == told if reason is None else reason in told[0]


def test_each_check_asks_for_all_that_it_needs(source_db: str, target_db: str) -> None:
    """Run by itself, so that no other check's questions can make up for one that it forgot to declare."""
    tripped.on(source_db, tripped.SCHEMA)
    with connect(source_db, purpose="test") as old, connect(target_db, purpose="test") as new:
        for one in CHECKS:
            run_checks(End(old), End(new), tripped.BOTH_WAYS, checks=[one])


def test_checks_leave_nothing_behind(source_db: str, target_db: str) -> None:
    """Read-only by transaction, whatever the session may do; settings of the session are as they were."""
    with connect(source_db, purpose="test") as old, connect(target_db, purpose="test") as new:
        run_checks(End(old), End(new), tripped.BOTH_WAYS)
        for session in (old, new):
            assert psycopg.pq.TransactionStatus.IDLE is session.info.transaction_status
            assert ("0", "off") == session.execute(
                "SELECT current_setting('statement_timeout'), current_setting('transaction_read_only')"
            ).fetchone()
            assert (None,) == session.execute("SELECT pg_current_xact_id_if_assigned()").fetchone()


def test_of_many_objects_some_are_named_and_the_rest_is_counted(source_db: str, target_db: str) -> None:
    """A database with a thousand tables without identity fills no screen."""
    tripped.on(
        source_db,
        "DO $$ BEGIN FOR n IN 1..60 LOOP EXECUTE format('CREATE TABLE public.t%s (a int)', n); END LOOP; END $$",
    )
    found = [one for one in tripped.look(source_db, target_db, tripped.REPLICATION) if one.id == "no-replica-identity"]
    assert (MOST + 1, "and 10 more") == (len(found), found[-1].what)


def test_the_proof_by_changes_needs_a_slot_of_its_own(source_db: str, target_db: str) -> None:
    """With one slot left, a target can follow; nothing is left then for a second log of the same changes."""
    with connect(source_db, purpose="test") as old, connect(target_db, purpose="test") as new:
        old.execute(
            "SELECT pg_create_physical_replication_slot('filler_' || n) FROM generate_series(1, "
            "current_setting('max_replication_slots')::int - (SELECT count(*)::int FROM pg_replication_slots) - 1) n"
        )
        try:
            full = [
                [
                    one.side
                    for one in run_checks(End(old), End(new), replace(tripped.REPLICATION, reads_changes=reads))
                    if one.id == "replication-slots-full"
                ]
                for reads in (False, True)
            ]
        finally:
            old.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name ~ '^filler_'"
            )
    assert [[], [Side.SOURCE]] == full
