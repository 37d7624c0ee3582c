"""What the built-in output plugin `pgoutput` says of changes, message by message. Pure.

Formats: manual 55.9, logical replication message formats, protocol version 1. Anything else is a ValueError: a message
that is not understood may be a change that is not seen.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["Begin", "Delete", "Insert", "Message", "Published", "Relation", "Truncate", "Tuple", "Update", "parse"]

Tuple = tuple["str | Absent | None", ...]
"""Values as text; None is NULL."""


class Absent:
    """The value was not sent: it is stored out of line and did not change."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A committed transaction begins; its changes follow."""

    xid: int


@dataclass(frozen=True, slots=True)
class Published:
    """One column: its name, and whether it belongs to the replica identity."""

    name: str
    in_identity: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """What the table with this OID looks like in the changes that follow."""

    oid: int
    schema: str
    name: str
    columns: tuple[Published, ...]


@dataclass(frozen=True, slots=True)
class Insert:
    """A new row."""

    oid: int
    new: Tuple


@dataclass(frozen=True, slots=True)
class Update:
    """A changed row; `old` only where its replica identity changed, or is the whole row."""

    oid: int
    old: Tuple | None
    new: Tuple


@dataclass(frozen=True, slots=True)
class Delete:
    """A row that is gone: its replica identity, the rest NULL."""

    oid: int
    old: Tuple


@dataclass(frozen=True, slots=True)
class Truncate:
    """Tables that were emptied."""

    oids: tuple[int, ...]


Message = Begin | Relation | Insert | Update | Delete | Truncate
_SAYS_NOTHING = frozenset(b"COYM")
"""Commit, origin, type, message: they change no row."""


def parse(data: bytes) -> Message | None:
    """The message; None for one that changes no row. ValueError for what is not protocol version 1."""
    if not data:
        raise ValueError("an empty message")
    if data[0] in _SAYS_NOTHING:
        return None
    reader = _Reader(data)
    try:
        message = _message(reader)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"a message of kind {data[:1]!r} that ends too early or is no text: {error}") from error
    if reader.left:
        raise ValueError(f"a message of kind {data[:1]!r} with {reader.left} bytes too many")
    return message


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(">" + form, self._data, self._at)
        self._at += struct.calcsize(">" + form)
        return int(value)

    def letter(self) -> bytes:
        return bytes([self.number("B")])

    def take(self, count: int) -> bytes:
        if count < 0 or count > self.left:
            raise IndexError(f"{count} bytes of {self.left}")
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def text(self) -> str:
        end = self._data.index(b"\0", self._at) if b"\0" in self._data[self._at :] else -1
        if end < 0:
            raise IndexError("a text without an end")
        taken = self.take(end - self._at)
        self._at += 1
        return taken.decode()


def _message(reader: _Reader) -> Message:
    kind = reader.letter()
    if kind == b"B":
        reader.take(16)  # final LSN, time of the commit
        return Begin(reader.number("I"))
    if kind == b"R":
        return _relation(reader)
    if kind == b"T":
        count = reader.number("i")
        reader.take(1)  # CASCADE, RESTART IDENTITY
        return Truncate(tuple(reader.number("I") for _ in range(count)))
    if kind not in (b"I", b"U", b"D"):
        raise ValueError(f"a message of the unknown kind {kind!r}")
    oid = reader.number("I")
    what = reader.letter()
    if kind == b"I":
        return Insert(oid, _new(reader, what))
    if what not in (b"K", b"O"):
        if kind == b"D":
            raise ValueError(f"a deletion with a tuple of the unknown kind {what!r}")
        return Update(oid, None, _new(reader, what))
    old = _tuple(reader)
    return Delete(oid, old) if kind == b"D" else Update(oid, old, _new(reader, reader.letter()))


def _relation(reader: _Reader) -> Relation:
    oid, schema, name = reader.number("I"), reader.text(), reader.text()
    reader.take(1)  # the setting; which columns it comes to stands with the columns
    columns = []
    for _ in range(reader.number("h")):
        flags = reader.number("B")
        columns.append(Published(reader.text(), bool(flags & 1)))
        reader.take(8)  # type and modifier
    return Relation(oid, schema or "pg_catalog", name, tuple(columns))


def _new(reader: _Reader, what: bytes) -> Tuple:
    if what != b"N":
        raise ValueError(f"a tuple of the unknown kind {what!r} in place of a new one")
    return _tuple(reader)


def _tuple(reader: _Reader) -> Tuple:
    values: list[str | Absent | None] = []
    for _ in range(reader.number("h")):
        kind = reader.letter()
        if kind == b"n":
            values.append(None)
        elif kind == b"u":
            values.append(Absent())
        elif kind == b"t":
            values.append(reader.take(reader.number("i")).decode())
        else:
            raise ValueError(f"a value of the unknown kind {kind!r}")
    return tuple(values)
