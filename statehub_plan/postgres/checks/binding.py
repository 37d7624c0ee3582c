"""Checks of expressions that a dump does not say in full."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from statehub_plan.model.preflight import Severity
from statehub_plan.postgres.catalog_binding import silent
from statehub_plan.postgres.checks.declare import Look, Place, Query, Seen, check
from statehub_plan.postgres.checks.questions import USER_SCHEMA, not_extension

__all__: list[str] = []

_OF_RELATIONS = {
    # catalog → the relation that a row belongs to, and its expressions
    "pg_rewrite": ("x.ev_class", "x.ev_action", "x.ev_qual"),
    "pg_attrdef": ("x.adrelid", "x.adbin"),
    "pg_constraint": ("x.conrelid", "x.conbin"),
    "pg_policy": ("x.polrelid", "x.polqual", "x.polwithcheck"),
    "pg_trigger": ("x.tgrelid", "x.tgqual"),
    "pg_statistic_ext": ("x.stxrelid", "x.stxexprs"),
}
_INDEXES = "(SELECT i.indexrelid AS oid, i.* FROM pg_index i) x JOIN pg_class c ON c.oid = x.indrelid"
_KEYS = "(SELECT p.partrelid AS oid, p.* FROM pg_partitioned_table p) x JOIN pg_class c ON c.oid = x.oid"
_DOMAINS = "pg_constraint x JOIN pg_type t ON t.oid = x.contypid"
_PLACES = (
    *(
        (catalog, f"{catalog} x JOIN pg_class c ON c.oid = {relation}", "c.relnamespace", ("pg_class", "c.oid"), trees)
        for catalog, (relation, *trees) in _OF_RELATIONS.items()
    ),
    ("pg_class", _INDEXES, "c.relnamespace", ("pg_class", "c.oid"), ["x.indexprs", "x.indpred"]),
    ("pg_class", _KEYS, "c.relnamespace", ("pg_class", "c.oid"), ["x.partexprs"]),
    ("pg_constraint", _DOMAINS, "t.typnamespace", ("pg_type", "t.oid"), ["x.conbin"]),
    ("pg_type", "pg_type x", "x.typnamespace", ("pg_type", "x.oid"), ["x.typdefaultbin"]),
    ("pg_proc", "pg_proc x", "x.pronamespace", ("pg_proc", "x.oid"), ["x.prosqlbody", "x.proargdefaults"]),
)
# What is in pg_catalog is found under every search_path.
_SILENT = Query(
    " UNION ALL ".join(
        "SELECT called.type || ' ' || called.identity, way.told "
        f"FROM {rows} JOIN pg_namespace n ON n.oid = {schema} "
        f"CROSS JOIN LATERAL ({silent(catalog, 'x.oid', *trees)}) way(told) "
        f"CROSS JOIN LATERAL pg_identify_object('{catalog}'::regclass, x.oid, 0) called "
        f"WHERE {USER_SCHEMA} AND {not_extension(*member)} AND way.told !~ ' by operator pg_catalog[.]'"
        for catalog, rows, schema, member, trees in _PLACES
    )
    + " ORDER BY 1, 2"
)


@check(
    "operators-unsaid",
    Severity.WARNING,
    Place.SOURCE,
    title="every expression says by which operator it compares",
    reason="CASE … WHEN, NULLIF, IS DISTINCT FROM, JOIN … USING and rows are dumped without the operator; read again, "
    "with nothing but pg_catalog in sight, they compare by another one, or are refused: the target lets in and shows "
    "other rows, and the comparison says so",
    here=(_SILENT,),
)
def _unsaid(look: Look) -> Iterator[Seen]:
    for name, of_it in groupby(look.here.rows(_SILENT), key=lambda row: row[0]):
        yield Seen(
            f"{name} compares without saying how: {', '.join(told for _, told in of_it)}; a dump of it is bound to "
            "another operator, or refused, by whoever reads it",
            "write the operator out on the source: CASE WHEN a OPERATOR(schema.=) b THEN …, also for NULLIF and IS "
            "DISTINCT FROM; JOIN … ON a OPERATOR(schema.=) b; rows column by column",
            name,
        )
