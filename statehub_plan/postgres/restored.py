"""What a restored database holds, against what the backup's manifest and catalog say that it has to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from statehub_plan.model.base import Frozen
from statehub_plan.postgres.catalog import compare_catalogs
from statehub_plan.postgres.catalog_rules import Judge
from statehub_plan.postgres.comparison import Difference
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.drill_rules import Circumstances, excuse
from statehub_plan.postgres.inventory import (
    CatalogRecord,
    digest_tables,
    pack,
    read_all_relations,
    read_all_sequences,
    read_record,
)
from statehub_plan.postgres.manifest import BackupSequence, BackupTable, Manifest, content_digest
from statehub_plan.postgres.seeds import Seeds
from statehub_plan.postgres.workers import OnProgress

__all__ = ["Excused", "Found", "Owners", "look_into", "owners_of"]

_NAMED = 20
_PROBLEMS_NAMED = 200
_LARGE_OBJECTS = "pg_catalog.pg_largeobject"


class Excused(Frozen):
    """What was not compared, or differs without being a fault of the backup: why, how many objects (or properties of
    such) that are, and the first of them."""

    reason: str
    count: int
    objects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Owners:
    """Whether owners and privileges are restored, and if not, why not; and who owns there what nobody restores."""

    missing: str | None
    makers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Found:
    """What a scratch database holds, what is wrong with that, and what was excused. `content_digest` is the manifest's
    where nothing is wrong."""

    tables: tuple[BackupTable, ...]
    sequences: int
    objects: int
    content_digest: str
    problems: tuple[str, ...]
    excused: tuple[Excused, ...]


def owners_of(record: CatalogRecord, server: Connection) -> Owners:
    """Owners and privileges can be restored by a superuser, on a server with all roles that the backup names."""
    there: dict[str, bool] = dict(server.execute("SELECT rolname, rolsuper FROM pg_roles").fetchall())
    first = server.execute("SELECT rolname FROM pg_roles WHERE oid = 10").fetchall()
    makers = frozenset((server.info.user, *(name for (name,) in first)))
    if there.get(server.info.user) is not True:
        return Owners(f"the role {server.info.user} is no superuser there", makers)
    absent = [role.name for role in record.roles if role.name not in there]
    if absent:
        return Owners(f"roles that they name are missing there: {_shortened(absent)}", makers)
    lesser = [role.name for role in record.roles if role.superuser and not there[role.name]]
    if lesser:
        return Owners(f"roles that they name are no superusers there: {_shortened(lesser)}", makers)
    return Owners(None, makers)


def look_into(
    manifest: Manifest,
    record: CatalogRecord,
    session: Callable[[], Connection],
    owners: Owners,
    jobs: int,
    *,
    on_progress: OnProgress,
    check: Callable[[], None],
) -> Found:
    """Reads everything in the database of `session` and compares it. Reads only, but for the questions of `Judge`."""
    with ExitStack() as stack:
        first = stack.enter_context(session())
        tables = digest_tables(
            read_all_relations(first, Seeds(*manifest.seeds)), session, jobs, on_progress=on_progress, check=check
        )
        values = {one.qualified: (one.last_value, one.is_called) for one in read_all_sequences(first)}
        restored = read_record(first, other_version=manifest.server_version)
        circumstances = Circumstances(
            source_version=manifest.server_version,
            target_version=first.info.server_version,
            with_owners=owners.missing is None,
            makers=owners.makers,
        )
        judge = Judge(lambda: stack.enter_context(session()))
        broken, excused = _catalog_differences(record, restored, circumstances, judge)
    sequences, problems = _sequence_differences(manifest.sequences, values)
    problems = [*_table_differences(manifest.tables, tables), *problems, *broken[:_PROBLEMS_NAMED]]
    if len(broken) > _PROBLEMS_NAMED:
        problems.append(f"{len(broken) - _PROBLEMS_NAMED} more objects or properties of objects differ")
    # What the rules excuse means the same: then the digest of what means the same is the manifest's.
    catalog = pack(restored)[1] if broken else manifest.catalog
    return Found(
        tables=tables,
        sequences=len(values),
        objects=len(restored.catalog),
        content_digest=content_digest(manifest.seeds, tables, sequences, catalog),
        problems=tuple(dict.fromkeys(problems)),
        excused=_summed({**excused, **_views_are_made_anew(record)}, owners),
    )


def _table_differences(wanted: Iterable[BackupTable], found: Iterable[BackupTable]) -> list[str]:
    """What is not as the manifest says."""
    expected, there = ({table.table: table for table in tables} for tables in (wanted, found))
    problems = [f"{_table(name)} is missing" for name in sorted(expected.keys() - there.keys())]
    problems += [f"{_table(name)} should not be there" for name in sorted(there.keys() - expected.keys())]
    for name in sorted(expected.keys() & there.keys()):
        if there[name].rows != expected[name].rows:
            problems.append(f"{_table(name)}: {there[name].rows} rows instead of {expected[name].rows}")
        elif there[name].digest != expected[name].digest:
            problems.append(f"{_table(name)}: its rows differ from those that were dumped")
    return problems


def _table(name: str) -> str:
    return "the table of large objects" if name == _LARGE_OBJECTS else f"table {name}"


def _sequence_differences(
    wanted: Iterable[BackupSequence], found: dict[str, tuple[int, bool]]
) -> tuple[tuple[BackupSequence, ...], list[str]]:
    """What the sequences come to, as the manifest has them where they are as it says; and what is not."""
    come_to, problems = [], []
    for one in wanted:
        value = found.get(one.sequence)
        if value is None:
            problems.append(f"sequence {one.sequence} is missing")
            continue
        if one.admits(*value):
            come_to.append(one)
            continue
        last_value, is_called = value
        until = f" to {_value(one.until.last_value, one.until.is_called)}" if one.until else ""
        expected = f"{_value(one.last_value, one.is_called)}{until}"
        problems.append(f"sequence {one.sequence}: its value is {_value(*value)} instead of {expected}")
        come_to.append(one.model_copy(update={"last_value": last_value, "is_called": is_called, "until": None}))
    extra = sorted(found.keys() - {one.sequence for one in come_to})
    return tuple(come_to), [*problems, *(f"sequence {name} should not be there" for name in extra)]


def _value(last_value: int, is_called: bool) -> str:
    return f"{last_value}{'' if is_called else ' (not called)'}"


def _catalog_differences(
    wanted: CatalogRecord, found: CatalogRecord, circumstances: Circumstances, judge: Judge
) -> tuple[list[str], dict[str, list[str]]]:
    """What is wrong, and by reason what is excused. Properties are named without what they say: an encrypted backup's
    evidence is not encrypted."""
    differences, notes = compare_catalogs(
        wanted.catalog,
        found.catalog,
        source_version=circumstances.source_version,
        target_version=circumstances.target_version,
        judge=judge,
    )
    problems = [f"{one} were hidden from the role that took the backup: unknown" for one in wanted.hidden]
    problems += [f"{one} are hidden from the role that drills: unknown" for one in found.hidden]
    excused: dict[str, list[str]] = defaultdict(list)
    for note in notes:
        what, _, why = note.rpartition(": ")
        excused[why].append(what)
    for one in differences:
        reason = excuse(one, wanted.catalog, found.catalog, circumstances)
        if reason is None:
            problems.append(_told(one))
        else:
            excused[reason].append(f"{one.kind} {one.object}, {one.aspect}")
    return problems, excused


def _told(one: Difference) -> str:
    words = {"missing": " is missing", "extra": " should not be there"}
    return f"{one.kind} {one.object}{words.get(one.aspect, f': its {one.aspect} differs from what was dumped')}"


def _views_are_made_anew(record: CatalogRecord) -> dict[str, list[str]]:
    views = [
        f"relation {one.name}"
        for one in record.catalog.values()
        if one.kind == "relation" and one.definition["kind"] == "m" and one.definition["populated"]
    ]
    return {"no dump has the rows of a materialized view: they are made anew": views} if views else {}


def _summed(excused: dict[str, list[str]], owners: Owners) -> tuple[Excused, ...]:
    told = [
        Excused(reason=reason, count=len(objects), objects=tuple(objects[:_NAMED]))
        for reason, objects in sorted(excused.items())
    ]
    if owners.missing is not None:
        told.append(Excused(reason=f"owners and privileges were not compared: {owners.missing}", count=0, objects=()))
    return tuple(told)


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
