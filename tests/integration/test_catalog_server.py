"""What is the server's and acts in a database: roles, settings, tablespaces, subscriptions; what a role may not see;
and what a comparison says that it left out."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from statehub_plan.demo.cluster import Cluster
from statehub_plan.model.spec import Waiver
from statehub_plan.postgres.catalog_stamp import catalog_stamp
from statehub_plan.postgres.compare import Answer, Comparison, compare
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.fence import fence
from statehub_plan.postgres.loading import source_settings
from tests.integration.moving import EPOCH, PASSWORD, RUN, TERM, database, fill, make_roles, prepare, run_script
from tests.integration.test_corpus_catalog import told

_HIDDEN = (
    "only that role itself and superusers may see its options; those of a mapping for PUBLIC also its server's owner"
)


@contextmanager
def roles(*dsns: str) -> Iterator[tuple[str, str]]:
    """A group and a login role that is a member of it, on the servers of these databases; gone in the end with all that
    they have there and what is set for them."""
    group, member = (f"{word}_{secrets.token_hex(4)}" for word in ("group", "member"))
    for dsn in dsns:
        each(dsn, f"CREATE ROLE {group}", f"CREATE ROLE {member} LOGIN PASSWORD '{PASSWORD}' IN ROLE {group}")
    try:
        yield group, member
    finally:
        for dsn in dsns:
            dropped = f"DROP OWNED BY {group}, {member} CASCADE", f"DROP ROLE {group}, {member}"
            each(dsn, "ALTER ROLE ALL RESET ALL", *dropped)


def each(dsn: str, *statements: str) -> None:
    """Runs statements, each in a transaction of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def name_of(dsn: str) -> str:
    """The database's name."""
    return str(conninfo_to_dict(dsn)["dbname"])


def on_both(source: str, target: str, script: str) -> None:
    """The same made on both sides."""
    for dsn in (source, target):
        run_script(dsn, script)


def differences(source: str, target: str) -> set[str]:
    """`kind object: aspect` of what differs, content apart."""
    return told(compare(source, target, content=False).differences)


# What is done on the source: what is told.
OF_ROLES = {
    "ALTER ROLE {member} SET search_path = 'old'": {"setting {member} everywhere: search_path: missing"},
    "ALTER ROLE ALL SET work_mem = '77MB'": {"setting every role everywhere: work_mem: missing"},
    "ALTER ROLE {group} SET default_transaction_read_only = on": {
        "setting {group} everywhere: default_transaction_read_only: missing"
    },
    "REVOKE {group} FROM {member}": {"role {group}: members"},
    "ALTER ROLE {group} BYPASSRLS": {"role {group}: bypasses row security"},
    "ALTER ROLE {member} BYPASSRLS": {"role {member}: bypasses row security"},
    "GRANT {member} TO pg_monitor": {"role {member}: members"},
    "ALTER ROLE {group} LOGIN": {"role {group}: may log in"},
    "ALTER ROLE {group} NOINHERIT": {"role {group}: inherits"},
    "ALTER ROLE {group} SUPERUSER": {"role {group}: superuser"},
    "GRANT SET ON PARAMETER log_min_duration_statement TO {group}": {
        "parameter privileges log_min_duration_statement: missing"
    },
}


@pytest.mark.parametrize("done", sorted(OF_ROLES))
def test_what_roles_may_is_compared(source_db: str, target_db: str, done: str) -> None:
    """Roles that something here names, and who acts for them as a member, with what is set for them; a stamp sees it
    as well."""
    with roles(source_db, target_db) as (group, member):
        words = {"group": group, "member": member}
        on_both(source_db, target_db, f"CREATE TABLE t (a integer PRIMARY KEY); GRANT ALL ON t TO {group}")
        assert set() == differences(source_db, target_db)
        with connect(source_db, purpose="test") as connection:
            before = catalog_stamp(connection)
            each(source_db, done.format(**words))
            assert before != catalog_stamp(connection)
        assert {line.format(**words) for line in OF_ROLES[done]} == differences(source_db, target_db)
        each(source_db, f"REVOKE SET ON PARAMETER log_min_duration_statement FROM {group}")


def test_a_role_that_only_one_side_names_is_a_note(
    source_cluster: Cluster, target_cluster: Cluster, source_db: str, target_db: str
) -> None:
    """What names it differs, and is told once."""
    with roles(source_db, target_db) as (group, _):
        on_both(source_db, target_db, "CREATE TABLE t (a integer PRIMARY KEY)")
        run_script(target_db, f"GRANT SELECT ON t TO {group}")
        found = compare(source_db, target_db, content=False)
        assert {"relation public.t: privileges"} == told(found.differences)
        assert f"role {group} is on the target only: whatever names it here is told itself" in found.notes


def test_who_compares_is_a_member_without_being_a_difference(
    source_cluster: Cluster, target_cluster: Cluster, source_db: str, target_db: str
) -> None:
    """A move makes the tool's role a member of the owners, on one side and not on the other, and sets what it needs.
    What it may do through another role, as the service does whose role it may be, is told."""
    with roles(source_db, target_db) as (group, member):
        owned = f"CREATE TABLE t (a integer PRIMARY KEY); ALTER TABLE t OWNER TO {group}"
        on_both(source_db, target_db, owned)
        each(source_db, f"REVOKE {group} FROM {member}", f"ALTER ROLE {member} SET work_mem = '7MB'")
        limited = target_cluster.dsn(name_of(target_db), member, PASSWORD)
        assert Answer.EQUAL is compare(source_db, limited, content=False).answer
        assert Answer.DIFFERENT is compare(source_db, target_db, content=False).answer
        on_both(source_db, target_db, "ALTER TABLE t OWNER TO postgres; GRANT ALL ON t TO " + group)
        assert {f"role {group}: members"} == told(compare(source_db, limited, content=False).differences)


def test_whoever_may_read_or_write_everything_is_told(source_db: str, target_db: str) -> None:
    """No grant in the database names them."""
    with roles(source_db, target_db) as (_, member):
        for privilege in ("pg_read_all_data", "pg_write_all_data"):
            each(target_db, f"GRANT {privilege} TO {member}")
            assert {f"role {privilege}: members"} == differences(source_db, target_db)
            each(target_db, f"REVOKE {privilege} FROM {member}")


def test_only_the_tools_own_freeze_is_passed_over(source_db: str, target_db: str) -> None:
    """A read-only default that the fence has set is no difference, on either side, and goes when the fence does; one
    that a user has set always is."""
    on_both(source_db, target_db, "CREATE TABLE t (a integer PRIMARY KEY)")
    line = "setting every role: default_transaction_read_only: "
    with connect(target_db, purpose="test") as target, connect(source_db, purpose="test") as source:
        fence(target, term=TERM, run=RUN, epoch=EPOCH)
        assert set() == differences(source_db, target_db)
        stamp = catalog_stamp(source)
        source.execute(f"ALTER DATABASE {name_of(source_db)} SET default_transaction_read_only = on".encode())
        assert stamp != catalog_stamp(source)
        assert {line + "missing"} == differences(source_db, target_db)
        fence(source, term=TERM, run=RUN, epoch=EPOCH)
        assert set() == differences(source_db, target_db)


def test_a_roles_own_read_only_default_travels(
    source_cluster: Cluster, target_cluster: Cluster, source_db: str, target_db: str, tmp_path: Path
) -> None:
    """It is the user's, whatever the fence sets for the database."""
    make_roles(source_cluster)
    make_roles(target_cluster)
    run_script(
        source_db,
        "CREATE TABLE t (a integer PRIMARY KEY); "
        f"ALTER ROLE mover_app IN DATABASE {name_of(source_db)} SET default_transaction_read_only = on",
    )
    prepare(source_db, target_db, tmp_path)
    fill(source_db, target_db)
    assert set() == differences(source_db, target_db)
    with connect(source_db, purpose="test") as source:
        assert (("mover_app", "default_transaction_read_only", "on"),) == source_settings(source)


def test_tablespaces_are_told_once_each(target_cluster: Cluster, source_db: str, target_db: str) -> None:
    """One waiver is enough for all that lies in one."""
    place = f"place_{secrets.token_hex(4)}"
    on_both(source_db, target_db, "CREATE TABLE t (a integer PRIMARY KEY); CREATE TABLE u (a integer)")
    each(target_db, "SET allow_in_place_tablespaces = on", f"CREATE TABLESPACE {place} LOCATION ''")
    try:
        run_script(
            target_db,
            f"ALTER TABLE t SET TABLESPACE {place}; ALTER INDEX t_pkey SET TABLESPACE {place}; "
            f"ALTER TABLE u SET TABLESPACE {place}",
        )
        assert {f"tablespace {place}: extra"} == differences(source_db, target_db)
        waive = Waiver(kind="tablespace", object=place, reason="that host has another disk")
        assert Answer.EQUAL is compare(source_db, target_db, content=False, waive=(waive,)).answer
    finally:
        run_script(target_db, "DROP TABLE t, u")
        each(target_db, f"DROP TABLESPACE {place}")


SUBSCRIPTION = "CREATE SUBSCRIPTION of_the_user CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false{})"


@pytest.mark.parametrize(
    ("option", "other"),
    [
        ("streaming", "off"),
        ("two_phase", "on"),
        ("disable_on_error", "on"),
        ("origin", "none"),
        ("run_as_owner", "on"),
        ("password_required", "off"),
        ("failover", "on"),
    ],
)
def test_what_a_subscription_is_made_with_is_compared(
    target_cluster: Cluster, target_db: str, option: str, other: str
) -> None:
    """Each option decides what arrives, and by whose leave; the stamp tells of it, too."""
    with database(target_cluster) as another:
        try:
            each(target_db, SUBSCRIPTION.format(", slot_name = NONE"))
            each(another, SUBSCRIPTION.format(", slot_name = NONE"))
            assert set() == differences(target_db, another)
            each(another, "DROP SUBSCRIPTION of_the_user")
            each(another, SUBSCRIPTION.format(f", slot_name = NONE, {option} = {other}"))
            assert {f"subscription of_the_user: {option}"} == differences(target_db, another)
        finally:
            for dsn in (target_db, another):
                each(dsn, "DROP SUBSCRIPTION IF EXISTS of_the_user")


def test_an_option_that_was_altered_changes_the_stamp(target_db: str) -> None:
    """The row of a subscription may not be read as a whole, and so no version of it tells of that."""
    try:
        each(target_db, SUBSCRIPTION.format(", slot_name = NONE"))
        with connect(target_db, purpose="test") as connection:
            for change in ("streaming = off", "disable_on_error = on", "origin = none", "run_as_owner = on"):
                before = catalog_stamp(connection)
                each(target_db, f"ALTER SUBSCRIPTION of_the_user SET ({change})")
                assert before != catalog_stamp(connection), change
    finally:
        each(target_db, "DROP SUBSCRIPTION IF EXISTS of_the_user")


def test_what_hangs_on_a_table_and_has_no_name_is_compared(target_cluster: Cluster, target_db: str) -> None:
    """USAGE of its row type, and whose a NOT NULL is that it has inherited."""
    with database(target_cluster) as another:
        for dsn in (target_db, another):
            run_script(dsn, "CREATE TABLE public.p (a integer NOT NULL); CREATE TABLE public.t () INHERITS (public.p)")
        assert set() == differences(target_db, another)
        run_script(target_db, "REVOKE USAGE ON TYPE public.p FROM PUBLIC")
        assert {"relation public.p: privileges of its row type"} == differences(target_db, another)
        run_script(target_db, "GRANT USAGE ON TYPE public.p TO PUBLIC; ALTER TABLE public.t ALTER a SET NOT NULL")
        assert {"column public.t.a: not null is local"} <= differences(target_db, another)


def test_subscriptions_are_compared_and_the_tools_own_are_a_note(source_db: str, target_db: str) -> None:
    """The tool's is named, and left out."""
    make = "CREATE SUBSCRIPTION {} CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false, slot_name = NONE)"
    names = "of_the_user", "statehub_plan_1234_5"
    try:
        with psycopg.connect(target_db, autocommit=True) as connection:
            for name in names:
                connection.execute(make.format(name).encode())
        found = compare(source_db, target_db, content=False)
        assert {"subscription of_the_user: extra"} == told(found.differences)
        assert "target: the tool's own subscriptions were left out: statehub_plan_1234_5" in found.notes
    finally:
        with psycopg.connect(target_db, autocommit=True) as connection:
            for name in names:
                connection.execute(f"DROP SUBSCRIPTION IF EXISTS {name}".encode())


MAPPED = (
    "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w; "
    "CREATE USER MAPPING FOR {group} SERVER far OPTIONS (password 'one'); CREATE USER MAPPING FOR {member} SERVER far; "
    "CREATE TABLE t (a integer PRIMARY KEY); ALTER TABLE t OWNER TO {member}; "
    "GRANT USAGE ON FOREIGN SERVER far TO {member}"
)


def test_hidden_options_make_the_answer_unknown(
    source_cluster: Cluster, target_cluster: Cluster, source_db: str, target_db: str
) -> None:
    """What the role of either side may not see may differ: unknown, unless the plan leaves it out. Its own mapping,
    which has no options, is not hidden."""
    with roles(source_db, target_db) as (group, member):
        on_both(source_db, target_db, MAPPED.format(group=group, member=member))
        run_script(source_db, f"ALTER USER MAPPING FOR {group} SERVER far OPTIONS (SET password 'other')")
        mapping = f"user mapping {group} on far"
        assert {f"{mapping}: options digest"} == differences(source_db, target_db)
        limited = target_cluster.dsn(name_of(target_db), member, PASSWORD)
        found = compare(source_db, limited)
        assert Answer.UNKNOWN is found.answer
        assert (f"{mapping}: target: {_HIDDEN}",) == found.unknown
        waive = Waiver(kind="user mapping", object=f"{group} on far", reason="it is written anew")
        assert Answer.EQUAL is compare(source_db, limited, waive=(waive,)).answer


def test_what_was_left_out_is_told(source_db: str, target_db: str) -> None:
    """Rows of materialized views are derived and not compared: a note names them, some of them where there are many,
    whether the catalogs are read or only their stamps."""
    views = "; ".join(f"CREATE MATERIALIZED VIEW m{number:02} AS SELECT * FROM t" for number in range(12))
    on_both(source_db, target_db, f"CREATE TABLE t AS SELECT 1 AS a; {views}")
    run_script(target_db, "UPDATE t SET a = 2; REFRESH MATERIALIZED VIEW m00; UPDATE t SET a = 1")
    (note,) = notes_about(compare(source_db, target_db), "materialized views")
    assert note.startswith(
        "both sides: rows of materialized views were not compared, only how they are defined: public.m00"
    )
    assert "public.m09 and 2 more" in note


def test_versions_of_the_servers_collations_are_compared(source_cluster: Cluster, source_db: str) -> None:
    """Where a column, an index or a type sorts by one; and a version that is no longer installed is a note."""
    with database(source_cluster) as other:
        with psycopg.connect(source_db) as connection:
            if connection.execute("SELECT FROM pg_collation WHERE collname = 'de-x-icu'").fetchone() is None:
                pytest.skip("this server was built without ICU")
        made = (
            'CREATE TABLE t (a text COLLATE "de-x-icu", b text, c text); CREATE INDEX ON t (b COLLATE "fr-x-icu"); '
            'CREATE DOMAIN d AS text COLLATE "es-x-icu"; '
            'CREATE VIEW v AS SELECT b FROM t ORDER BY b COLLATE "it-x-icu"; '
            'CREATE INDEX ON t ((upper(c COLLATE "pl-x-icu")))'
        )
        on_both(source_db, other, made)
        assert set() == differences(source_db, other)
        run_script(other, "UPDATE pg_collation SET collversion = '1.2.3' WHERE collname ~ '-x-icu$'")
        found = compare(source_db, other)
        used = ("de", "es", "fr", "it", "pl")
        assert {f"collation pg_catalog.{word}-x-icu: version" for word in used} == told(found.differences)
        (note,) = notes_about(found, "collations")
        assert note.startswith("target: indexes may be out of order")
        assert '"de-x-icu" (1.2.3, now ' in note


PARTITIONED = (
    "CREATE TABLE r (id integer PRIMARY KEY); CREATE TABLE p (a integer) PARTITION BY LIST (a); "
    "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); "
    "ALTER TABLE p ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES r NOT VALID"
)


def test_what_only_18_can_say_is_compared(target_cluster: Cluster, target_db: str) -> None:
    """NOT NULL with a name and without heirs; a foreign key that is valid in one partition and not in its parent."""
    with database(target_cluster) as other:
        on_both(target_db, other, PARTITIONED)
        run_script(
            target_db,
            "CREATE TABLE t (a integer NOT NULL, b integer CONSTRAINT named NOT NULL); "
            "CREATE DOMAIN d AS integer CONSTRAINT named NOT NULL",
        )
        run_script(
            other,
            "CREATE TABLE t (a integer NOT NULL NO INHERIT, b integer NOT NULL); CREATE DOMAIN d AS integer NOT NULL",
        )
        with psycopg.connect(other) as connection:
            (name,) = connection.execute(
                "SELECT conname FROM pg_constraint WHERE conrelid = 'p1'::regclass AND contype = 'f'"
            ).fetchall()[0]
            connection.execute(f'ALTER TABLE p1 VALIDATE CONSTRAINT "{name}"'.encode())
        assert {
            "column public.t.a: not null inherits",
            "column public.t.b: not null constraint",
            "type public.d: not null constraint",
            "relation public.p1: foreign keys unlike their parents",
        } == differences(target_db, other)


def notes_about(found: Comparison, words: str) -> list[str]:
    """The notes in which these words are."""
    return [note for note in found.notes if words in note]
