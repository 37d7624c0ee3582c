"""All that a database holds and a backup answers for: rows, large objects, values of sequences, and the catalog."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

from psycopg import sql

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.catalog import Catalog, CatalogObject, read_catalog
from statehub_plan.postgres.catalog_stamp import catalog_stamp
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.content import ContentDigest, digest_rows
from statehub_plan.postgres.manifest import BackupCatalog, BackupSequence, BackupTable, Moved
from statehub_plan.postgres.relations import (
    LargeObjects,
    PageRange,
    Relation,
    read_extension_tables,
    read_large_objects,
    read_relations,
    rewritten_tables,
)
from statehub_plan.postgres.sequences import SequenceValue, read_sequences
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.workers import Crew, OnProgress, Progress, nobody_looks, nothing_to_lose, run_crews

__all__ = [
    "CatalogRecord",
    "Inventory",
    "Role",
    "digest_tables",
    "pack",
    "read_all_relations",
    "read_all_sequences",
    "read_record",
    "require_still",
    "spans",
    "unpack",
]

_CHUNK_BYTES = 64 * 1024 * 1024
_LARGE_OBJECT_PIECE_BYTES = 16 * 1024 * 1024
_FORMAT = "statehub-plan/backup-catalog/v1"
_NAMED = 10

_ROLES = """
SELECT DISTINCT r.rolname, r.rolsuper FROM pg_roles r
JOIN pg_shdepend u ON u.refclassid = 'pg_authid'::regclass AND u.refobjid = r.oid
JOIN pg_database d ON d.oid = u.dbid AND d.datname = current_database()
UNION SELECT rolname, rolsuper FROM pg_roles WHERE rolname = ANY (%s)
ORDER BY 1
"""

# A view that shows no options does not say whether there are none or whether this role may not see them.
_HIDDEN = """
SELECT m.usename || ' on ' || m.srvname FROM pg_user_mappings m JOIN pg_foreign_server s ON s.oid = m.srvid
WHERE m.umoptions IS NULL AND current_setting('is_superuser') = 'off'
  AND NOT (m.umuser <> 0 AND m.usename = current_user
           AND (pg_has_role(s.srvowner, 'USAGE') OR has_server_privilege(s.oid, 'USAGE')))
  AND NOT (m.umuser = 0 AND pg_has_role(s.srvowner, 'USAGE'))
ORDER BY 1
"""

_SUBSCRIPTIONS = """
SELECT s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE d.datname = current_database() AND s.subname !~ '^statehub_plan' ORDER BY 1
"""

_EXTENSION_SEQUENCES = """
SELECT n.nspname, c.relname, s.seqincrement
FROM pg_extension e, unnest(e.extconfig) AS x(oid)
JOIN pg_class c ON c.oid = x.oid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequence s ON s.seqrelid = c.oid
"""

# Those are read row by row under the snapshot, or are in no dump of one database.
_NEVER_MIXED = ("database", "setting", "large object", "comment", "subscription")


@dataclass(frozen=True, slots=True)
class Role:
    """A role that owns something, may do something or is named by a policy in a database."""

    name: str
    superuser: bool


@dataclass(frozen=True, slots=True)
class CatalogRecord:
    """What is known of a database's schema. `roles`: whom it names. `hidden`: objects of which the role that looked may
    not see everything, with what that is."""

    catalog: Catalog
    roles: tuple[Role, ...]
    hidden: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a snapshot shows before a dump of it is begun; sequences with what they say now, as they have none."""

    relations: tuple[Relation, ...]
    sequences: tuple[SequenceValue, ...]
    record: CatalogRecord
    increments: dict[str, int]

    @classmethod
    def taken(cls, leader: Connection) -> Inventory:
        """Of what this session sees, which should end then: it locks whatever a view reads, and who waits for such a
        lock makes everybody wait who comes after, the sessions that make digests too."""
        record = read_record(leader, other_version=leader.info.server_version)
        increments = {
            name: found.definition["increment"] for (kind, name), found in record.catalog.items() if kind == "sequence"
        }
        increments |= {f"{schema}.{name}": by for schema, name, by in leader.execute(_EXTENSION_SEQUENCES)}
        return cls(read_all_relations(leader), read_all_sequences(leader), record, increments)


@dataclass(frozen=True, slots=True)
class _WholeLargeObjects(LargeObjects):
    """Large objects of any size, each as one digest over pieces: `lo_get` of a whole one ends at 1 GB."""

    @property
    def rows(self) -> sql.Composable:
        """As (loid, data); of holes the zeros that every reader gets."""
        return sql.SQL(
            "(WITH RECURSIVE piece(loid, at, bytes, hash) AS ("
            "SELECT l.oid, 0::int8, length(p), sha256(p) FROM pg_catalog.pg_largeobject_metadata l, "
            "LATERAL (SELECT pg_catalog.lo_get(l.oid, 0, {size}) OFFSET 0) g(p) "
            "UNION ALL SELECT before.loid, before.at + {size}, length(p), sha256(p) FROM piece before, "
            "LATERAL (SELECT pg_catalog.lo_get(before.loid, before.at + {size}, {size}) OFFSET 0) g(p) "
            "WHERE before.bytes = {size}) "
            "SELECT loid, sha256(string_agg(hash, ''::bytea ORDER BY at)) AS data FROM piece GROUP BY loid) AS objects"
        ).format(size=sql.Literal(_LARGE_OBJECT_PIECE_BYTES))


def read_all_relations(connection: Connection) -> tuple[Relation, ...]:
    """Every table with rows of the user, those of extensions too, and all large objects as one."""
    objects = read_large_objects(connection)
    whole = () if objects is None else (_WholeLargeObjects(*(getattr(objects, one.name) for one in fields(objects))),)
    return (*read_relations(connection), *read_extension_tables(connection), *whole)


def read_all_sequences(connection: Connection) -> tuple[SequenceValue, ...]:
    """Every sequence's value, also of those whose values an extension has dumped."""
    listed = [(schema, name) for schema, name, _ in connection.execute(_EXTENSION_SEQUENCES)]
    return (*read_sequences(connection), *read_sequences(connection, names=listed))


def spans(inventory: Inventory, after: Iterable[SequenceValue]) -> tuple[BackupSequence, ...]:
    """What each sequence said before the dump, and `after` it where that is something else."""
    then = {one.qualified: one for one in after}
    found = []
    for one in inventory.sequences:
        now = then[one.qualified]
        until = None if now == one else Moved(last_value=now.last_value, is_called=now.is_called)
        found.append(
            BackupSequence(
                sequence=one.qualified,
                last_value=one.last_value,
                is_called=one.is_called,
                increment=inventory.increments[one.qualified],
                until=until,
            )
        )
    return tuple(sorted(found, key=lambda one: one.sequence))


def read_record(connection: Connection, *, other_version: int) -> CatalogRecord:
    """The catalog as `read_catalog` has it, with the user's subscriptions by name and without values of settings, which
    no dump of one database holds and which may be secrets; and whom it names."""
    catalog = read_catalog(connection, other_version=other_version)
    for key, found in list(catalog.items()):
        if found.kind == "setting":
            catalog[key] = CatalogObject(found.kind, found.name, found.table, {})
    for (name,) in connection.execute(_SUBSCRIPTIONS):
        catalog["subscription", name] = CatalogObject("subscription", name, None, {})
    owners = {found.definition["owner"] for found in catalog.values() if "owner" in found.definition}
    roles = connection.execute(_ROLES, [sorted(owners)]).fetchall()
    hidden = connection.execute(_HIDDEN).fetchall()
    return CatalogRecord(
        catalog,
        tuple(Role(*row) for row in roles),
        tuple(f"user mapping {name}: its options" for (name,) in hidden),
    )


def pack(record: CatalogRecord) -> tuple[bytes, BackupCatalog]:
    """The record as a file, and what the manifest says of it."""
    document = {
        "format": _FORMAT,
        "roles": [[role.name, role.superuser] for role in record.roles],
        "hidden": list(record.hidden),
        "objects": [[one.kind, one.name, one.table, one.definition] for _, one in sorted(record.catalog.items())],
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    told = BackupCatalog(objects=len(record.catalog), digest=f"sha256:{hashlib.sha256(text).hexdigest()}")
    return gzip.compress(text, compresslevel=1, mtime=0), told


def unpack(packed: bytes) -> tuple[CatalogRecord, BackupCatalog]:
    """What `pack` has made; ValueError when it has not."""
    try:
        text = gzip.decompress(packed)
        document = json.loads(text)
        if document["format"] != _FORMAT:
            raise ValueError(f"it is of another format: {document['format']}")
        objects = [CatalogObject(*one) for one in document["objects"]]
        record = CatalogRecord(
            {(one.kind, one.name): one for one in objects},
            tuple(Role(*role) for role in document["roles"]),
            tuple(document["hidden"]),
        )
    except (OSError, EOFError, KeyError, TypeError) as error:
        raise ValueError(f"it can't be read: {error}") from error
    return record, BackupCatalog(objects=len(objects), digest=f"sha256:{hashlib.sha256(text).hexdigest()}")


def require_still(inventory: Inventory, snapshot: Snapshot, dsn: str) -> None:
    """StatehubError `backup-disturbed` where dump and digests may not be of one moment: a table was truncated or
    rewritten before it was locked, and looks empty to the snapshot (manual, 13.6); or an object was altered, of which
    the server tells some properties as they are and others as they were.

    Objects that are new are in neither, and no news."""
    mixed = [f"table {name} was truncated or rewritten" for name in sorted(rewritten_tables(snapshot.leader))]
    with Snapshot(dsn, purpose="backup") as now:
        if catalog_stamp(now.leader) != catalog_stamp(snapshot.leader):
            catalog = read_record(now.leader, other_version=now.leader.info.server_version).catalog
            mixed += [
                f"{kind} {name} was {'altered' if (kind, name) in catalog else 'dropped'}"
                for (kind, name), found in sorted(inventory.record.catalog.items())
                if kind not in _NEVER_MIXED and catalog.get((kind, name)) != found
            ]
    if mixed:
        more = (f"and {len(mixed) - _NAMED} more",) if len(mixed) > _NAMED else ()
        raise StatehubError(
            code="backup-disturbed",
            what="what the database consists of was changed while the backup was taken, and so it proves nothing",
            hint="take another backup while nobody alters, truncates or rewrites anything",
            details=(*mixed[:_NAMED], *more),
        )


def digest_tables(
    relations: tuple[Relation, ...],
    connect: Callable[[], Connection],
    jobs: int,
    *,
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
) -> tuple[BackupTable, ...]:
    """What each table holds now, as the sessions of `connect` see it; in parallel, large tables in pieces."""
    pieces = [(relation, pages) for relation in relations for pages in relation.ranges(_CHUNK_BYTES)]
    total = sum(relation.bytes for relation in relations)
    began, done = time.monotonic(), [0.0]

    def measure(piece: tuple[Relation, PageRange], sessions: tuple[Connection, ...]) -> ContentDigest:
        found = digest_rows(sessions[0], *piece)
        done.append(piece[0].bytes * piece[1].share)
        return found

    def look() -> None:
        check()
        on_progress(Progress("digest", round(sum(tuple(done))), total, "bytes", time.monotonic() - began))

    measured = run_crews([Crew(pieces, measure, lambda: (connect(),), jobs)], tick=look)[0]
    parts: dict[str, list[ContentDigest]] = {}
    for (relation, _), found in zip(pieces, measured, strict=True):
        parts.setdefault(relation.qualified, []).append(found)
    totals = {name: ContentDigest.total(found) for name, found in parts.items()}
    return tuple(BackupTable(table=name, rows=totals[name].rows, digest=str(totals[name])) for name in sorted(totals))
