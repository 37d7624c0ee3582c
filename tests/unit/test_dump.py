"""Taking pg_dump's text apart without ever cutting through a quoted text."""

from __future__ import annotations

from itertools import pairwise

import pytest

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.dump import parse_dump, restore_list
from statehub_plan.postgres.relations import PageRange, Relation

HEADER = "--\n-- Name: {name}; Type: {kind}; Schema: {schema}; Owner: o\n--\n"
PREAMBLE = "--\n-- PostgreSQL database dump\n--\n\nSET row_security = off;\n\n"


def entry(name: str, kind: str, statement: str, schema: str = "public") -> str:
    """One entry as pg_dump writes it."""
    return HEADER.format(name=name, kind=kind, schema=schema) + f"\n{statement}\n\n\n"


EVIL = HEADER.format(name="evil", kind="TABLE", schema="public") + "DROP TABLE public.precious;"


@pytest.mark.parametrize(
    "quoted",
    [
        f"CREATE FUNCTION f() AS $$\n{EVIL}\n$$;",
        f"CREATE FUNCTION f() AS $_$ $$ \n{EVIL}\n$$ $_$;",
        f"CREATE VIEW v AS SELECT 'it''s\n{EVIL}\n'::text;",
        f"CREATE VIEW v AS SELECT E'\\'\n{EVIL}\n'::text;",
        f'CREATE VIEW v AS SELECT 1 AS "a""\n{EVIL}\n";',
        f"CREATE VIEW v AS SELECT 1 /*\n{EVIL}\n*/;",
        f"CREATE VIEW v AS SELECT a$1$\n, '\n{EVIL}\n';",
    ],
)
def test_a_header_inside_a_quoted_text_is_no_header(quoted: str) -> None:
    """However a text is quoted, what looks like the next entry inside it stays where it is."""
    dump = parse_dump(PREAMBLE + entry("v", "VIEW", quoted) + entry("t", "TABLE", "CREATE TABLE public.t ();"))
    assert [("v", "VIEW"), ("t", "TABLE")] == [(each.name, each.kind) for each in dump.entries]
    assert quoted in dump.entries[0].sql


def test_names_with_separators_are_kept() -> None:
    """A name may hold a semicolon, a colon, quotes."""
    (found,) = parse_dump(PREAMBLE + entry('We;ird: "x" y', "INDEX", "CREATE INDEX;", schema="Odd; Schema")).entries
    assert ('We;ird: "x" y', "INDEX", "Odd; Schema") == (found.name, found.kind, found.schema)


def test_a_dump_without_entries_is_one() -> None:
    """An empty database has a preamble only."""
    assert (PREAMBLE, ()) == ((dump := parse_dump(PREAMBLE)).preamble, dump.entries)


def test_psql_meta_commands_are_gone() -> None:
    """Only the pair with the key that pg_dump drew for this dump; the script is for the server's own parser."""
    inner = "COMMENT ON TABLE t IS '\n\\unrestrict other\n';"
    text = f"--\n\n\\restrict Ab3\n\n{PREAMBLE}{entry('t', 'COMMENT', inner)}\\unrestrict Ab3\n"
    script = parse_dump(text).script()
    assert "restrict Ab3" not in script
    assert inner in script
    with pytest.raises(StatehubError) as caught:
        parse_dump(text.replace("\\unrestrict Ab3\n", ""))
    assert caught.value.code == "dump-malformed"


def test_only_the_tools_own_stays_out_of_a_restore() -> None:
    """By what it is and what it is called, not by who owns it: a role may be called as the tool is."""
    own = [
        "12; 2620 16405 TRIGGER public note statehub_plan_fence owner",
        "13; 2620 16406 TRIGGER my schema my table statehub_plan_fence owner",
        "14; 6104 16407 PUBLICATION - statehub_plan owner",
        "15; 6106 16408 PUBLICATION TABLE public statehub_plan note owner",
        "16; 6106 16409 PUBLICATION TABLE statehub_plan statehub_plan barrier statehub_plan",
        "17; 6106 16410 PUBLICATION TABLE my schema statehub_plan my table owner",
        "18; 0 0 COMMENT - EXTENSION hstore ",
    ]
    theirs = [
        ";",
        "; Selected TOC Entries:",
        "21; 1259 16411 TABLE public statehub_plan_fence statehub_plan",
        "22; 2620 16412 TRIGGER public note audit statehub_plan",
        "23; 6104 16413 PUBLICATION - theirs statehub_plan",
        "23; 6104 16418 PUBLICATION - statehub_planning owner",
        "24; 6106 16419 PUBLICATION TABLE public statehub_planning note owner",
        "24; 3466 16420 EVENT TRIGGER - statehub_plan_like owner",
        "24; 6106 16414 PUBLICATION TABLE public theirs note statehub_plan",
        "25; 6106 16415 PUBLICATION TABLE my schema theirs note statehub_plan_owner",
    ]
    assert "".join(f"{line}\n" for line in theirs) == restore_list("".join(f"{line}\n" for line in [*own, *theirs]))


def relation(size: int, pages: int, *, heap: bool = True) -> Relation:
    """A table of this many bytes and heap pages."""
    return Relation("public", "t", 1, False, heap, pages, size, (), ())


@pytest.mark.parametrize(("size", "pages"), [(0, 0), (100, 1), (10_000, 3), (999_999, 122), (50_000_000, 5)])
def test_page_ranges_cover_every_page_once(size: int, pages: int) -> None:
    """First at page 0, each where the one before ended, the last open for pages that were added meanwhile."""
    ranges = list(relation(size, pages).ranges(10_000))
    assert ranges[0].first == 0
    assert ranges[-1].end is None
    assert all(left.end == right.first for left, right in pairwise(ranges))
    assert abs(sum(each.share for each in ranges) - 1) < 1e-9
    assert len(ranges) <= max(1, pages)


def test_other_storage_is_never_split() -> None:
    """Page numbers mean something in a heap only."""
    assert [PageRange(0, None, 1.0)] == list(relation(10**9, 10**5, heap=False).ranges(10_000))
