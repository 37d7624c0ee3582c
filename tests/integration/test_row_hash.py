"""What a row's hash tells apart and what it does not: values by their meaning, wherever and however they came about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import psycopg
import pytest

from statehub_plan.demo.cluster import Cluster
from statehub_plan.postgres.compare import compare
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.content import digest_rows
from statehub_plan.postgres.relations import PageRange, Relation, read_relations
from statehub_plan.postgres.seeds import SEEDS, Seeds
from statehub_plan.postgres.snapshot import pin_rendering
from tests.integration.test_corpus_content import database_with

WHOLE = PageRange(0, None, 1.0)

COMPUTED = {
    "float8": ("'inf'::float8 * 0", "-('NaN'::float8)", "'-inf'::float8 + 'inf'", "-(0::float8)", "0.1::float8 + 0.2"),
    "float4": ("'inf'::float4 * 0", "(1.0 / 3)::float4", "-(0::float4)"),
    "float8[]": ("ARRAY['inf'::float8 * 0, 1]", "array_remove(ARRAY[1.5, NULL]::float8[], NULL)"),
    "int4[]": (
        "array_remove(ARRAY[1, NULL, 2], NULL)",
        "(ARRAY[1, 2, 3])[2:3]",
        "ARRAY[1] || NULL::int4",
        "'[5:6]={1,2}'",
    ),
    "text[]": (
        "array_replace(ARRAY['a', NULL], NULL, 'b')",
        "string_to_array('x,y', ',')",
        "array_fill('z'::text, '{2,2}')",
    ),
    "numeric": ("1.0 * 1.00", "10::numeric / 4", "1e20::numeric - 1e20", "'inf'::numeric - 'inf'", "trunc(2.50, 1)"),
    "point": ("point('inf'::float8 * 0, 1)", "point(1, 2) * point(0, 1)"),
    "box": ("box(point(3, 4), point(1, 2))", "box(point('inf'::float8 * 0, 1), point(1, 2))"),
    "path": ("path '[(0,0),(1,1)]' + path '[(2,2),(3,3)]'", "pclose(path '[(0,0),(1,1)]')"),
    "polygon": ("polygon(box '((0,0),(1,1))')", "polygon(6, circle '((0,0),1)')"),
    "jsonb": (
        "jsonb_set('{\"a\": 1.0}', '{b}', '2.00')",
        "'{\"a\": 1, \"b\": 2}'::jsonb - 'b'",
        "'[1]'::jsonb || '[null]'",
    ),
    "tsvector": (
        "setweight('b:2 a:1'::tsvector, 'A')",
        "strip('b:2 a:1'::tsvector)",
        "'a:1'::tsvector || 'a:1'::tsvector",
    ),
    "interval": ("'1 month'::interval * 1.5", "justify_days('40 days')", "'1 day'::interval - '24 hours'::interval"),
    "timestamptz": ("'2024-02-29 12:00Z'::timestamptz + '1 year'", "'infinity'", "to_timestamp(0.1)"),
    "bit varying": ("B'1010' << 1", "substring(B'10101' FROM 2 FOR 3)", "B'101' || B'1'", "~B'101'::varbit"),
    "inet": ("'10.0.0.1'::inet + 5", "set_masklen('10.0.0.1/32'::inet, 8)", "network('10.1.2.3/8')"),
    "int4range": ("int4range(1, 3, '[]')", "int4range(1, 5) * int4range(7, 9)", "int4range(1, 5) - int4range(3, 9)"),
    "nummultirange": ("range_agg(numrange(x, x + 1.0)) FROM generate_series(1, 3) x", "'{}'"),
    "bytea": ("substring('\\x010203'::bytea FROM 2)", "set_bit('\\x00'::bytea, 3, 1)", "''"),
    "text": ("substring(repeat('abc', 5000) FROM 2 FOR 9000)", "repeat('wide ', 3000)", "''", "' a '"),
    "bpchar": ("'a  '::bpchar || ''", "rpad('x', 4)::char(6)"),
    "uuid": ("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",),
    "money": ("'1.005'::money * 3",),
}
"""Values that no input function makes, and some that look like nothing special."""

PAIRS = {
    "bool": ("true", "false"),
    "int2": ("0", "-1"),
    "int4": ("0", "4711"),
    "int8": ("0", "4294967297"),
    "text": ("''", "'0'"),
    "varchar(9)": ("''", "'n'"),
    "char(3)": ("''", "'n'"),
    "uuid": ("'00000000-0000-0000-0000-000000000000'", "'00000000-0000-0000-0000-000000000001'"),
    "numeric": ("0", "0.0"),
    "float8": ("0", "'NaN'"),
    "jsonb": ("'{}'", "'null'"),
    "json": ("'{}'", "'null'"),
    "timestamptz": ("'2000-01-01 00:00Z'", "'infinity'"),
    "date": ("'2000-01-01'", "'2000-01-02'"),
    "bytea": ("''", "'\\x00'"),
    "int4[]": ("'{}'", "'{NULL}'"),
    "inet": ("'10.0.0.1'", "'10.0.0.1/8'"),
    "bit(3)": ("B'000'", "B'001'"),
}


@pytest.fixture
def session(target_db: str) -> Iterator[Connection]:
    """A pinned one."""
    with connect(target_db, purpose="test") as connection:
        pin_rendering(connection)
        yield connection


def table_of(session: Connection, columns: str, *rows: str) -> Relation:
    """The only table, made anew with these rows."""
    session.execute("DROP TABLE IF EXISTS public.t")
    session.execute(f"CREATE TABLE public.t ({columns})".encode())
    for row in rows:
        session.execute(f"INSERT INTO public.t VALUES {row}".encode())
    (relation,) = read_relations(session)
    return relation


def digest_of(session: Connection, columns: str, *rows: str) -> str:
    """Of such a table."""
    return str(digest_rows(session, table_of(session, columns, *rows), WHOLE))


def test_what_a_copy_carries_over_is_equal_however_it_was_computed(source_db: str, target_db: str) -> None:
    """The sign of NaN, an array's room for NULLs, bits that no output shows: none of it is part of a value."""
    with psycopg.connect(source_db) as ours, psycopg.connect(target_db) as theirs:
        for number, (declaration, values) in enumerate(COMPUTED.items()):
            for connection in (ours, theirs):
                connection.execute(f"CREATE TABLE public.c{number} (n int4, v {declaration})".encode())
            for place, value in enumerate(values):
                ours.execute(f"INSERT INTO public.c{number} SELECT {place}, {value}".encode())
        ours.execute("INSERT INTO public.c3 VALUES (9, ARRAY[1, NULL])")
        ours.execute("UPDATE public.c3 SET v[2] = 2 WHERE n = 9")
        for number in range(len(COMPUTED)):
            with (
                ours.cursor().copy(f"COPY public.c{number} TO STDOUT".encode()) as leaving,
                theirs.cursor().copy(f"COPY public.c{number} FROM STDIN".encode()) as arriving,
            ):
                for block in leaving:
                    arriving.write(block)
    found = compare(source_db, target_db)
    assert (found.differences, found.unknown) == ((), ())


def test_no_encoding_hides_a_missing_text(source_cluster: Cluster, target_cluster: Cluster) -> None:
    """Rows that differ beside a NULL text do so in Latin-1, too; and what is equal is so in another encoding."""
    columns = "a int4, b text, c varchar, d bool, e int8, f uuid"
    rows = ["(1, NULL, 'é', true, 7, NULL)", "(2, NULL, 'é', true, 7, NULL)", "(1, NULL, 'é', NULL, 7, NULL)"]
    rows += ["(NULL, NULL, NULL, NULL, NULL, NULL)", "(1, '', '', false, 0, NULL)", "(1, '', NULL, false, 0, NULL)"]
    found = []
    for cluster, encoding in ((source_cluster, "LATIN1"), (target_cluster, "UTF8"), (target_cluster, "LATIN1")):
        with (
            database_with(cluster, f"ENCODING '{encoding}' LOCALE 'C'") as dsn,
            connect(dsn, purpose="test") as session,
        ):
            pin_rendering(session)
            found.append([digest_of(session, columns, row) for row in rows])
    assert len(rows) == len(set(found[0]))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("declaration", PAIRS)
def test_exchanged_and_missing_values_are_told_apart(session: Connection, declaration: str) -> None:
    """Which of two columns a value stands in, in which of two rows, and whether there is one at all."""
    one, other = PAIRS[declaration]
    two = f"a {declaration}, b {declaration}"
    contents = [f"({left}, {right})" for left in (one, other, "NULL") for right in (one, other, "NULL")]
    digests = [digest_of(session, two, row) for row in contents]
    assert len(set(digests)) == len(digests)
    pairs = [digest_of(session, two, *rows) for rows in combinations(contents, 2)]
    assert len(set(pairs)) == len(pairs)
    three = f"x text, y int8, {two}, z numeric"
    among = [digest_of(session, three, f"('x', 1, {row[1:-1]}, 2.5)") for row in contents]
    assert len(set(among)) == len(among)


def test_many_columns_of_a_kind_are_told_apart(session: Connection) -> None:
    """Each pair of columns exchanged, of types that are hashed alone, in seeds, in an array and as a record."""
    for declaration in ("int8", "text", "timestamptz", "oid"):
        columns = ", ".join(f"c{number} {declaration}" for number in range(5))
        values = ["'2001-01-01 00:00Z'", *(f"'200{n}-01-01 00:00Z'" for n in range(2, 6))]
        row = values if declaration in ("text", "timestamptz") else ["1", "2", "3", "4", "5"]
        rows = {digest_of(session, columns, f"({', '.join(row)})")}
        for left, right in combinations(range(5), 2):
            exchanged = list(row)
            exchanged[left], exchanged[right] = row[right], row[left]
            rows.add(digest_of(session, columns, f"({', '.join(exchanged)})"))
        assert len(rows) == 11


def test_columns_count_by_name_and_wherever_they_are_stored(session: Connection) -> None:
    """Neither their order nor whether wide values are fetched beforehand changes a digest; the seeds do."""
    one = digest_of(session, "a text, b int4, c jsonb", "(repeat('x', 9000), 1, '{}')", "(NULL, NULL, NULL)")
    assert one == digest_of(session, "c jsonb, b int4, a text", "('{}', 1, repeat('x', 9000))", "(NULL, NULL, NULL)")
    (relation,) = read_relations(session)
    assert [one] * 2 == [str(digest_rows(session, replace(relation, wide=wide), WHOLE)) for wide in (True, False)]
    assert one != str(digest_rows(session, replace(relation, seeds=Seeds(SEEDS.first, 0)), WHOLE))


def test_a_digest_means_the_same_years_later(source_db: str, target_db: str) -> None:
    """Backups keep them: with the fixed seeds each server gives exactly these."""
    columns = "a int8, b text, c uuid, d numeric, e timestamptz, f jsonb, g bool, h text[], i oid, j float8, k int2"
    row = (
        "(1, 'é', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 1.50, '2024-02-29 12:00Z', '{\"a\": [1.0]}', true, "
        "'{x,NULL}', 7, '-0', NULL)"
    )
    for dsn in (source_db, target_db):
        with connect(dsn, purpose="test") as session:
            pin_rendering(session)
            assert digest_of(session, columns, row) == "1:93810e7083827fe0072903f1b450867a"
            assert digest_of(session, "n numeric", "(1.50)", "(NULL)") == "2:01236cfd61a4a1a9e7cf35929f8b491c"
            assert digest_of(session, "a int4, b int4, c int4", "(1, 2, NULL)") == "1:aef6f9d83b3cc69da8c54e10f70afd2e"


def test_a_cast_of_the_users_own_hides_nothing(session: Connection) -> None:
    """What a value looks like is told by its type's output function; a row of NULLs is another value than NULL."""
    session.execute("DROP SCHEMA IF EXISTS blind CASCADE; CREATE SCHEMA blind")
    session.execute("CREATE TYPE blind.mood AS ENUM ('a', 'b'); CREATE TYPE blind.pair AS (a int, b text)")
    for name in ("mood", "pair"):
        session.execute(
            f"CREATE FUNCTION blind.hide(blind.{name}) RETURNS text IMMUTABLE LANGUAGE sql RETURN 'same';"
            f"CREATE CAST (blind.{name} AS text) WITH FUNCTION blind.hide(blind.{name}) AS IMPLICIT".encode()
        )
    values = {"blind.mood": ("'a'", "'b'", "NULL"), "blind.pair": ("'(1,x)'", "'(1,y)'", "'(,)'", "NULL")}
    for declaration, some in values.items():
        assert len(some) == len({digest_of(session, f"v {declaration}", f"({value})") for value in some})
    assert len({digest_of(session, "v blind.mood[]", f"('{{{label}}}')") for label in ("a", "b", "NULL")}) == 3


def test_seeds_are_written_and_read() -> None:
    """32 hexadecimal digits, and nothing else."""
    seeds = Seeds.fresh()
    assert Seeds.parse(str(seeds)) == seeds != Seeds.fresh()
    for text in ("", "12", "g" * 32, "A" * 32, "1" * 33):
        with pytest.raises(ValueError, match="32 hexadecimal digits"):
            Seeds.parse(text)
