"""Messages of the output plugin: what each says, and that nothing is understood by halves."""

from __future__ import annotations

import struct

import pytest

from statehub_plan.postgres.pgoutput import Absent, Begin, Delete, Insert, Published, Relation, Truncate, Update, parse


def tuple_of(*values: str | bytes | None) -> bytes:
    """TupleData; bytes stand for a value that was not sent."""
    parts = [struct.pack(">h", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif isinstance(value, bytes):
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack(">i", len(value.encode())) + value.encode())
    return b"".join(parts)


RELATION = (
    b"R"
    + struct.pack(">I", 7)
    + b"hub\0tab\xc3\xa9\0d"
    + struct.pack(">h", 2)
    + b"\x01id\0"
    + struct.pack(">Ii", 23, -1)
    + b"\x00v\0"
    + struct.pack(">Ii", 25, -1)
)
MESSAGES = {
    "begin": (b"B" + b"\0" * 16 + struct.pack(">I", 4_000_000_000), Begin(4_000_000_000)),
    "relation": (RELATION, Relation(7, "hub", "tabé", (Published("id", True), Published("v", False)))),
    "insert": (b"I" + struct.pack(">I", 7) + b"N" + tuple_of("1", None, "é"), Insert(7, ("1", None, "é"))),
    "update": (b"U" + struct.pack(">I", 7) + b"N" + tuple_of("1", ""), Update(7, None, ("1", ""))),
    "key update": (
        b"U" + struct.pack(">I", 7) + b"K" + tuple_of("1", None) + b"N" + tuple_of("2", "x"),
        Update(7, ("1", None), ("2", "x")),
    ),
    "delete": (b"D" + struct.pack(">I", 7) + b"O" + tuple_of("1", "x"), Delete(7, ("1", "x"))),
    "truncate": (b"T" + struct.pack(">iBII", 2, 1, 7, 8), Truncate((7, 8))),
}


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_each_message_says_what_changed(name: str) -> None:
    """Whole; and an error when it ends too early, anywhere, or goes on too long."""
    data, meant = MESSAGES[name]
    assert meant == parse(data)
    for end in range(1, len(data)):
        with pytest.raises(ValueError):
            parse(data[:end])
    with pytest.raises(ValueError):
        parse(data + b"\0")


def test_what_changes_no_row_says_nothing() -> None:
    """Commits, origins, types, messages."""
    assert [None] * 4 == [parse(kind + b"anything") for kind in (b"C", b"O", b"Y", b"M")]


def test_a_value_that_was_not_sent_is_not_null() -> None:
    """Values out of line that did not change."""
    message = parse(b"U" + struct.pack(">I", 7) + b"N" + tuple_of("1", b""))
    assert isinstance(message, Update)
    assert isinstance(message.new[1], Absent)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"S\0\0\0\1\1",
        b"I" + struct.pack(">I", 7) + b"K" + tuple_of("1"),
        b"D" + struct.pack(">I", 7) + b"N" + tuple_of("1"),
        b"U" + struct.pack(">I", 7) + b"X" + tuple_of("1"),
        b"I" + struct.pack(">I", 7) + b"N" + struct.pack(">h", 1) + b"b" + struct.pack(">i", 1) + b"x",
        b"I" + struct.pack(">I", 7) + b"N" + struct.pack(">h", 1) + b"t" + struct.pack(">i", -5),
        b"I" + struct.pack(">I", 7) + b"N" + struct.pack(">h", 1) + b"t" + struct.pack(">i", 1) + b"\xff",
    ],
)
def test_what_is_not_understood_is_an_error(data: bytes) -> None:
    """Streams of unfinished transactions, tuples of the wrong kind, binary values, bytes that are no text."""
    with pytest.raises(ValueError):
        parse(data)
