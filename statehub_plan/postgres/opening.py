"""How a comparison begins: both databases under snapshots, what is in them, and that they are two."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.catalog import read_catalog
from statehub_plan.postgres.catalog_server import read_movers
from statehub_plan.postgres.catalog_stamp import catalog_stamp
from statehub_plan.postgres.changes import Stamp
from statehub_plan.postgres.comparison import CannotTell
from statehub_plan.postgres.names import once
from statehub_plan.postgres.relations import read_extension_tables, read_large_objects, read_relations
from statehub_plan.postgres.seeds import Seeds
from statehub_plan.postgres.sequences import read_sequences
from statehub_plan.postgres.sides import Side, Sides
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.state import server_of

__all__ = ["open_sides"]


def open_sides(
    dsns: tuple[str, str],
    given: tuple[Snapshot, Snapshot] | None,
    sequences: bool,
    stamps: tuple[Stamp | None, Stamp | None],
    seeds: Seeds,
    stack: ExitStack,
) -> Sides:
    """Both at once: what is done under a hold is waited for. Catalogs that are both still what these stamps say are not
    read: `catalog` is None then."""
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="statehub-plan") as pool:
        snapshots = given or _open_snapshots(dsns, pool, stack)
        source, target = pool.map(_read_side, ("source", "target"), snapshots, [sequences] * 2, [seeds] * 2)
        if given is None:
            _require_two(source, target)
        same = list(pool.map(_is_stamped, (source, target), stamps))
        if not all(same):
            movers = [*read_movers(source.snapshot.leader), *read_movers(target.snapshot.leader)]
            versions = target.version, source.version
            source, target = pool.map(_with_catalog, (source, target), versions, [movers] * 2)
    return source, target


def _require_two(source: Side, target: Side) -> None:
    """A copy of the whole server, a standby or one that was promoted, has the same identity and is another server: it
    was started at another moment."""
    same = source.identity == target.identity
    if same and source.server.started_at == target.server.started_at:
        one = f"{source.identity.database} of the server with system identifier {source.identity.system_identifier}"
        raise CannotTell(
            f"source and target are one and the same database, {one}: both names lead there, and it is equal to itself "
            "whatever it holds; name the other one"
        )


def _open_snapshots(dsns: tuple[str, str], pool: ThreadPoolExecutor, stack: ExitStack) -> tuple[Snapshot, Snapshot]:
    opening = [pool.submit(_snapshot, dsn) for dsn in dsns]
    for each in opening:
        if each.exception() is None:
            stack.enter_context(each.result())
    return opening[0].result(), opening[1].result()


def _read_side(name: str, snapshot: Snapshot, sequences: bool, seeds: Seeds) -> Side:
    leader = snapshot.leader
    objects = read_large_objects(leader, seeds)
    tables = *read_relations(leader, seeds), *read_extension_tables(leader, seeds, unmarked=True)
    relations = [*tables, *filter(None, [objects])]
    return Side(
        name=name,
        snapshot=snapshot,
        server=server_of(leader),
        version=leader.info.server_version,
        catalog=None,
        relations=once(((each.qualified, each) for each in relations), "tables"),
        sequences=once(((each.qualified, each) for each in (read_sequences(leader) if sequences else ())), "sequences"),
    )


def _is_stamped(side: Side, stamp: Stamp | None) -> bool:
    return stamp is not None and stamp.server == side.server and catalog_stamp(side.snapshot.leader) == stamp.catalog


def _with_catalog(side: Side, other_version: int, movers: Sequence[str]) -> Side:
    # Who asks what a view reads locks it. Kept until the comparison ends, those locks would keep out whoever alters one
    # of those tables, and he everybody who comes after him, the sessions that are to read them for us too.
    leader = side.snapshot.leader
    with leader.transaction(force_rollback=True):
        return replace(side, catalog=read_catalog(leader, other_version=other_version, movers=movers))


def _snapshot(dsn: str) -> Snapshot:
    try:
        return Snapshot(dsn, purpose="compare")
    except StatehubError as error:
        raise CannotTell(error.what) from error
