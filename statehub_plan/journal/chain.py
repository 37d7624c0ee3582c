"""The hash chain: each record's hash covers its every other field and the hash before it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from rfc8785 import CanonicalizationError

from statehub_plan.errors import StatehubError
from statehub_plan.journal.protocol import JournalTampered
from statehub_plan.model.base import canonical
from statehub_plan.model.record import Record, RecordKind

GENESIS = "0" * 64
COLUMNS = ("seq", "service", "plan_name", "run", "epoch", "at", "kind", "step", "payload", "prev", "hash")

Row = tuple[int, str, str, str, int, str, str, str | None, str, str, str]
"""One record as both stores keep it: COLUMNS in order, the instant as ISO 8601 text, the payload as canonical JSON."""


@dataclass(frozen=True, slots=True)
class Head:
    """How far the chain has come; kept apart from the records, so that a cut-off end shows."""

    seq: int = 0
    hash: str = GENESIS


def link(
    head: Head,
    *,
    service: str,
    plan_name: str,
    run: str,
    epoch: int,
    at: datetime,
    kind: RecordKind,
    step: str | None,
    payload: Mapping[str, Any],
) -> Record:
    """The record that comes after `head`. StatehubError when the payload has no canonical JSON."""
    record = Record(
        seq=head.seq + 1,
        service=service,
        plan_name=plan_name,
        run=run,
        epoch=epoch,
        at=at,
        kind=kind,
        step=step,
        payload=dict(payload),
        prev=head.hash,
        hash="",
    )
    try:
        return record.model_copy(update={"hash": hash_of(record)})
    except CanonicalizationError as error:
        raise StatehubError(
            code="record-not-canonical",
            what=f"a {kind.value} record of run {run} holds a value that canonical JSON (RFC 8785) can't: {error}",
            hint="this is a defect of the tool; report it: integers beyond 2^53, NaN, lone surrogates belong in text",
        ) from error


def hash_of(record: Record) -> str:
    """SHA-256, as 64 hexadecimal digits, over the canonical JSON of every field but the hash itself."""
    return hashlib.sha256(canonical(record.model_dump(mode="json", exclude={"hash"}))).hexdigest()


def row_of(record: Record) -> Row:
    """The record as it is stored."""
    plain = record.model_dump(mode="json")
    plain["payload"] = canonical(plain["payload"]).decode()
    return tuple(plain[column] for column in COLUMNS)


def record_of(row: Row, location: str) -> Record:
    """The stored record; JournalTampered when the row is not exactly what the tool would have stored."""
    seq = row[0]
    try:
        fields = dict(zip(COLUMNS, row, strict=True))
        record = Record.model_validate({**fields, "payload": json.loads(row[8], parse_int=_number)})
        faithful = row_of(record) == row
    except (ValidationError, ValueError, TypeError, RecursionError) as error:
        raise JournalTampered(seq, "it is not a record", location) from error
    if not faithful:
        raise JournalTampered(seq, "it is not written the way the tool writes", location)
    return record


class Reading:
    """The records of rows, of which those that were in the reading before are not taken apart again: a run reads its
    journal before every step, and a service's grows for as long as it is stabilized. Any thread may use it."""

    def __init__(self) -> None:
        self._known: dict[Row, Record] = {}

    def records(self, rows: Iterable[Row], location: str) -> tuple[Record, ...]:
        """In the order of `rows`; JournalTampered as `record_of`."""
        known = self._known
        found = {row: known.get(row) or record_of(row, location) for row in rows}
        self._known = found
        return tuple(found.values())


def _number(digits: str) -> int | float:
    """RFC 8785 writes 1e16 as 10000000000000000 and refuses that as an integer: beyond 2^53 it can only be a float."""
    return int(digits) if abs(int(digits)) < 2**53 else float(digits)


def check(rows: Iterable[Row], head: Head, location: str) -> int:
    """The number of records of a complete chain from the first record to `head`; JournalTampered at the first flaw."""
    last = Head()
    for row in rows:
        seq = last.seq + 1
        if row[0] != seq:
            raise JournalTampered(seq, f"it is missing; the next one found is {row[0]}", location)
        record = record_of(row, location)
        if record.prev != last.hash:
            raise JournalTampered(seq, "it does not follow the record before it", location)
        if record.hash != hash_of(record):
            raise JournalTampered(seq, "its hash does not match its content", location)
        last = Head(seq, record.hash)
    require_same_head(last, head, location)
    return last.seq


def require_same_head(last: Head, head: Head, location: str) -> None:
    """JournalTampered unless the newest record is the one that the head names."""
    if last.seq < head.seq:
        raise JournalTampered(last.seq + 1, f"the end is missing; the head counts {head.seq} records", location)
    if last != head:
        raise JournalTampered(last.seq, f"the head names record {head.seq} with another hash", location)
