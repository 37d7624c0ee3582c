"""All that a database holds and a backup answers for: rows, large objects, values of sequences, and the catalog."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.catalog import Catalog, CatalogObject, read_catalog
from statehub_plan.postgres.catalog_sql import OWN_PUBLICATIONS
from statehub_plan.postgres.catalog_stamp import catalog_stamp, row_stamps
from statehub_plan.postgres.connect import SCHEMA, Connection
from statehub_plan.postgres.content import ContentDigest, digest_rows
from statehub_plan.postgres.manifest import BackupCatalog, BackupSequence, BackupTable, Moved
from statehub_plan.postgres.names import once, qualified
from statehub_plan.postgres.relations import (
    PageRange,
    Relation,
    read_extension_tables,
    read_large_objects,
    read_relations,
)
from statehub_plan.postgres.seeds import SEEDS, Seeds
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
_FORMAT = "statehub-plan/backup-catalog/v1"
_NAMED = 10

# Whose the tool's own objects are does not matter: no dump has them.
_ROLES = f"""
SELECT DISTINCT r.rolname, r.rolsuper FROM pg_roles r
JOIN pg_shdepend u ON u.refclassid = 'pg_authid'::regclass AND u.refobjid = r.oid
JOIN pg_database d ON d.oid = u.dbid AND d.datname = current_database(),
pg_identify_object(u.classid, u.objid, u.objsubid) i
WHERE i.schema IS DISTINCT FROM '{SCHEMA}' AND (i.identity ~ '{OWN_PUBLICATIONS}') IS NOT TRUE
UNION SELECT rolname, rolsuper FROM pg_roles WHERE rolname = ANY (%s)
ORDER BY 1
"""

_EXTENSION_SEQUENCES = """
SELECT n.nspname, c.relname, s.seqincrement
FROM pg_extension e, unnest(e.extconfig) AS x(oid)
JOIN pg_class c ON c.oid = x.oid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequence s ON s.seqrelid = c.oid
"""

# Those are read row by row under the snapshot, or are in no dump of one database.
_NEVER_MIXED = (
    *("database", "setting", "large object", "comment", "subscription"),
    *("role", "tablespace", "parameter privileges", "built-in"),
)
_BY_NAME = ("setting", "subscription")


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
        increments |= {qualified(schema, name): by for schema, name, by in leader.execute(_EXTENSION_SEQUENCES)}
        return cls(read_all_relations(leader), read_all_sequences(leader), record, increments)


def read_all_relations(connection: Connection, seeds: Seeds = SEEDS) -> tuple[Relation, ...]:
    """Every table with rows of the user, those of extensions too, and all large objects as one."""
    objects = read_large_objects(connection, seeds)
    tables = *read_relations(connection, seeds), *read_extension_tables(connection, seeds)
    return tables if objects is None else (*tables, objects)


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
        if found.kind in _BY_NAME:
            catalog[key] = CatalogObject(found.kind, found.name, found.table, {})
    owners = {owner for found in catalog.values() if (owner := found.definition.get("owner")) is not None}
    roles = connection.execute(_ROLES, [sorted(owners)]).fetchall()
    hidden = (f"{kind} {name}: its options" for (kind, name), found in sorted(catalog.items()) if found.unseen)
    return CatalogRecord(catalog, tuple(Role(*row) for row in roles), tuple(hidden))


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
    rewritten before it was locked, and looks empty to the snapshot (manual, 13.6), or was redefined, undone or
    not; or an object was altered, of which the server tells some properties as they are and others as they were.

    Objects that are new are in neither, and no news."""
    with Snapshot(dsn, purpose="backup") as now:
        mixed = [
            f"table {name} was truncated, rewritten or redefined"
            for name in sorted(_redefined(inventory.relations, snapshot.leader, now.leader))
        ]
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


def _redefined(relations: Iterable[Relation], before: Connection, now: Connection) -> set[str]:
    """Those of which one session's snapshot says something else than a later one's."""
    names = {relation.oid: relation.qualified for relation in relations if relation.oid}
    row = before.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8").fetchone()
    if row is None:
        raise RuntimeError("a query for one number returned no row")
    was, is_now = (row_stamps(session, list(names), row[0]) for session in (before, now))
    return {name for oid, name in names.items() if was.get(oid) != is_now.get(oid)}


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
    parts: dict[str, list[ContentDigest]] = once(((relation.qualified, []) for relation in relations), "tables")
    for (relation, _), found in zip(pieces, measured, strict=True):
        parts[relation.qualified].append(found)
    totals = {name: ContentDigest.total(found) for name, found in parts.items()}
    return tuple(BackupTable(table=name, rows=totals[name].rows, digest=str(totals[name])) for name in sorted(totals))
