"""In which order tables are locked, so that writers who lock several of them are met rather than crossed. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable

Edge = tuple[int, int]
"""(first, then): the table with the first OID is locked before the one with the second."""


def lock_order(oids: Iterable[int], customary: Collection[Edge], learned: Collection[Edge]) -> tuple[int, ...]:
    """The OIDs, each once, such that edges are respected; ties and cycles are broken by the given order of `oids`.

    `customary` edges are what writers usually do (a foreign key's child before its parent, a partitioned table before
    its partitions); a `learned` edge, seen in a real transaction, replaces the customary one that contradicts it.
    """
    rank = {oid: position for position, oid in enumerate(oids)}
    reversed_by_life = {(then, first) for first, then in learned}
    edges = {
        (first, then)
        for first, then in {*learned, *(set(customary) - reversed_by_life)}
        if first != then and first in rank and then in rank
    }
    followers: dict[int, list[int]] = {oid: [] for oid in rank}
    waiting_for = dict.fromkeys(rank, 0)
    for first, then in edges:
        followers[first].append(then)
        waiting_for[then] += 1
    ready = [rank[oid] for oid, count in waiting_for.items() if count == 0]
    heapq.heapify(ready)
    by_rank = list(rank)
    stuck = iter(by_rank)  # where a cycle leaves nothing ready, the first that is left breaks it
    order: list[int] = []
    placed: set[int] = set()
    while len(order) < len(rank):
        oid = by_rank[heapq.heappop(ready)] if ready else next(each for each in stuck if each not in placed)
        if oid in placed:
            continue
        placed.add(oid)
        order.append(oid)
        for then in followers[oid]:
            waiting_for[then] -= 1
            if waiting_for[then] == 0:
                heapq.heappush(ready, rank[then])
    return tuple(order)
