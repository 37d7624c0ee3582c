"""Checks of encodings and collations. Indexes are built anew on the target, so that a difference means another order
of text there and never a corrupt index."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.preflight import Severity
from statehub_plan.postgres.checks.declare import Look, Place, Query, Seen, check, ident
from statehub_plan.postgres.checks.questions import USER_SCHEMA

__all__: list[str] = []

_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin", "d": "default"}
# Read through to_jsonb, because 14 lacks the columns, and 15, 16 call one of them otherwise than 17.
_DATABASE = Query(
    """
    SELECT pg_encoding_to_char(d.encoding), coalesce(j->>'datlocprovider', 'c'),
           coalesce(j->>'datlocale', j->>'daticulocale', d.datcollate), d.datctype, j->>'datcollversion', d.oid
    FROM pg_database d, to_jsonb(d) j WHERE d.datname = current_database()
    """
)
_VERSION = Query(
    "SELECT pg_database_collation_actual_version(d.oid) FROM pg_database d WHERE datname = current_database()"
)
_STALE = Query(
    """
    SELECT c.oid::regcollation::text, c.collversion, pg_collation_actual_version(c.oid) FROM pg_collation c
    WHERE c.collversion <> pg_collation_actual_version(c.oid)
      AND EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_collation'::regclass AND d.refobjid = c.oid)
    ORDER BY 1
    """
)
_USED = Query(
    f"""
    SELECT DISTINCT k.collname, k.collprovider, k.collversion FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_collation k ON k.oid = a.attcollation JOIN pg_namespace kn ON kn.oid = k.collnamespace
    WHERE kn.nspname = 'pg_catalog' AND k.collprovider <> 'd' AND NOT a.attisdropped AND {USER_SCHEMA} ORDER BY 1
    """
)
_KNOWN = Query(
    "SELECT collname, collprovider FROM pg_collation WHERE collnamespace = 'pg_catalog'::regnamespace "
    "AND collencoding IN (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))"
)
_OWN_COLLATIONS = Query(
    f"SELECT c.oid::regcollation::text FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace "
    f"WHERE c.collprovider = 'i' AND {USER_SCHEMA} ORDER BY 1"
)
_ICU = Query("SELECT EXISTS (SELECT FROM pg_collation WHERE collnamespace = 'pg_catalog'::regnamespace "
             "AND collprovider = 'i' AND collname ~ '-x-icu$')")  # fmt: skip
_VERSIONED_SINCE = 15


@check(
    "encoding-differs",
    Severity.ERROR,
    Place.TARGET,
    title="both databases have the same encoding",
    reason="not every text can be converted, and one that can may be longer than its column allows",
    here=(_DATABASE,),
    there=(_DATABASE,),
)
def _encoding(look: Look) -> Iterator[Seen]:
    ours, theirs = look.here.row(_DATABASE)[0], look.there.row(_DATABASE)[0]
    if ours != theirs:
        yield Seen(
            f"the source is encoded in {theirs}, the target in {ours}",
            f"create the target database with ENCODING '{theirs}' TEMPLATE template0",
        )


@check(
    "collation-differs",
    Severity.WARNING,
    Place.TARGET,
    title="both databases sort and classify text by the same rules",
    reason="ORDER BY, LIKE ranges, upper() and unique case-insensitive keys answer differently after the redirect",
    here=(_DATABASE,),
    there=(_DATABASE,),
)
def _differs(look: Look) -> Iterator[Seen]:
    ours, theirs = (answers.row(_DATABASE)[1:4] for answers in (look.here, look.there))
    if ours != theirs:
        provider, collate, ctype = theirs
        kind = _PROVIDERS.get(provider, provider)
        yield Seen(
            f"the source sorts by {_locale(theirs)}, the target by {_locale(ours)}; indexes are built anew there",
            f"to keep the order, create the target database with LOCALE_PROVIDER {kind}, locale '{collate}', "
            f"LC_CTYPE '{ctype}' TEMPLATE template0",
        )


def _locale(described: tuple[str, ...]) -> str:
    provider, collate, ctype = described
    return f"{collate} ({_PROVIDERS.get(provider, provider)}{'' if ctype == collate else f', ctype {ctype}'})"


@check(
    "collation-version-differs",
    Severity.WARNING,
    Place.TARGET,
    title="both hosts have the same version of the collation's library",
    reason="the same locale sorts differently in another version: pages of a list overlap, a range leaves rows out",
    here=(_DATABASE, _VERSION),
    there=(_DATABASE, _VERSION),
)
def _version(look: Look) -> Iterator[Seen]:
    if min(look.here.info.major, look.there.info.major) < _VERSIONED_SINCE:
        return
    ours, theirs = look.here.value(_VERSION), look.there.value(_VERSION)
    same_rules = look.here.row(_DATABASE)[1:3] == look.there.row(_DATABASE)[1:3]
    if same_rules and None not in (ours, theirs) and ours != theirs:
        yield Seen(
            f"the collation's library is of version {theirs} on the source and {ours} on the target; indexes are built "
            "anew there, the order of text may differ",
            "look at lists that are sorted by text after the move, or take the same library on both hosts",
        )


@check(
    "collation-version-stale",
    Severity.WARNING,
    Place.EACH,
    title="indexes were built with the library that is installed",
    reason="the operating system was upgraded under its indexes: lookups miss rows that are there, unique keys are not",
    here=(_DATABASE, _STALE, _VERSION),
)
def _stale(look: Look) -> Iterator[Seen]:
    if look.here.info.major >= _VERSIONED_SINCE:
        recorded, actual = look.here.row(_DATABASE)[4], look.here.value(_VERSION)
        if None not in (recorded, actual) and recorded != actual:
            name = ident(look.here.info.database)
            yield Seen(
                f"the {look.side}'s database was built with version {recorded} of its collation, {actual} is installed",
                f"REINDEX DATABASE {name}; ALTER DATABASE {name} REFRESH COLLATION VERSION",
            )
    for name, recorded, actual in look.here.rows(_STALE):
        yield Seen(
            f"collation {name} of the {look.side} was used in version {recorded}, {actual} is installed",
            f"reindex what uses it, then ALTER COLLATION {name} REFRESH VERSION",
            name,
        )


@check(
    "collation-missing",
    Severity.ERROR,
    Place.TARGET,
    title="the target has every collation that columns use",
    reason="loading the schema fails at the first column whose collation the target's host does not have",
    here=(_KNOWN, _ICU),
    there=(_USED, _OWN_COLLATIONS),
)
def _missing(look: Look) -> Iterator[Seen]:
    known = {name for name, _ in look.here.rows(_KNOWN)}
    for name, provider, _ in look.there.rows(_USED):
        if name not in known:
            yield Seen(
                f"collation {name} ({_PROVIDERS.get(provider, provider)}) is used on the source, unknown on the target",
                "install the locale on the target's host (or a server built with ICU), then "
                "SELECT pg_import_system_collations('pg_catalog')",
                name,
            )
    if not look.here.value(_ICU):
        for (name,) in look.there.rows(_OWN_COLLATIONS):
            yield Seen(
                f"collation {name} of the source takes ICU, and the target's server was built without it",
                "choose a target whose server was built with ICU",
                name,
            )
