"""Checks of extensions and of code that lives in the server's libraries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from psycopg import sql

from statehub_plan.model.preflight import Severity
from statehub_plan.postgres.checks.declare import Look, Move, Place, Probe, Query, Seen, check, ident
from statehub_plan.postgres.checks.questions import ROLE, USER_SCHEMA, not_extension, role
from statehub_plan.postgres.connect import Connection

__all__: list[str] = []

_INSTALLED = Query("SELECT extname, extversion FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY extname")
_AVAILABLE = Query(
    "SELECT a.name, a.default_version, a.installed_version, bool_or(v.trusted), array_agg(v.version) "
    "FROM pg_available_extensions a JOIN pg_available_extension_versions v ON v.name = a.name GROUP BY 1, 2, 3"
)
_WITH_ROWS_OF_THE_USER = """
SELECT e.extname, t.oid::regclass::text, t.condition FROM pg_extension e,
LATERAL unnest(e.extconfig, e.extcondition) AS t(oid, condition)
JOIN pg_class c ON c.oid = t.oid WHERE c.relkind IN ('r', 'p') AND c.relname NOT LIKE 'statehub_plan%'
"""
_C_FUNCTIONS = Query(
    f"""
    SELECT p.oid::regprocedure::text, p.probin FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_language l ON l.oid = p.prolang
    WHERE l.lanname = 'c' AND {USER_SCHEMA} AND {not_extension("pg_proc", "p.oid")} ORDER BY 1
    """
)


def _kept(connection: Connection, _: Move) -> list[tuple[Any, ...]]:
    """[(extension, table)] of configuration tables that hold rows of the user's."""
    found = []
    for extension, table, condition in connection.execute(_WITH_ROWS_OF_THE_USER).fetchall():
        query = sql.SQL("SELECT EXISTS (SELECT FROM {} {})").format(sql.SQL(table), sql.SQL(condition))
        if connection.execute(query).fetchone() == (True,):
            found.append((extension, table))
    return found


_KEPT = Probe(_kept)


@check(
    "extension-unavailable",
    Severity.ERROR,
    Place.TARGET,
    title="every extension of the source is available on the target's server",
    reason="loading the schema fails at CREATE EXTENSION",
    here=(_AVAILABLE,),
    there=(_INSTALLED,),
)
def _unavailable(look: Look) -> Iterator[Seen]:
    available = {row[0] for row in look.here.rows(_AVAILABLE)}
    for name, _ in look.there.rows(_INSTALLED):
        if name not in available:
            yield Seen(
                f"extension {name} is used on the source and not available on the target's server",
                f"install its package on the target's server, or DROP EXTENSION {ident(name)} on the source if unused",
                name,
            )


@check(
    "extension-not-creatable",
    Severity.ERROR,
    Place.TARGET,
    title="the tool's role may create every extension on the target",
    reason="loading the schema fails at an extension that only a superuser may create",
    here=(_AVAILABLE, ROLE),
    there=(_INSTALLED,),
)
def _not_creatable(look: Look) -> Iterator[Seen]:
    if role(look.here).superuser:
        return
    able = {name: installed or trusted for name, _, installed, trusted, _ in look.here.rows(_AVAILABLE)}
    for name, _ in look.there.rows(_INSTALLED):
        if name in able and not able[name]:
            yield Seen(
                f"extension {name} may be created on the target by a superuser only",
                f"as superuser on the target: CREATE EXTENSION {ident(name)}",
                name,
            )


@check(
    "extension-older",
    Severity.WARNING,
    Place.TARGET,
    title="the target has each extension in the source's version, or can make it so",
    reason="functions and types that the newer version brought are missing, or behave in the old way",
    here=(_AVAILABLE,),
    there=(_INSTALLED,),
)
def _older(look: Look) -> Iterator[Seen]:
    offered = {name: (installed or default, versions) for name, default, installed, _, versions in
               look.here.rows(_AVAILABLE)}  # fmt: skip
    for name, version in look.there.rows(_INSTALLED):
        if name not in offered:
            continue
        would_be, versions = offered[name]
        if version != would_be and version not in versions:
            yield Seen(
                f"extension {name} is of version {version} on the source and would be {would_be} on the target, whose "
                "server does not know the source's version",
                f"install the same version of its package there, or ALTER EXTENSION {ident(name)} UPDATE on the source",
                name,
            )


@check(
    "extension-data",
    Severity.ERROR,
    Place.SOURCE,
    title="no extension keeps rows of the user's",
    reason="tables of extensions are neither copied nor followed, so these rows would be missing",
    here=(_KEPT,),
)
def _data(look: Look) -> Iterator[Seen]:
    for extension, table in look.here.probed(_KEPT):
        yield Seen(
            f"extension {extension} keeps the user's own rows in {table}",
            "take these rows out, or carry them over by hand and leave them out of the extension's table",
            table,
        )


@check(
    "c-functions",
    Severity.WARNING,
    Place.SOURCE,
    title="no function of the user's is written in C",
    reason="its library is a file on the source's host, which no dump carries, built for one major version",
    here=(_C_FUNCTIONS,),
)
def _c_functions(look: Look) -> Iterator[Seen]:
    for name, library in look.here.rows(_C_FUNCTIONS):
        yield Seen(f"function {name} lives in {library}", "install that library on the target's server first", name)
