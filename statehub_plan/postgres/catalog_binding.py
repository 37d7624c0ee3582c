"""Which operators and functions the expressions of an object are bound to, beyond what their text says.

pg_get_viewdef and its like write `CASE a WHEN b`, NULLIF, IS DISTINCT FROM, JOIN … USING and comparisons of rows
without the operator that compares (utils/adt/ruleutils.c). Whoever reads such a text again, pg_restore under an empty
search_path first of all, may get another operator by it: citext's `=` becomes that of text. So texts alone prove
nothing about these.
"""

from __future__ import annotations

__all__ = ["BINDING", "binding", "silent"]

BINDING = "binding"
"""The aspect that it is told as."""

_OPERATOR = "':opno ' || used.refobjid || ' '"
_NODES = {
    # what compares → what stands in every node of it, for a quick look; how these are stored (nodes/outfuncs.c), up to
    # the operator's number and from there on
    "NULLIF": ("{NULLIFEXPR ", r"\{NULLIFEXPR :opno ", " "),
    "IS DISTINCT FROM": ("{DISTINCTEXPR ", r"\{DISTINCTEXPR :opno ", " "),
    "CASE": ("{CASETESTEXPR ", r"\{OPEXPR :opno ", r" [^{}]*(\{[A-Z]+ [^{}]*)*\{CASETESTEXPR "),
    "a row": (":opnos (o ", r":opnos \(o( \d+)*? ", "[ )]"),
}
_PARTS = {
    # … between which texts the operator stands
    "USING": (":usingClause (", " :alias "),
    "a row of a query": (":testexpr {BOOLEXPR ", " :operName "),
}


def binding(catalog: str, oid: str, *trees: str) -> str:
    """SQL: sorted texts (JSON), or NULL, for what an object of a catalog uses: operators and functions that do not come
    with the server, of which there is no other record (pg_depend), and by which of these its expressions, the catalog's
    columns `trees`, compare without saying so. The same texts twice are told once."""
    return f"""(SELECT jsonb_agg(bound.told ORDER BY bound.told COLLATE "C") FROM (
        SELECT called.type || ' ' || called.identity
        FROM pg_depend used, pg_identify_object(used.refclassid, used.refobjid, 0) called
        WHERE {_uses(catalog, oid)} AND used.refclassid IN ('pg_operator'::regclass, 'pg_proc'::regclass)
        UNION {silent(catalog, oid, *trees)}) bound(told))"""


def silent(catalog: str, oid: str, *trees: str) -> str:
    """SQL: a row for each way in which the object compares by an operator of nobody's but the user's or an extension's,
    and its text does not say by which."""
    ways = [
        f"('{what}', strpos(tree.text, '{hint}') > 0 AND tree.text ~ ('{before}' || used.refobjid || '{after}'))"
        for what, (hint, before, after) in _NODES.items()
    ]
    ways += [
        f"('{what}', EXISTS (SELECT FROM unnest(string_to_array(tree.text, '{begin}')) WITH ORDINALITY part(text, nth) "
        f"WHERE part.nth > 1 AND strpos(split_part(part.text, '{end}', 1), {_OPERATOR}) > 0))"
        for what, (begin, end) in _PARTS.items()
    ]
    return f"""
        SELECT way.what || ' by operator ' || called.identity
        FROM pg_depend used, pg_identify_object(used.refclassid, used.refobjid, 0) called,
             concat_ws(' ', {", ".join(f"{tree}::text" for tree in trees)}) tree(text),
             LATERAL (VALUES {", ".join(ways)}) way(what, applies)
        WHERE {_uses(catalog, oid)} AND used.refclassid = 'pg_operator'::regclass AND way.applies"""


def _uses(catalog: str, oid: str) -> str:
    if catalog == "pg_attrdef":
        # Before 15 it is the column that depends on what a generated one is computed by.
        row = oid.removesuffix(".oid")
        return (
            f"(used.classid, used.objid, used.objsubid) IN (('pg_attrdef'::regclass, {oid}, 0), "
            f"('pg_class'::regclass, {row}.adrelid, {row}.adnum))"
        )
    return f"used.classid = '{catalog}'::regclass AND used.objid = {oid} AND used.objsubid = 0"
