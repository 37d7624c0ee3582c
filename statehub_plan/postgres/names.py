"""How objects are called in facts, proofs, plans and messages: put together from their parts so that no two of them are
called the same, in Python and in SQL.

Joining with dots alone makes one name of `a."b.c"` and `"a.b".c`, and whatever is kept by name then loses one of them.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from typing import TypeVar

from statehub_plan.postgres.comparison import CannotTell

__all__ = ["once", "qualified", "sql_qualified", "sql_role", "sql_word", "word"]

_KeyT = TypeVar("_KeyT", bound=Hashable)
_ValueT = TypeVar("_ValueT")


def qualified(*parts: str) -> str:
    """`schema.table`, `schema.table.column`. A part that holds a dot or a double quote is quoted as in SQL, all others
    stand as they are: so this is no SQL, and what is called `Mixed Case` is told without quotes."""
    return ".".join(f'"{_doubled(part)}"' if "." in part or '"' in part else part for part in parts)


def word(name: str) -> str:
    """For names that become part of a sentence: quoted as well where they hold blanks or a colon."""
    return f'"{_doubled(name)}"' if re.search(r'[\s.:"]', name) else name


def sql_qualified(*columns: str) -> str:
    """The same as an SQL expression over these columns."""
    return " || '.' || ".join(_quoted_where(column, '[."]') for column in columns)


def sql_word(column: str) -> str:
    """`word` as an SQL expression over this column."""
    return _quoted_where(column, r'[\s.:"]')


def sql_role(oid: str) -> str:
    """Who something is granted to, given the expression of an OID: PUBLIC is everybody, and "PUBLIC" a role that is
    called so."""
    name = _quoted_where(f"pg_get_userbyid({oid})", '^PUBLIC$|"')
    return f"CASE {oid} WHEN 0 THEN 'PUBLIC' ELSE {name} END"


def once(pairs: Iterable[tuple[_KeyT, _ValueT]], of: str) -> dict[_KeyT, _ValueT]:
    """A dict of these; CannotTell where two have one key: the other of them would be looked at by nobody."""
    found: dict[_KeyT, _ValueT] = {}
    for key, value in pairs:
        if key in found:
            raise CannotTell(f"two of its {of} are called {key}, and only one of them would be looked at")
        found[key] = value
    return found


def _doubled(part: str) -> str:
    return part.replace('"', '""')


def _quoted_where(expression: str, pattern: str) -> str:
    quoted = f"""'"' || replace({expression}::text, '"', '""') || '"'"""
    return f"CASE WHEN {expression}::text ~ '{pattern}' THEN {quoted} ELSE {expression}::text END"
