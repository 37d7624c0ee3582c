"""What a move does with every kind of object that a comparison reads, and how grants meet grants."""

from __future__ import annotations

from typing import Any

import pytest

from statehub_plan.postgres.after_move import Answered, foretold, statements
from statehub_plan.postgres.catalog_queries import queries
from statehub_plan.postgres.fates import FATES

VERSIONS = [major * 10000 for major in range(14, 19)]
SITUATION: dict[str, Any] = {
    "movers": ["tool"],
    "named": ["owner"],
    "owners": ["owner"],
    "maker": "postgres",
    "superuser": True,
    "available": {"citext": "1.6"},
    "default tablespace": "",
    "tablespaces": [],
    "parents": None,
}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_kind_that_is_compared_has_a_fate(version: int) -> None:
    """A kind that is added to the comparison has to be thought through here: what of it does a move not carry?"""
    assert set() == queries(version).keys() - FATES.keys()
    for on_target in (False, True):
        roles, versions = (["tool"], ["tool"]), (version, version)
        asked = statements(on_target, SITUATION, SITUATION, roles=roles, versions=versions)
        assert all("%(" not in text for text in asked.values())


def test_no_fate_is_left_over() -> None:
    """Of a kind that is no longer compared nothing is foretold."""
    assert set() == FATES.keys() - queries(VERSIONS[-1]).keys()


def side(version: int = 150000, *, maker: str = "postgres", **rows: Any) -> Answered:
    """What one side says, by kind: {name: definition}."""
    kinds = {
        kind.replace("_", " "): [(name, None, definition) for name, definition in found.items()]
        for kind, found in rows.items()
    }
    return Answered(SITUATION | {"maker": maker}, kinds, version, {"tool"})


def schema(owner: str, *grants: str) -> dict[str, Any]:
    """What the catalog says of schema public."""
    return {"public": {"owner": owner, "privileges": sorted(grants)}}


USUAL = ("pg_database_owner", "PUBLIC=USAGE", "pg_database_owner=CREATE", "pg_database_owner=USAGE")
BEFORE_15 = ("postgres", "PUBLIC=CREATE", "PUBLIC=USAGE", "postgres=CREATE", "postgres=USAGE")
PUBLIC = {
    "the same": (USUAL, USUAL, 150000, []),
    "carried to a newer one": (BEFORE_15, USUAL, 150000, []),
    "made as the newer one has it": (USUAL, BEFORE_15, 140000, []),
    "more granted on the target": (USUAL, (*USUAL, "app=CREATE"), 150000, ["privileges"]),
    "another owner on the target": (USUAL, ("app", "PUBLIC=USAGE", "app=CREATE"), 150000, ["owner", "privileges"]),
    "granted on the source": ((*USUAL, "app=CREATE"), USUAL, 150000, []),
    "revoked on the source": (USUAL[:1] + USUAL[2:], USUAL, 150000, []),
    "revoked on the target": (USUAL, USUAL[:1] + USUAL[2:], 150000, ["privileges"]),
}


@pytest.mark.parametrize("case", sorted(PUBLIC))
def test_what_becomes_of_schema_public(case: str) -> None:
    """pg_dump writes what differs from the usual, and the target keeps what it has besides."""
    ours, theirs, target_version, aspects = PUBLIC[case]
    source, target = side(schema=schema(*ours)), side(target_version, schema=schema(*theirs))
    assert aspects == [one.aspect for one in foretold(source, target)]


def changed(at_first: list[str] | None, *grants: str) -> dict[str, Any]:
    """What the catalog says of a function of the server's, with what was granted at first on the source."""
    definition: dict[str, Any] = {"privileges": sorted(grants)}
    return {"function f": definition if at_first is None else definition | {"at first": at_first}}


FIRST = ["PUBLIC=EXECUTE", "postgres=EXECUTE"]
CHANGED: dict[str, tuple[dict[str, Any], dict[str, Any], str, list[str]]] = {
    "granted on the source": (changed(FIRST, *FIRST, "a=EXECUTE"), {}, "postgres", []),
    "revoked on the source": (changed(FIRST, "postgres=EXECUTE"), {}, "postgres", []),
    "both alike": (changed(FIRST, "postgres=EXECUTE"), changed(None, "postgres=EXECUTE"), "postgres", []),
    "another on the target": (
        *(changed(FIRST, *FIRST, "a=EXECUTE"), changed(None, *FIRST, "b=EXECUTE")),
        *("postgres", ["privileges"]),
    ),
    "with the right to grant": (
        *(changed(FIRST, *FIRST, "a=EXECUTE"), changed(None, *FIRST, "a=EXECUTE*")),
        *("postgres", ["privileges"]),
    ),
    "only on the target": ({}, changed(None, *FIRST, "b=EXECUTE"), "postgres", ["extra"]),
    "made by another": (changed(FIRST, *FIRST, "a=EXECUTE"), {}, "admin", ["privileges"]),
}


@pytest.mark.parametrize("case", sorted(CHANGED))
def test_what_becomes_of_grants_on_what_came_with_the_server(case: str) -> None:
    """What differs from how it came is written, and meets what the target's administrator has done."""
    ours, theirs, maker, aspects = CHANGED[case]
    source, target = side(changed_privileges=ours), side(maker=maker, changed_privileges=theirs)
    assert aspects == [one.aspect for one in foretold(source, target)]


DEFAULTS = "owner in every schema for f"
USUALLY = ["PUBLIC=EXECUTE", "owner=EXECUTE"]


@pytest.mark.parametrize(
    ("ours", "theirs", "differ"),
    [
        ([*USUALLY, "a=EXECUTE"], None, False),
        ([*USUALLY, "a=EXECUTE"], [*USUALLY, "a=EXECUTE"], False),
        (["owner=EXECUTE"], [*USUALLY, "a=EXECUTE"], True),
        ([*USUALLY, "a=EXECUTE"], ["owner=EXECUTE"], True),
        (["owner=EXECUTE", "a=EXECUTE"], ["owner=EXECUTE"], False),
        (None, ["owner=EXECUTE"], True),
    ],
)
def test_what_becomes_of_default_privileges(ours: list[str] | None, theirs: list[str] | None, differ: bool) -> None:
    """They are carried, and meet those that are there."""
    source, target = (
        side(default_privileges={} if grants is None else {DEFAULTS: {"privileges": sorted(grants)}})
        for grants in (ours, theirs)
    )
    assert differ is bool(foretold(source, target))


def extension(version: str) -> dict[str, Any]:
    """What the catalog says of citext."""
    return {"citext": {"schema": "public", "version": version, "comment": None}}


@pytest.mark.parametrize(
    ("ours", "theirs", "target_version", "differ"),
    [
        (extension("1.5"), {}, 150000, True),
        (extension("1.5 (its server's default)"), {}, 160000, False),
        (extension("1.6"), {}, 150000, False),
        (extension("1.6 (its server's default)"), extension("1.5"), 150000, True),
        ({}, extension("1.6 (its server's default)"), 150000, True),
    ],
)
def test_what_becomes_of_extensions(
    ours: dict[str, Any], theirs: dict[str, Any], target_version: int, differ: bool
) -> None:
    """CREATE EXTENSION takes the version of the target's server; what is there already stays as it is."""
    source, target = side(extension=ours), side(target_version, extension=theirs)
    assert differ is bool(foretold(source, target))


def test_a_new_kind_without_a_fate_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than passed over."""
    monkeypatch.delitem(FATES, "setting")
    with pytest.raises(KeyError):
        statements(False, SITUATION, SITUATION, roles=((), ()), versions=(150000, 150000))


def test_a_read_only_default_of_the_user_s_is_not_carried() -> None:
    """It is what a freeze sets, so a move passes it over; all other settings of the database are set anew."""
    names = "every role: default_transaction_read_only", "every role: work_mem", "app: work_mem"
    source = side(setting={name: {"value": "on"} for name in names})
    target = side(setting={"every role: work_mem": {"value": "1MB"}})
    assert [(names[0], "missing")] == [(one.object, one.aspect) for one in foretold(source, target)]
