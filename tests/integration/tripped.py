"""Situations on real servers that trip the pre-flight checks: many of them in few databases, so that it stays quick.

`EXPECTED` says for each situation what has to be found: check → {(side, subject)}; a subject of None stands for any.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.conninfo import make_conninfo

from statehub_plan.demo.cluster import Cluster
from statehub_plan.demo.site import SUBSCRIBERS_SINCE
from statehub_plan.model.preflight import Found, Side
from statehub_plan.model.spec import TransferMethod, Waiver
from statehub_plan.postgres import state
from statehub_plan.postgres.checks.declare import Move
from statehub_plan.postgres.checks.run import End, run_checks
from statehub_plan.postgres.connect import connect
from tests.integration.moving import database

Expected = Mapping[str, set[tuple[str, str | None]]]

PASSWORD = "only-for-these-checks"
REPLICATION = Move(
    method=TransferMethod.REPLICATION,
    waive=(
        Waiver(table="public.waived", reason="it may be lost"),
        Waiver(kind="extension", object="fuzzystrmatch", reason="the platform's own"),
    ),
)
BOTH_WAYS = Move(method=TransferMethod.REPLICATION, following=True, patience_s=0.0)
PLENTY = 1 << 50


def on(dsn: str, *statements: str) -> None:
    """Each statement by itself, as the superuser, whatever the cluster waits for."""
    with psycopg.connect(dsn, autocommit=True, options="-c synchronous_commit=local") as connection:
        for statement in statements:
            connection.execute(statement.encode())


def sound_hub(cluster: Cluster) -> str:
    """An empty database `hub` and roles with all the privileges that the checks ask for; its DSN for the tool's."""
    on(
        cluster.dsn(),
        f"CREATE ROLE tool LOGIN REPLICATION PASSWORD '{PASSWORD}' IN ROLE pg_signal_backend, pg_read_all_stats",
        f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'",
        "CREATE DATABASE hub TEMPLATE template0 OWNER tool",
    )
    on(
        cluster.dsn("hub"),
        "GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_advance(text, pg_lsn) TO tool",
        "GRANT CREATE ON SCHEMA public TO tool"
        if cluster.installation.major >= 15
        else "DROP SCHEMA public; "
        "CREATE SCHEMA public AUTHORIZATION pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC; "
        "COMMENT ON SCHEMA public IS 'standard public schema'; GRANT CREATE ON SCHEMA public TO tool",
    )
    if cluster.installation.major >= SUBSCRIBERS_SINCE:
        on(cluster.dsn(), "GRANT pg_create_subscription TO tool")
    return cluster.dsn("hub", "tool", PASSWORD)


def look(source: str, target: str, move: Move) -> tuple[Found, ...]:
    """What the checks say as superuser."""
    with connect(source, purpose="test", read_only=True) as old, connect(target, purpose="test") as new:
        return run_checks(End(old, disk_free_bytes=PLENTY), End(new, disk_free_bytes=PLENTY), move)


SCHEMA = """
CREATE TABLE public.bare (a int);
CREATE TABLE public.indexed (a int NOT NULL UNIQUE, b int UNIQUE);
CREATE TABLE public.excluded (r int4range, EXCLUDE USING gist (r WITH &&));
CREATE TABLE public.partial (a int NOT NULL); CREATE UNIQUE INDEX ON public.partial (a) WHERE a > 0;
CREATE TABLE public.late (id int PRIMARY KEY DEFERRABLE);
CREATE TABLE public.silent (id int PRIMARY KEY); ALTER TABLE public.silent REPLICA IDENTITY NOTHING;
CREATE TABLE public.lost (id int NOT NULL); CREATE UNIQUE INDEX lost_id ON public.lost (id);
ALTER TABLE public.lost REPLICA IDENTITY USING INDEX lost_id; DROP INDEX public.lost_id;
CREATE TYPE public.pair AS (a int, j json); CREATE DOMAIN public.doc AS json; CREATE TYPE public.mood AS ENUM ('fine');
CREATE TABLE public.whole (a int, j json, p point[], d public.doc, c public.pair,
    ok1 jsonb, ok2 varchar(3), ok3 inet, ok4 public.mood, ok5 int4range, ok6 text[], ok7 oidvector, ok8 cidr, b box);
ALTER TABLE public.whole REPLICA IDENTITY FULL;
CREATE TABLE public.keyed_whole (id int PRIMARY KEY, j json); ALTER TABLE public.keyed_whole REPLICA IDENTITY FULL;
CREATE TABLE public.computed (id int, twice int GENERATED ALWAYS AS (id * 2) STORED PRIMARY KEY);
CREATE TABLE public.computed_full (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED);
ALTER TABLE public.computed_full REPLICA IDENTITY FULL;
CREATE TABLE public.computed_fine (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED UNIQUE);
CREATE UNLOGGED TABLE public.scratch (a int); CREATE UNLOGGED TABLE public.waived (a int);
CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER elsewhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE public.remote (a int) SERVER elsewhere;
CREATE TABLE public.mended (id int PRIMARY KEY, a int); INSERT INTO public.mended VALUES (1, 1), (2, 1);
CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE public.watched (id int PRIMARY KEY);
CREATE TRIGGER always BEFORE INSERT ON public.watched FOR EACH ROW EXECUTE FUNCTION public.nothing();
CREATE TRIGGER usual BEFORE INSERT ON public.watched FOR EACH ROW EXECUTE FUNCTION public.nothing();
ALTER TABLE public.watched ENABLE ALWAYS TRIGGER always;
CREATE RULE twice AS ON INSERT TO public.watched DO ALSO NOTIFY watched;
CREATE MATERIALIZED VIEW public.kept AS SELECT 1 AS one;
CREATE TABLE public.parent (id int PRIMARY KEY);
CREATE TABLE public.child (PRIMARY KEY (id)) INHERITS (public.parent);
CREATE TABLE public.days (at date, what text, PRIMARY KEY (at)) PARTITION BY RANGE (at);
CREATE TABLE public.days_odd (what text, at date NOT NULL, PRIMARY KEY (at));
ALTER TABLE public.days ATTACH PARTITION public.days_odd FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE SEQUENCE public.spent AS smallint; SELECT setval('public.spent', 32000);
CREATE SEQUENCE public.spent_down INCREMENT -1 MINVALUE -100 MAXVALUE -1; SELECT setval('public.spent_down', -99);
CREATE TABLE public.guarded (id int PRIMARY KEY); ALTER TABLE public.guarded ENABLE ROW LEVEL SECURITY;
GRANT SELECT (id) ON public.guarded TO CURRENT_USER;
CREATE TABLE public.packed (id int PRIMARY KEY, body text COMPRESSION lz4, page xml);
CREATE TABLE public.sorted (id int PRIMARY KEY, name text COLLATE "en-x-icu");
CREATE COLLATION public.german (provider = icu, locale = 'de');
ALTER TABLE public.sorted ADD german text COLLATE public.german;
UPDATE pg_collation SET collversion = '1' WHERE collname = 'german';
CREATE FUNCTION public.alike(xid8, int8) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION public.native(oid) RETURNS void AS '$libdir/plpgsql', 'plpgsql_validator' LANGUAGE c;
SET allow_system_table_mods = on;
CREATE TYPE pg_catalog.strange AS ENUM ('a');
CREATE TABLE public.stranger (id int PRIMARY KEY, a pg_catalog.strange[]);
CREATE EXTENSION adminpack; CREATE EXTENSION hstore; CREATE TABLE public.settings (a integer);
INSERT INTO public.settings VALUES (1); ALTER EXTENSION hstore ADD TABLE public.settings;
UPDATE pg_extension SET extconfig = ARRAY['settings'::regclass::oid], extcondition = ARRAY[''], extversion = '99'
WHERE extname = 'hstore';
SELECT lo_create(0);
CREATE OPERATOR public.= (LEFTARG = xid8, RIGHTARG = int8, FUNCTION = public.alike);
CREATE VIEW public.unsaid AS SELECT NULLIF('1'::xid8, 2::int8) AS a;
"""
_NOT_IN_A_TRANSACTION = (
    "SET allow_in_place_tablespaces = on",
    "CREATE TABLESPACE checked_place LOCATION ''",
    "CREATE TABLE public.placed (id int PRIMARY KEY) TABLESPACE checked_place",
)


@contextmanager
def schema(source: Cluster, target: Cluster) -> Iterator[tuple[Found, ...]]:
    """One database with everything in it that a move does not simply carry."""
    with database(source) as old, database(target) as new:
        try:
            on(old, SCHEMA)
            with psycopg.connect(old, autocommit=True) as connection:
                name = connection.info.dbname
                for statement in (
                    *_NOT_IN_A_TRANSACTION,
                    f'ALTER DATABASE "{name}" SET work_mem = 8192',
                    "CREATE FUNCTION public.told() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
                    "CREATE EVENT TRIGGER interferes ON ddl_command_end EXECUTE FUNCTION public.told()",
                ):
                    connection.execute(statement.encode())
                with suppress(psycopg.errors.UniqueViolation):
                    connection.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON public.mended (a)")
            there = psycopg.conninfo.conninfo_to_dict(new)["dbname"]
            on(
                new,
                "CREATE EXTENSION citext; CREATE EXTENSION fuzzystrmatch",
                f'ALTER DATABASE "{there}" SET search_path = app',
            )
            yield look(old, new, REPLICATION)
        finally:
            on(old, "DROP TABLE IF EXISTS public.placed", "DROP TABLESPACE IF EXISTS checked_place")


_ROLES = ("checked_app", "checked_stranger", "checked_owner", "checked_group", "checked_only_here")


@contextmanager
def stranger(source: Cluster, target: Cluster) -> Iterator[tuple[Found, ...]]:
    """A role that may nothing, on both sides; roles that differ; a service that is shut out."""
    login = f"LOGIN PASSWORD '{PASSWORD}'"
    with database(source) as old, database(target) as new:
        names = [psycopg.conninfo.conninfo_to_dict(dsn)["dbname"] for dsn in (old, new)]
        try:
            for dsn, name in zip((old, new), names, strict=True):
                on(
                    dsn,
                    f"CREATE ROLE checked_app {login}; CREATE ROLE checked_stranger {login}",
                    "CREATE ROLE checked_owner; CREATE ROLE checked_group",
                    "ALTER ROLE checked_stranger SET lock_timeout = '5s'; "
                    f'REVOKE CREATE ON DATABASE "{name}" FROM PUBLIC',
                )
            on(
                old,
                f"""
                CREATE ROLE checked_only_here; GRANT checked_group TO checked_owner;
                ALTER ROLE checked_owner SET search_path = app; ALTER ROLE checked_owner BYPASSRLS;
                CREATE TABLE public.owned (id serial PRIMARY KEY); ALTER TABLE public.owned OWNER TO checked_owner;
                ALTER TABLE public.owned ENABLE ROW LEVEL SECURITY; ALTER TABLE public.owned FORCE ROW LEVEL SECURITY;
                CREATE TABLE public.own (id int PRIMARY KEY); ALTER TABLE public.own OWNER TO checked_stranger;
                REVOKE DELETE ON public.own FROM checked_stranger; GRANT SELECT ON public.own TO checked_only_here;
                GRANT SELECT ON public.own TO checked_app; GRANT SELECT ON pg_catalog.pg_authid TO checked_app;
                CREATE SEQUENCE public.numbers; ALTER SEQUENCE public.numbers OWNER TO checked_owner;
                CREATE EXTENSION pageinspect;
                CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
                CREATE USER MAPPING FOR checked_app SERVER far OPTIONS (password 'one');
                CREATE USER MAPPING FOR checked_stranger SERVER far;
                GRANT USAGE ON FOREIGN SERVER far TO checked_stranger;
                ALTER DATABASE "{names[0]}" SET session_replication_role = replica
                """,
            )
            on(
                new,
                "CREATE SCHEMA statehub_plan; DROP EXTENSION plpgsql",
                "ALTER ROLE checked_app NOLOGIN CONNECTION LIMIT 3",
            )
            as_stranger = [make_conninfo(dsn, user="checked_stranger", password=PASSWORD) for dsn in (old, new)]
            with (
                psycopg.connect(make_conninfo(old, user="checked_app", password=PASSWORD), autocommit=True) as app,
                psycopg.connect(old) as superuser,
                connect(as_stranger[0], purpose="test") as tool,
                connect(as_stranger[1], purpose="test") as other,
            ):
                app.execute("SELECT 1")
                superuser.execute("SELECT 1")
                yield run_checks(
                    End(
                        tool,
                        app_roles=("checked_app", "postgres"),
                        replication_dsn="host=127.0.0.1 user=checked_owner",
                        disk_free_bytes=1,
                    ),
                    End(
                        other,
                        app_roles=("checked_app", "checked_nobody"),
                        replication_dsn=make_conninfo(new, user="checked_unknown"),
                        disk_free_bytes=1,
                    ),
                    BOTH_WAYS,
                )
        finally:
            on(old, "DROP OWNED BY checked_owner, checked_only_here, checked_stranger, checked_app")
            for dsn in (old, new):
                for role in _ROLES:
                    on(dsn, f"DROP ROLE IF EXISTS {role}")


@contextmanager
def busy(source: Cluster, target: Cluster) -> Iterator[tuple[Found, ...]]:
    """Somebody is at work on the source, consumers read it, and the target is not what it should be."""
    with database(source) as old, database(target) as new:
        on(
            old,
            "CREATE TABLE public.settled (id int PRIMARY KEY)",
            "CREATE PUBLICATION feed FOR TABLE public.settled",
            "CREATE PUBLICATION everything FOR ALL TABLES",
            "CREATE SUBSCRIPTION fed CONNECTION 'host=nowhere.invalid' PUBLICATION feed "
            "WITH (connect = false, slot_name = NONE)",
            "SELECT pg_create_logical_replication_slot('checked_orphan', 'pgoutput')",
        )
        on(
            new,
            "CREATE TABLE public.settled (id int PRIMARY KEY)",
            f"CREATE SUBSCRIPTION checked_consumer CONNECTION '{make_conninfo(old)}' PUBLICATION feed "
            "WITH (copy_data = false)",
        )
        with connect(new, purpose="test") as copied:
            state.install(copied)
            copied.execute("UPDATE statehub_plan.state SET system_identifier = '1'")
        try:
            with (
                closing(psycopg.connect(old)) as writer,
                closing(psycopg.connect(old)) as idle,
                closing(psycopg.connect(old)) as long,
                _standby(old),
            ):
                for each in (writer, idle, long):
                    each.execute("SELECT 1")
                writer.rollback()
                writer.tpc_begin("checked-gid")
                writer.execute("INSERT INTO public.settled VALUES (1)")
                writer.tpc_prepare()
                long.pgconn.send_query(b"SELECT pg_sleep(600)")
                _until(
                    old,
                    "SELECT count(*) = 2 FROM (SELECT FROM pg_stat_activity WHERE state = 'active' AND query ~ "
                    "'^SELECT pg_sleep' UNION ALL SELECT FROM pg_replication_slots WHERE active "
                    "AND slot_name = 'checked_consumer') x",
                )
                yield look(old, new, BOTH_WAYS)
        finally:
            on(old, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'")
            on(new, "DROP SUBSCRIPTION checked_consumer")
            on(
                old,
                "DROP SUBSCRIPTION fed",
                "SELECT pg_drop_replication_slot('checked_orphan')",
                "ROLLBACK PREPARED 'checked-gid'",
            )


@contextmanager
def _standby(dsn: str) -> Iterator[None]:
    """What a server sees of a standby that streams from it."""
    with psycopg.connect(dsn) as asking:
        [(lsn,)] = asking.execute("SELECT pg_current_wal_flush_lsn()::text").fetchall()
    line = psycopg.pq.PGconn.connect(make_conninfo(dsn, replication="true").encode())
    try:
        line.exec_(f"START_REPLICATION PHYSICAL {lsn}".encode())
        _until(dsn, "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming' AND application_name = ''")
        yield
    finally:
        line.finish()


def _until(dsn: str, query: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute(query.encode()).fetchone() != (True,):
            assert time.monotonic() < deadline, query
            time.sleep(0.02)


BAD_SOURCE = {
    "wal_level": "replica",
    "max_wal_senders": "1",
    "max_replication_slots": "1",
    "max_slot_wal_keep_size": "64MB",
    "wal_sender_timeout": "0",
    "wal_receiver_timeout": "0",
    "max_connections": "8",
    "max_prepared_transactions": "2",
    "max_locks_per_transaction": "10",
    "max_worker_processes": "0",
    "max_logical_replication_workers": "0",
    "max_sync_workers_per_subscription": "0",
    "archive_mode": "on",
    "archive_command": "false",
    "shared_preload_libraries": "auto_explain",
    "fsync": "off",
    "full_page_writes": "off",
    "extra_float_digits": "3",
    "synchronous_standby_names": "nobody",
}
BAD_TARGET = {
    "max_connections": "6",
    "max_prepared_transactions": "0",
    "max_locks_per_transaction": "10",
    "idle_replication_slot_timeout": "60",
    "max_wal_senders": "10",
    "fsync": "off",
}
_MANY_TABLES = "DO $$ BEGIN FOR n IN {} LOOP EXECUTE format('CREATE TABLE public.t%s (a int)', n); END LOOP; END $$"


@contextmanager
def misconfigured(source: Cluster, target: Cluster) -> Iterator[tuple[Found, ...]]:
    """Servers with every setting wrong; the target's encoding and collation are not the source's."""
    old = source.dsn()
    on(
        old,
        *(_MANY_TABLES.format(f"{first}..{first + 34}") for first in range(0, 105, 35)),
        "SELECT pg_create_physical_replication_slot('checked_orphan', true)",
        "SELECT pg_replication_origin_create('checked_origin')",
        "SELECT pg_switch_wal()",
    )
    on(target.dsn(), "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    _until(old, "SELECT failed_count > 0 FROM pg_stat_archiver")
    with connect(old, purpose="test") as here, connect(target.dsn("latin"), purpose="test") as there:
        yield run_checks(End(here), End(there), BOTH_WAYS, now=lambda: datetime.now(UTC) - timedelta(hours=1))


@contextmanager
def standby(source: Cluster, target: Cluster) -> Iterator[tuple[Found, ...]]:
    """The target is in recovery."""
    target.stop()
    (target.data_dir / "standby.signal").touch()
    target.start()
    with connect(source.dsn(), purpose="test") as here, connect(target.dsn(), purpose="test") as there:
        yield run_checks(End(here), End(there), Move(method=TransferMethod.DUMP))


NEWER = """
CREATE TABLE public.newer (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL,
    r int4range, during daterange, CONSTRAINT newer_small CHECK (id < 100) NOT ENFORCED,
    CONSTRAINT newer_during UNIQUE (r, during WITHOUT OVERLAPS), name text);
ALTER TABLE public.newer ADD CONSTRAINT newer_name NOT NULL name NOT VALID;
CREATE TABLE public.newer_alone (a int CONSTRAINT newer_alone_a NOT NULL NO INHERIT);
CREATE TABLE public.newer_parts (id int GENERATED ALWAYS AS IDENTITY, r int4range,
    CONSTRAINT newer_apart EXCLUDE USING gist (r WITH =)) PARTITION BY RANGE (r);
CREATE TABLE public.known (id int PRIMARY KEY, a int UNIQUE NULLS NOT DISTINCT,
    b int GENERATED ALWAYS AS (a + 1) STORED, FOREIGN KEY (a) REFERENCES public.known ON DELETE SET NULL (a));
CREATE VIEW public.invoked WITH (security_invoker) AS SELECT 1 AS one;
"""


@contextmanager
def exchanged(source: Cluster, target: Cluster) -> Iterator[tuple[Found, ...]]:
    """From the newer version back to the older one, with what only the newer one knows."""
    with database(source) as old, database(target) as new:
        on(new, NEWER)
        yield look(new, old, REPLICATION)


@contextmanager
def same(source: Cluster, target: Cluster) -> Iterator[tuple[Found, ...]]:
    """Two names for one database."""
    with database(source) as old:
        yield look(old, old.replace("127.0.0.1", "localhost"), REPLICATION)


Situation = Callable[[Cluster, Cluster], AbstractContextManager[tuple[Found, ...]]]
SITUATIONS: dict[str, Situation] = {
    one.__name__: one for one in (schema, stranger, busy, misconfigured, standby, exchanged, same)
}
OWN_CLUSTERS = ("misconfigured", "standby")


def _at(side: Side, *subjects: str | None) -> set[tuple[str, str | None]]:
    return {(side.value, subject) for subject in subjects or (None,)}


def source_(*subjects: str | None) -> set[tuple[str, str | None]]:
    """Found on the source."""
    return _at(Side.SOURCE, *subjects)


def target_(*subjects: str | None) -> set[tuple[str, str | None]]:
    """Found on the target."""
    return _at(Side.TARGET, *subjects)


EXPECTED: dict[str, Expected] = {
    "schema": {
        "no-replica-identity": source_("public.bare", "public.indexed", "public.excluded", "public.partial"),
        "replica-identity-deferrable": source_("public.late"),
        "replica-identity-nothing": source_("public.silent"),
        "replica-identity-index-gone": source_("public.lost"),
        "replica-identity-uncomparable": source_(
            "public.whole.b", "public.whole.c", "public.whole.d", "public.whole.j", "public.whole.p"
        ),
        "replica-identity-full": source_("public.whole"),
        "replica-identity-generated": source_("public.computed"),
        "unlogged-tables": source_("public.scratch"),
        "large-objects": source_(),
        "foreign-tables": source_("elsewhere"),
        "invalid-indexes": source_("public.broken"),
        "triggers-on-apply": source_("public.watched.always"),
        "event-triggers": source_("interferes"),
        "rules": source_(),
        "materialized-views": source_(),
        "inheritance": source_(),
        "partitions": source_(),
        "partition-column-order": source_("public.days_odd"),
        "generated-columns": source_(),
        "sequences": source_(),
        "sequence-near-end": source_("public.spent", "public.spent_down"),
        "row-security": source_(),
        "column-privileges": source_(),
        "comparison-will-differ": target_(
            "extension citext",
            "extension hstore",
            "setting every role: search_path",
            "tablespace checked_place",
            "type pg_catalog.strange",
        ),
        "database-settings": source_(),
        "xml-unsupported": target_("public.packed.page"),
        "lz4-unsupported": target_("public.packed.body"),
        "type-missing": target_("public.stranger.a"),
        "collation-missing": target_("en-x-icu", "public.german"),
        "collation-version-stale": source_("public.german"),
        "extension-unavailable": target_("adminpack"),
        "extension-older": target_("hstore"),
        "extension-data": source_("public.settings"),
        "c-functions": source_("public.native(oid)"),
        "operators-unsaid": source_('rule "_RETURN" on public.unsaid'),
    },
    "stranger": {
        "database-not-owned": source_() | target_(),
        "schema-not-creatable": source_(),
        "schema-not-owned": target_(),
        "plpgsql-missing": target_(),
        "table-not-owned": source_(None),
        "sequence-not-owned": source_(None),
        "table-not-lockable": source_("public.own"),
        "sessions-not-endable": source_() | target_(),
        "sessions-hidden": source_(),
        "table-unreadable": source_("public.owned"),
        "replication-privilege": source_() | target_(),
        "replication-login": source_("checked_owner") | target_("checked_unknown"),
        "publication-not-creatable": source_() | target_(),
        "subscription-not-creatable": source_() | target_(),
        "subscription-without-create": target_(),
        "subscription-without-password": target_(),
        "apply-cannot-become-owner": target_("checked_owner"),
        "row-security-forced": target_("public.owned"),
        "origin-not-advanceable": source_(),
        "apply-lock-timeout": source_() | target_(),
        "role-missing": target_("checked_only_here"),
        "role-not-grantable": target_("checked_owner"),
        "system-privileges": target_("pg_catalog.pg_authid"),
        "role-attributes-differ": target_("checked_app", "checked_owner"),
        "role-memberships-differ": target_("checked_owner"),
        "role-settings-differ": target_("checked_owner"),
        "connection-limit-lower": target_("checked_app"),
        "mapping-options-hidden": source_("checked_app on far") | target_("checked_app on far"),
        "app-role-missing": target_("checked_nobody"),
        "app-role-shut-out": target_("checked_app"),
        "app-role-superuser": source_("postgres"),
        "superuser-sessions": source_(),
        "triggers-bypassed": source_(None),
        "extension-not-creatable": target_("pageinspect"),
        "disk-target": target_(),
        "disk-wal": source_() | target_(),
    },
    "busy": {
        "prepared-transactions": source_("checked-gid"),
        "long-transactions": source_(None),
        "idle-in-transaction": source_(None),
        "target-not-empty": target_(),
        "target-subscribes": target_("checked_consumer"),
        "source-subscribes": source_("fed"),
        "state-copied": target_(),
        "slot-forgotten": source_("checked_orphan"),
        "logical-consumers": source_("checked_consumer"),
        "publication-of-all-tables": source_("everything"),
        "publications": source_(),
        "slot-wal-unlimited": source_() | target_(),
        "standbys-asynchronous": source_(),
    },
    "misconfigured": {
        "wal-level": source_(),
        "replication-slots-full": source_(),
        "wal-senders-full": source_(),
        "slot-wal-small": source_(),
        "slot-idle-timeout": target_(),
        "wal-sender-timeout-off": source_(),
        "wal-receiver-timeout-off": source_(),
        "logical-workers-full": source_(),
        "worker-processes-few": source_(),
        "worker-processes-tight": source_(),
        "sync-workers-none": source_(),
        "origins-full": source_(),
        "fsync-off": source_() | target_(),
        "full-page-writes-off": source_(),
        "commits-wait": source_(),
        "archiver-failing": source_(),
        "connections-scarce": source_() | target_(),
        "max-connections-lower": target_(),
        "two-phase-lower": target_(),
        "sql-settings-differ": target_("extra_float_digits"),
        "preload-libraries-differ": target_("auto_explain"),
        "target-lock-table": target_(),
        "hold-lock-table": source_(),
        "clock-skew": source_() | target_(),
        "disk-unknown": source_() | target_(),
        "encoding-differs": target_(),
        "collation-differs": target_(),
    },
    "standby": {"in-recovery": target_()},
    "exchanged": {
        "target-older": target_(),
        "definition-too-new": source_(
            "public.newer.twice",
            "newer_small of public.newer",
            "newer_during of public.newer",
            "newer_name of public.newer",
            "newer_alone_a of public.newer_alone",
            "newer_apart of public.newer_parts",
        ),
    },
    "same": {"same-database": target_()},
}
BY_ANSWERS = frozenset({"client-tool-missing", "collation-version-differs"})
"""Checks that no two servers at hand can trip: a version without tools, two versions of one host's library."""
