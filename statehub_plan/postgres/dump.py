"""A database's schema as pg_dump writes it, taken apart into its entries; and which of them are the tool's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.catalog_sql import PLACES_OWN
from statehub_plan.postgres.connect import SCHEMA, Connection
from statehub_plan.postgres.tools import major_of, run_tool
from statehub_plan.postgres.workers import nothing_to_lose

__all__ = [
    "EXCLUDED",
    "Entry",
    "SchemaDump",
    "dump_schema",
    "dump_statistics",
    "for_this_transaction",
    "parse_dump",
    "restore_list",
]

EXCLUDED = (f"--exclude-schema={SCHEMA}", "--no-blobs", "--no-subscriptions", "--no-tablespaces")
"""What of a database is its place's own and never travels: the tool's schema, tablespaces, what it subscribes to.
Large objects are refused beforehand."""

# pg_dump leaves none of these out with the schema: the fence is on the user's tables, the others are in no schema.
_OWN_FENCE = f"{SCHEMA}_fence"
_OWN_PUBLICATION = f"{SCHEMA}(?:_part)?"
# A line of `pg_restore --list`: number; catalog and OID; kind, schema (`-`: none), name, owner. Names may have spaces;
# a publication's table stands behind the publication; the owner may well be called as the tool is.
_NOT_RESTORED = re.compile(
    rf"^\d+; \d+ \d+ (TRIGGER .+ {_OWN_FENCE} |PUBLICATION TABLE .+ {_OWN_PUBLICATION} \S+ \S"
    rf"|PUBLICATION - {_OWN_PUBLICATION} |COMMENT - EXTENSION )"
)

_LOCK_WAIT = "--lock-wait-timeout=10000"
_TRANSACTION_TIMEOUT_SINCE = 17

# Everything in which a `--` at the start of a line would be no comment, and the comments themselves.
_TOKEN = re.compile(
    r"""
      [Ee]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | \$(?P<tag>(?:[A-Za-z_\x80-\uffff][A-Za-z_0-9\x80-\uffff]*)?)\$.*?\$(?P=tag)\$
    | /\*.*?\*/
    | (?P<header>^--\n--\ Name:\ (?P<name>[^\n]*);\ Type:\ (?P<kind>[^;\n]*);\ Schema:\ (?P<schema>[^\n]*);
      \ Owner:\ (?P<owner>[^\n]*)\n--\n)
    | --[^\n]*
    | [A-Za-z_\x80-\uffff][A-Za-z_0-9$\x80-\uffff]*
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of pg_dump's table of contents with its statements; `kind` is pg_dump's own word (`FK CONSTRAINT`)."""

    name: str
    kind: str
    schema: str
    sql: str


@dataclass(frozen=True, slots=True)
class SchemaDump:
    """Session settings, and the entries in the order in which they must be run."""

    preamble: str
    entries: tuple[Entry, ...]

    def script(self, skip: Callable[[Entry], bool] = lambda entry: False) -> str:
        """All of it as one script, without what is to be skipped."""
        return "\n".join((self.preamble, *(entry.sql for entry in self.entries if not skip(entry))))


def dump_schema(
    source: Connection,
    section: Literal["pre-data", "post-data"],
    *,
    target_major: int,
    check: Callable[[], None] = nothing_to_lose,
) -> SchemaDump:
    """One section of the source's schema for a server of `target_major`, by client tools that know both.

    Without the tool's own objects. Takes ACCESS SHARE locks, which a hold lets through; waits for them 10 s at most.
    """
    text = run_tool(
        "pg_dump",
        [f"--section={section}", _LOCK_WAIT, *EXCLUDED],
        source,
        min_major=max(major_of(source), target_major),
        check=check,
    )
    dump = parse_dump(text)
    preamble = dump.preamble
    if target_major < _TRANSACTION_TIMEOUT_SINCE:
        preamble = preamble.replace("SET transaction_timeout = 0;\n", "")
    return SchemaDump(preamble, tuple(_without_grants_for_a_move(each) for each in dump.entries if not _is_own(each)))


def dump_statistics(source: Connection, *, target_major: int, check: Callable[[], None] = nothing_to_lose) -> str:
    """A script that gives the planner of a server of 18 or newer what the source's planner knows about its tables.

    Without statistics of several columns together, which pg_dump 18 leaves out.
    """
    arguments = ["--statistics-only", _LOCK_WAIT, f"--exclude-schema={SCHEMA}"]
    major = max(major_of(source), target_major)
    text = _without_restrict(run_tool("pg_dump", arguments, source, min_major=major, check=check))
    # Only what comes before the first header: a value in a histogram may begin a line with SET.
    preamble, header, statistics = text.partition("--\n-- Statistics for Name: ")
    return for_this_transaction(preamble) + header + statistics


def restore_list(contents: str) -> str:
    """Of an archive's contents, as `pg_restore --list` tells them, what `pg_restore --use-list` restores anywhere.

    Without the tool's own objects, which refer to a schema that is in no dump, and the comments of extensions, which
    come with them and which only a superuser may set.
    """
    return "".join(line for line in contents.splitlines(keepends=True) if not _NOT_RESTORED.match(line))


def for_this_transaction(preamble: str) -> str:
    """pg_dump's session settings, so that they end with the transaction that runs them."""
    return re.sub(r"^SET ", "SET LOCAL ", preamble, flags=re.MULTILINE).replace("'', false)", "'', true)")


def parse_dump(text: str) -> SchemaDump:
    """What pg_dump wrote as plain text, taken apart; a quoted text that looks like an entry's header is left whole.

    psql's `\\restrict` lines go: the entries are run by the server's own parser, for which no meta-command exists.
    """
    text = _without_restrict(text)
    headers = [match for match in _TOKEN.finditer(text) if match["header"]]
    ends = [*(match.start() for match in headers), len(text)][1:]
    entries = tuple(
        Entry(match["name"], match["kind"], match["schema"], text[match.end() : end])
        for match, end in zip(headers, ends, strict=True)
    )
    return SchemaDump(text[: headers[0].start()] if headers else text, entries)


def _without_restrict(text: str) -> str:
    """Without the pair of lines that only psql understands; their key is random, so no other line can be meant."""
    opening = re.search(r"^\\restrict ([A-Za-z0-9]+)\n", text, re.MULTILINE)
    if opening is None:
        return text
    closing = f"\\unrestrict {opening[1]}\n"
    if text.count(closing) != 1:
        raise StatehubError(
            code="dump-malformed",
            what="pg_dump's output does not end as it began",
            hint="update PostgreSQL's client tools to their newest minor release",
        )
    return text.replace(opening[0], "", 1).replace(closing, "", 1)


def _without_grants_for_a_move(entry: Entry) -> Entry:
    if entry.kind != "ACL" or entry.schema != "pg_catalog" or not re.match(PLACES_OWN, entry.name):
        return entry
    return replace(entry, sql=re.sub(r"^GRANT .* TO (?!PUBLIC;).*\n", "", entry.sql, flags=re.MULTILINE))


def _is_own(entry: Entry) -> bool:
    """The tool's fence on the user's tables, and its publications: a user's may well begin as they do."""
    if entry.kind == "TRIGGER":
        return f"EXECUTE FUNCTION {SCHEMA}." in entry.sql
    if entry.kind == "PUBLICATION TABLE":
        return re.search(rf"^ALTER PUBLICATION {_OWN_PUBLICATION} ", entry.sql, re.MULTILINE) is not None
    return entry.kind == "PUBLICATION" and re.fullmatch(_OWN_PUBLICATION, entry.name) is not None
