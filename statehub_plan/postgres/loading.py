"""Loading a schema: what is there goes, what is loaded is fenced; one transaction wherever the server can hold it."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass

import psycopg
from psycopg import sql

from statehub_plan.errors import StatehubError
from statehub_plan.model.plan import Identity
from statehub_plan.postgres import state
from statehub_plan.postgres.connect import USER_TABLES, Connection
from statehub_plan.postgres.contents import UserObject, drop_some, user_objects
from statehub_plan.postgres.dump import Entry, SchemaDump, for_this_transaction
from statehub_plan.postgres.fence import FENCE_ALL_SQL
from statehub_plan.postgres.filling import forget_fill
from statehub_plan.postgres.proof import unsound_tables
from statehub_plan.postgres.tools import major_of
from statehub_plan.postgres.transaction import begin, commit_once, roll_back
from statehub_plan.redact import redact
from statehub_plan.world import TransferStage

__all__ = ["Load", "explained", "is_bare", "load_bare", "source_defaults", "source_settings", "try_out"]

_LOCK_WAIT = "SET LOCAL lock_timeout = '10s'"
_LISTS = {"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}
_DROPPED_AT_ONCE = 200
_PUBLIC_CLOSED_SINCE = 15
_SYSTEM_OBJECTS = ("LANGUAGE plpgsql", "SCHEMA pg_catalog")

_Setting = tuple[str | None, str, str]
"""Role (None: every role), name, value."""
_Default = tuple[str, str]
"""Schema (empty: every schema) and letter of a kind, of which a role grants something by default."""

_DEFAULTS = """
SELECT coalesce(n.nspname, ''), d.defaclobjtype::text FROM pg_default_acl d
LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace WHERE pg_get_userbyid(d.defaclrole) = %s ORDER BY 1, 2
"""
# To take away all that is granted makes an entry that says nothing; to grant what is usual besides removes it.
_FORGET = """
SELECT format('ALTER DEFAULT PRIVILEGES %%s REVOKE ALL ON %%s FROM %%s', place, kinds, whom)
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace,
     CONCAT('IN SCHEMA ' || quote_ident(n.nspname)) place,
     LATERAL (SELECT (CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
              WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END)) k(kinds),
     LATERAL (SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
              FROM aclexplode(d.defaclacl) a) g(whom)
WHERE pg_get_userbyid(d.defaclrole) = current_user
  AND (coalesce(n.nspname, ''), d.defaclobjtype::text) IN (SELECT * FROM unnest(%(schemas)s::text[], %(kinds)s::text[]))
UNION ALL
SELECT format('ALTER DEFAULT PRIVILEGES GRANT ALL ON %%s TO %%s', kinds, whom) FROM pg_default_acl d,
     LATERAL (VALUES ('r', 'TABLES', current_user), ('S', 'SEQUENCES', current_user), ('n', 'SCHEMAS', current_user),
              ('L', 'LARGE OBJECTS', current_user), ('f', 'FUNCTIONS', current_user), ('f', 'FUNCTIONS', NULL),
              ('T', 'TYPES', current_user), ('T', 'TYPES', NULL)) v(letter, kinds, name),
     LATERAL (SELECT coalesce(quote_ident(v.name), 'PUBLIC')) g(whom)
WHERE pg_get_userbyid(d.defaclrole) = current_user AND d.defaclnamespace = 0 AND v.letter = d.defaclobjtype::text
  AND ('', v.letter) IN (SELECT * FROM unnest(%(schemas)s::text[], %(kinds)s::text[]))
"""


@dataclass(frozen=True)
class Load:
    """One loading of the source's schema: what to load, where from, and for whom."""

    bare: SchemaDump
    source_identity: Identity
    source_major: int
    settings: tuple[_Setting, ...]
    defaults: tuple[_Default, ...]
    term: int
    epoch: int

    @property
    def digest(self) -> str:
        """Changes when anything changes that would be loaded."""
        text = self.bare.script() + repr(self.settings)
        return "schema:" + hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def try_out(target: Connection, load: Load, post: SchemaDump) -> bool:
    """Loads everything, bare schema and the rest, in place of what is there, and takes it back.

    StatehubError `schema-refused` names what the server does not accept. False when the server's lock table is too
    small to tell in one transaction, which says nothing about the schema.
    """
    begin(target)
    try:
        target.execute(_LOCK_WAIT)
        drop_some(target)
        _forget_defaults(target, load)
        _make_public(target, load)
        for part in (load.bare, post):
            _run(target, part)
        _apply_settings(target, load.settings)
    except (psycopg.errors.OutOfMemory, StatehubError) as error:
        if not _lock_table_full(error):
            raise
        return False
    finally:
        roll_back(target)
    return True


def load_bare(target: Connection, load: Load, *, expected: tuple[UserObject, ...] | None) -> None:
    """Drops what is there, loads, fences and records stage `prepared`, in one durable transaction, fenced by epoch.

    `expected`: what was there when it was dumped for safety; StatehubError `target-changed` if that is not so any more.
    Where the lock table has no room for both, what is there is dropped first, piece by piece.
    """
    try:
        _replace(target, load, expected)
    except (psycopg.errors.OutOfMemory, StatehubError) as error:
        if not _lock_table_full(error) or not user_objects(target):
            raise
        _drop_in_pieces(target, load, expected)
        _replace(target, load, None)


def _replace(target: Connection, load: Load, expected: tuple[UserObject, ...] | None) -> None:
    def work(conn: Connection) -> None:
        state.claim_epoch(conn, load.epoch)
        conn.execute(_LOCK_WAIT)
        _require_unchanged(conn, expected)
        drop_some(conn)
        _forget_defaults(conn, load)
        _make_public(conn, load)
        _run(conn, load.bare)
        conn.execute("SET LOCAL search_path = pg_catalog")
        _fence_all(conn)
        _apply_settings(conn, load.settings)
        _mark(conn, load, load.digest)

    def landed(conn: Connection, _: None) -> bool:
        current = state.read_state(conn)
        return current is not None and current.transfer is not None and current.transfer.proof == load.digest

    commit_once(target, work, landed, what="the preparation of the target")


def _drop_in_pieces(target: Connection, load: Load, expected: tuple[UserObject, ...] | None) -> None:
    """The first piece records that all of it may go, so that a killed run is carried on rather than refused."""

    def work(conn: Connection) -> int:
        state.claim_epoch(conn, load.epoch)
        conn.execute(_LOCK_WAIT)
        _require_unchanged(conn, expected)
        _mark(conn, load, None)
        return drop_some(conn, _DROPPED_AT_ONCE)

    while commit_once(target, work, lambda *_: False, what="the removal of a part of the target's content"):
        expected = None


def _require_unchanged(target: Connection, expected: tuple[UserObject, ...] | None) -> None:
    if expected is not None and user_objects(target) != expected:
        raise StatehubError(
            code="target-changed",
            what="the target's objects changed while they were being dumped; nothing was dropped",
            hint="end whatever changes them, then run again",
        )


def _mark(target: Connection, load: Load, proof: str | None) -> None:
    forget_fill(target)  # the tables that it speaks of are gone
    state.set_transfer(
        target, stage=TransferStage.PREPARED, term=load.term, source_identity=load.source_identity, proof=proof
    )


def _lock_table_full(error: BaseException) -> bool:
    return isinstance(error, psycopg.errors.OutOfMemory) or isinstance(error.__cause__, psycopg.errors.OutOfMemory)


def _fence_all(target: Connection) -> None:
    target.execute(FENCE_ALL_SQL)
    unfenced = unsound_tables(target)
    if unfenced:
        raise StatehubError(
            code="fence-incomplete",
            what=f"{len(unfenced)} new tables could not be fenced; the target is as it was",
            hint="something on the target's server changes triggers as they are made; look for event triggers",
            details=tuple(name for _, name in unfenced),
        )


def _make_public(target: Connection, load: Load) -> None:
    """Schema public as 15 and later make it, on a target that makes it as earlier ones did: of what is usual on the
    source pg_dump says nothing."""
    if not major_of(target) < _PUBLIC_CLOSED_SINCE <= load.source_major:
        return
    as_made_before = target.execute(
        "SELECT FROM pg_namespace n WHERE n.nspname = 'public' AND (n.nspowner <> 'pg_database_owner'::regrole "
        "OR EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a "
        "WHERE a.grantee = 0 AND a.privilege_type = 'CREATE'))"
    ).fetchone()
    if as_made_before is None:
        return
    try:
        target.execute(
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC; ALTER SCHEMA public OWNER TO pg_database_owner", prepare=False
        )
    except psycopg.Error as error:
        if target.closed:
            raise
        raise explained(error, Entry("public", "SCHEMA", "-", "")) from error


def _forget_defaults(target: Connection, load: Load) -> None:
    """What the tool's role grants by default on both sides comes after the objects, as pg_dump has it: where an earlier
    loading has left it, whatever is made now would be granted it."""
    keys = {"schemas": [schema for schema, _ in load.defaults], "kinds": [kind for _, kind in load.defaults]}
    for (statement,) in target.execute(_FORGET, keys).fetchall():
        target.execute(statement.encode())


def _run(target: Connection, dump: SchemaDump) -> None:
    """Runs the script entry by entry in the caller's transaction, so that an error can name what it was about."""
    target.execute(for_this_transaction(dump.preamble).encode(errors="surrogateescape"))
    for entry in dump.entries:
        if entry.kind == "COMMENT" and entry.name.startswith("EXTENSION "):
            continue  # an extension's comment comes with it, and only its owner may set it
        try:
            with target.transaction() if _granted_by_superusers(entry) else nullcontext():
                target.execute(_statements(entry).encode(errors="surrogateescape"))
        except psycopg.Error as error:
            if isinstance(error, psycopg.errors.InsufficientPrivilege) and _granted_by_superusers(entry):
                continue
            if target.closed:
                raise
            raise explained(error, entry) from error


def _granted_by_superusers(entry: Entry) -> bool:
    """Privileges on what came with the server: pre-flight has seen that they are there, and every comparison looks."""
    return entry.kind == "ACL" and (entry.schema == "pg_catalog" or entry.name in _SYSTEM_OBJECTS)


def _statements(entry: Entry) -> str:
    if entry.kind == "SCHEMA":
        # A schema in which an extension lives was not dropped.
        return entry.sql.replace("CREATE SCHEMA ", "CREATE SCHEMA IF NOT EXISTS ", 1)
    return entry.sql


def explained(error: psycopg.Error, entry: Entry) -> StatehubError:
    """The server's refusal of one entry, with what to do about the usual ones."""
    hint = "change it on the source so that the target's server accepts it, or choose another target"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        hint = (
            "let the tool's role on the target do what the message names, then run again; the fence has made read-only "
            "the default of that database, so grant it there with: BEGIN READ WRITE; GRANT …; COMMIT"
        )
    elif isinstance(error, psycopg.errors.OutOfMemory):
        hint = "raise max_locks_per_transaction on the target's server and restart it, then run again"
    elif isinstance(error, psycopg.errors.DiskFull):
        hint = "free disk space on the target's server, then run again"
    elif isinstance(error, psycopg.errors.LockNotAvailable):
        hint = "end the sessions that use the target's objects, then run again"
    where = f"{entry.kind.lower()} {entry.name}" + (f" in schema {entry.schema}" if entry.schema != "-" else "")
    return StatehubError(
        code="schema-refused",
        what=redact(f"the target's server refuses {where}: {' '.join(str(error).split())}"),
        hint=hint,
    )


def source_settings(source: Connection) -> tuple[_Setting, ...]:
    """What ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET say, except for the tool's own freeze."""
    return tuple(
        source.execute(
            "SELECT r.rolname, split_part(s, '=', 1), substr(s, strpos(s, '=') + 1) "
            "FROM pg_db_role_setting x JOIN pg_database d ON d.oid = x.setdatabase "
            "LEFT JOIN pg_roles r ON r.oid = x.setrole, unnest(x.setconfig) s "
            "WHERE d.datname = current_database() "
            "AND NOT (x.setrole = 0 AND split_part(s, '=', 1) = 'default_transaction_read_only') "
            "ORDER BY 1 NULLS FIRST, 2"
        ).fetchall()
    )


def source_defaults(source: Connection, role: str) -> tuple[_Default, ...]:
    """Of which kinds this role, which is the tool's on the target, grants something by default on the source."""
    return tuple(source.execute(_DEFAULTS, [role]).fetchall())


def _apply_settings(target: Connection, settings: tuple[_Setting, ...]) -> None:
    database = sql.Identifier(target.info.dbname)
    for role, name, value in settings:
        subject = sql.SQL("DATABASE {}").format(database)
        if role is not None:
            subject = sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
        # Lists of names are kept the way they must be written; as one string they would be one name.
        written = sql.SQL(value) if name in _LISTS and value else sql.Literal(value)
        # A setting's own name may have a dot in it, and each part of it is a name.
        named = sql.SQL(".").join(map(sql.Identifier, name.split(".")))
        try:
            target.execute(sql.SQL("ALTER {} SET {} TO {}").format(subject, named, written))
        except psycopg.Error as error:
            if target.closed:
                raise
            raise explained(error, Entry(f"{role or 'database'}: {name}", "SETTING", "-", "")) from error


def is_bare(target: Connection) -> bool:
    """Whether no index, foreign key or trigger but the fence has been built yet."""
    row = target.execute(
        f"""
        SELECT NOT EXISTS (SELECT FROM pg_index i JOIN ({USER_TABLES}) t ON t.oid = i.indrelid)
           AND NOT EXISTS (SELECT FROM pg_constraint k JOIN ({USER_TABLES}) t ON t.oid = k.conrelid
                           WHERE k.contype = 'f')
           AND NOT EXISTS (SELECT FROM pg_trigger g JOIN ({USER_TABLES}) t ON t.oid = g.tgrelid
                           WHERE NOT g.tgisinternal AND g.tgname <> 'statehub_plan_fence')
        """.encode()
    ).fetchone()
    return row == (True,)
