"""Values that cannot be computed, or that no encoding has: what is stored is compared, and no value is told."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from statehub_plan.demo.cluster import Cluster
from statehub_plan.postgres.catalog import read_catalog
from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.sides import attempt
from statehub_plan.postgres.snapshot import Snapshot
from tests.integration.moving import database, run_script

CARD = "4111-1111-1111-1111"
VIRTUAL = (
    "CREATE TABLE public.t (id integer PRIMARY KEY, card text, g integer GENERATED ALWAYS AS (card::integer) VIRTUAL); "
    f"INSERT INTO public.t (id, card) VALUES (1, '{CARD}')"
)


def test_a_virtual_column_that_cannot_be_computed_hinders_no_proof(target_cluster: Cluster, target_db: str) -> None:
    """Nothing of it is stored: its expression and what that reads are compared."""
    with database(target_cluster) as other:
        for dsn in (target_db, other):
            run_script(dsn, VIRTUAL)
        assert Answer.EQUAL is compare(target_db, other).answer
        run_script(other, "UPDATE public.t SET card = 'another'")
        found = compare(target_db, other, values=True)
        assert Answer.DIFFERENT is found.answer
        assert ["card"] == [value.column for value in found.differences[0].rows[0].values]


def test_a_reason_tells_no_value(source_db: str) -> None:
    """What the server says of a value that it cannot convert holds that value; its code says enough."""
    with Snapshot(source_db, purpose="test") as snapshot:
        told = attempt(snapshot.leader, lambda: snapshot.leader.execute(f"SELECT '{CARD}'::text::integer").fetchone())
        other = attempt(snapshot.leader, lambda: snapshot.leader.execute("SELECT * FROM public.missing").fetchone())
    assert "a value could not be computed or converted (SQLSTATE 22P02)" == told
    assert "public.missing" in str(other)


LATIN = r"""
DO $$ BEGIN
    EXECUTE 'CREATE TABLE public.t (id integer PRIMARY KEY, x text DEFAULT ''' || E'{0}' || ''')';
    EXECUTE 'COMMENT ON TABLE public.t IS ''' || E'{0}\xc3\xa9' || '''';
END $$
"""


def test_bytes_that_are_no_text_stand_in_definitions(target_cluster: Cluster) -> None:
    """A database without an encoding takes every byte; one that differs is told by its number."""
    with _without_encoding(target_cluster) as one, _without_encoding(target_cluster) as other:
        for dsn in (one, other):
            run_script(dsn, LATIN.format(r"\xe9"))
        assert Answer.EQUAL is compare(one, other).answer
        run_script(other, "DROP TABLE public.t")
        run_script(other, LATIN.format(r"\xe8"))
        found = compare(one, other)
    assert {"default", "text"} == {difference.aspect for difference in found.differences}
    assert any("\ufffde9é" in str(difference) for difference in found.differences)


@contextmanager
def _without_encoding(cluster: Cluster) -> Iterator[str]:
    name = f"bytes_{secrets.token_hex(6)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        options = "TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
        connection.execute(f"CREATE DATABASE {name} {options}".encode())
        try:
            yield cluster.dsn(name)
        finally:
            connection.execute(f"DROP DATABASE {name} (FORCE)".encode())


def test_large_objects_that_are_alike_are_described_once(source_db: str) -> None:
    """There may be millions; each is found by its number all the same."""
    role = f"owner_{secrets.token_hex(6)}"
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute(f"SELECT lo_create(g) FROM generate_series(999998, 1000002) g; CREATE ROLE {role}".encode())
        try:
            connection.execute(f"GRANT SELECT ON LARGE OBJECT 1000001 TO {role}".encode())
            found = read_catalog(connection, other_version=connection.info.server_version)
        finally:
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())
    definitions = {name: one.definition for (kind, name), one in found.items() if kind == "large object"}
    assert {str(number) for number in range(999998, 1000003)} == definitions.keys()
    assert definitions["1000000"] is definitions["1000002"]
    assert definitions["1000000"] == definitions["999999"] != definitions["1000001"]
