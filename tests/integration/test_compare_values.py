"""Values that cannot be computed, or that no encoding has: what is stored is compared, and no value is told."""

from __future__ import annotations

from statehub_plan.demo.cluster import Cluster
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
