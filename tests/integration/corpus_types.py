"""Column types with values drawn from a seed, and other spellings of the same value. Values are PostgreSQL's input
texts; `respell` gives another input text (or, under other session settings, the same one) that means the same."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass

DEFINITIONS = """
CREATE SCHEMA corpus;
CREATE TYPE corpus.mood AS ENUM ('sad', 'ok', 'it''s, "fine"', 'glad');
CREATE DOMAIN corpus.short AS text CHECK (length(VALUE) < 100);
CREATE DOMAIN corpus.padded AS char(9);
CREATE TYPE corpus.pair AS (a integer, b text, c numeric);
CREATE TYPE corpus.span AS RANGE (SUBTYPE = float8);
"""

Chance = random.Random
Make = Callable[[Chance], str]
Respell = Callable[[str], str]


def same(text: str) -> str:
    """No other spelling."""
    return text


@dataclass(frozen=True)
class ColumnType:
    """How a column is declared, values for it, another spelling of each."""

    declaration: str
    make: Make
    respell: Respell = same


def _integer(bits: int) -> Make:
    return lambda chance: str(chance.choice([0, 1, -1, chance.getrandbits(bits) - (1 << (bits - 1))]))


def _spaced_integer(text: str) -> str:
    return f"  {'-' if text.startswith('-') else '+'}00{text.lstrip('-')} "


def _numeric(chance: Chance) -> str:
    if chance.random() < 0.08:
        return chance.choice(["NaN", "Infinity", "-Infinity", "0", "0.0", "0.000"])
    digits = str(chance.getrandbits(chance.choice([4, 30, 200])))
    return f"{chance.choice(['', '-'])}{digits}" + (f".{_digits(chance, 1, 12)}" if chance.random() < 0.7 else "")


def _digits(chance: Chance, least: int, most: int) -> str:
    return "".join(chance.choice(string.digits) for _ in range(chance.randint(least, most)))


def _respelled_numeric(text: str) -> str:
    if text[-1].isalpha() or "." not in text:
        return f" {text} "
    whole, _, rest = text.partition(".")
    return f"{whole}{rest[0]}.{rest[1:]}e-1"  # the scale stays: digits after the point and the exponent


def _float(chance: Chance) -> str:
    if chance.random() < 0.1:
        return chance.choice(["NaN", "Infinity", "-Infinity", "0", "-0", "1e-300", "0.1", "0.30000000000000004"])
    return repr(chance.uniform(-1, 1) * 10.0 ** chance.randint(-20, 20))


def _respelled_float(text: str) -> str:
    return f" {text}" if text[-1].isalpha() else text.upper() + ("" if "e" in text else "E0")


def _real(chance: Chance) -> str:
    return chance.choice(["NaN", "-0", "0", f"{chance.uniform(-1e6, 1e6):.4g}", f"{chance.uniform(-1, 1):.3g}e-30"])


def _money(chance: Chance) -> str:
    return f"{chance.choice(['', '-'])}{chance.randint(0, 10**9)}.{_digits(chance, 2, 2)}"


_LETTERS = "abcXYZ  019.,;'\"\\{}()[]%&<>é☃\u0301\u200b\U0001f600\t\n"


def _text(least: int = 0, most: int = 30, alphabet: str = _LETTERS) -> Make:
    return lambda chance: "".join(chance.choice(alphabet) for _ in range(chance.randint(least, most)))


def _word(chance: Chance) -> str:
    return "".join(chance.choice("abcdefgh") for _ in range(chance.randint(1, 8)))


def _long_text(chance: Chance) -> str:
    if chance.random() < 0.5:
        return _word(chance) * chance.randint(400, 2000)
    return "".join(chance.choice(string.printable[:90]) for _ in range(chance.randint(2500, 4000)))


def _bytea(chance: Chance) -> str:
    return "\\x" + chance.randbytes(chance.choice([0, 1, 5, 40])).hex()


def _escaped_bytea(text: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in bytes.fromhex(text[2:]))


def _date(chance: Chance) -> str:
    if chance.random() < 0.08:
        return chance.choice(["infinity", "-infinity", "0044-03-15 BC"])
    return f"{chance.randint(1, 4000):04}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"


def _time(chance: Chance) -> str:
    seconds = f"{chance.randint(0, 59):02}" + chance.choice(["", ".5", f".{_digits(chance, 6, 6)}"])
    return f"{chance.randint(0, 23):02}:{chance.randint(0, 59):02}:{seconds}"


def _timestamp(chance: Chance) -> str:
    day = _date(chance)
    if day.endswith(("y", "C")):
        return day
    return f"{day} {_time(chance)}"


def _timestamptz(chance: Chance) -> str:
    moment = _timestamp(chance)
    if moment.endswith("C"):
        return "0044-03-15 12:00:00+00 BC"
    return moment if moment.endswith("y") else moment + chance.choice(["+00", "+05:45", "-08", "Z"])


def _other_zone(text: str) -> str:
    """The same moment in another zone's words, where the arithmetic is easy."""
    day, _, rest = text.partition(" ")
    if not rest.endswith(("Z", "+00")):
        return text
    clock = rest.removesuffix("Z").removesuffix("+00")
    hour = int(clock[:2])
    return f"{day} {hour + 1:02}{clock[2:]}+01" if hour < 23 else f"{day} {hour - 1:02}{clock[2:]}-01"


def _interval(chance: Chance) -> str:
    parts = [
        f"{chance.randint(-50, 50)} mons",
        f"{chance.randint(-400, 400)} days",
        f"{chance.randint(-90000, 90000)}.{_digits(chance, 0, 6) or '0'} secs",
    ]
    return " ".join(chance.sample(parts, chance.randint(1, 3)))


def _uuid(chance: Chance) -> str:
    text = chance.randbytes(16).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _json_value(chance: Chance, depth: int = 0) -> str:
    kind = chance.randint(0, 6 if depth < 2 else 4)
    if kind == 5:
        inner = chance.choice([", ", ","]).join(_json_value(chance, depth + 1) for _ in range(chance.randint(0, 4)))
        return f"[{inner}]"
    if kind == 6:
        pairs = (f'"{_word(chance)}"{chance.choice([":", " : "])}{_json_value(chance, depth + 1)}' for _ in range(3))
        return "{" + ", ".join(pairs) + "}"
    number = f"{chance.randint(0, 10**6)}.{_digits(chance, 1, 5)}"
    return ["null", "true", f'"{_word(chance)}"', number, str(chance.randint(-9, 9))][kind]


def _spaced_json(text: str) -> str:
    return text.replace(",", " ,\n ").replace(":", " :\t")


def _xml(chance: Chance) -> str:
    return f"<{_word(chance)}x a='{_digits(chance, 1, 3)}'/>{_word(chance)}"


def _inet(chance: Chance) -> str:
    if chance.random() < 0.4:
        groups = ":".join(f"{chance.getrandbits(16) | 1:x}" for _ in range(8))
        return f"{groups}/{chance.randint(1, 128)}"
    return ".".join(str(chance.randint(0, 255)) for _ in range(4)) + chance.choice(["", "/24", "/8", "/32"])


def _cidr(chance: Chance) -> str:
    return f"10.{chance.randint(0, 255)}.{chance.randint(0, 255)}.0/{chance.randint(24, 32)}"


def _colons(count: int) -> Make:
    return lambda chance: ":".join(f"{byte:02x}" for byte in chance.randbytes(count))


def _coordinate(chance: Chance) -> str:
    return chance.choice(["0", "-0", f"{chance.randint(-99, 99)}", f"{chance.uniform(-9, 9):.6g}"])


def _point(chance: Chance) -> str:
    return f"({_coordinate(chance)},{_coordinate(chance)})"


def _points(count: int, left: str, right: str) -> Make:
    return lambda chance: left + ",".join(_point(chance) for _ in range(count)) + right


def _line(chance: Chance) -> str:
    return f"{{{chance.randint(1, 99)},{_coordinate(chance)},{_coordinate(chance)}}}"


def _bits(least: int, most: int) -> Make:
    return lambda chance: "".join(chance.choice("01") for _ in range(chance.randint(least, most)))


def _tsvector(chance: Chance) -> str:
    return " ".join(f"{_word(chance)}:{chance.randint(1, 99)}{chance.choice(['', 'A', 'B'])}" for _ in range(4))


def _backwards(text: str) -> str:
    return "  ".join(reversed(text.split(" ")))


def _tsquery(chance: Chance) -> str:
    return f"{_word(chance)} {chance.choice(['&', '|', '<->', '<2>'])} {chance.choice(['', '!'])}{_word(chance)}"


def _range(make: Callable[[Chance], int]) -> Make:
    def made(chance: Chance) -> str:
        low = make(chance)
        high = low + chance.randint(1, 500)
        return chance.choice([f"[{low},{high})", f"[{low},)", f"(,{high})", "empty", f"[{low},{high})"])

    return made


def _closed_range(text: str) -> str:
    """Discrete ranges are kept as [low, high)."""
    low, _, high = text[1:-1].partition(",")
    return text if text == "empty" or not low or not high else f"({int(low) - 1},{int(high) - 1}]"


def _numrange(chance: Chance) -> str:
    low, high = f"{chance.randint(0, 50)}.{_digits(chance, 1, 3)}", f"{chance.randint(51, 99)}.0"
    return f"{chance.choice('[(')}{low},{high}{chance.choice('])')}"


def _daterange(chance: Chance) -> str:
    return f"[{chance.randint(1900, 2000)}-01-01,{chance.randint(2001, 2100)}-06-{chance.randint(1, 28):02})"


def _multirange(chance: Chance) -> str:
    low, parts = 0, []
    for _ in range(chance.randint(0, 3)):
        low += chance.randint(2, 50)
        parts.append(f"[{low},{low + 3})")
        low += 4
    return "{" + ",".join(parts) + "}"


def _unordered(text: str) -> str:
    parts = text[1:-1].replace("),[", ");[").split(";")
    return "{" + ",".join(reversed(parts)) + "}"


def _array(element: Make) -> Make:
    def made(chance: Chance) -> str:
        def one() -> str:
            return (
                "NULL"
                if chance.random() < 0.15
                else '"' + element(chance).replace("\\", r"\\").replace('"', r"\"") + '"'
            )

        if chance.random() < 0.2:
            return "{{" + one() + "," + one() + "},{" + one() + "," + one() + "}}"
        bounds = chance.choice(["", "", "[3:4]="])
        count = 2 if bounds else chance.randint(0, 5)
        return bounds + "{" + ",".join(one() for _ in range(count)) + "}"

    return made


def _mood(chance: Chance) -> str:
    return chance.choice(["sad", "ok", 'it\'s, "fine"', "glad"])


def _pair(chance: Chance) -> str:
    number = chance.choice(["", str(chance.randint(0, 99))])
    return f"({number},{chance.choice(['', chr(34) * 2, _word(chance)])},{chance.choice(['', '1.0', '1.00'])})"


def _snapshot(chance: Chance) -> str:
    low = chance.randint(10, 999)
    return f"{low}:{low + 20}:{low + chance.randint(1, 9)},{low + chance.randint(10, 19)}"


COLUMN_TYPES: tuple[ColumnType, ...] = (
    ColumnType("smallint", _integer(16), _spaced_integer),
    ColumnType("integer", _integer(32), _spaced_integer),
    ColumnType("bigint", _integer(64), _spaced_integer),
    ColumnType("numeric", _numeric, _respelled_numeric),
    ColumnType(
        "numeric(20,6)",
        lambda chance: f"{chance.randint(-(10**9), 10**9)}.{_digits(chance, 1, 6)}",
        lambda text: f"+{text}" if text[0] != "-" else text,
    ),
    ColumnType("real", _real, lambda text: f" {text} "),
    ColumnType("double precision", _float, _respelled_float),
    ColumnType("money", _money, lambda text: f" {text} "),
    ColumnType("text", _text()),
    ColumnType('text COLLATE "C"', _long_text),
    ColumnType("varchar(40)", _text()),
    ColumnType("char(12)", _text(0, 9, "ab c"), lambda text: (text + " " * 12)[:12]),
    ColumnType('"char"', lambda chance: chance.choice(string.ascii_letters)),
    ColumnType("name", _text(0, 20, "abcXYZ 019é")),
    ColumnType("bytea", _bytea, _escaped_bytea),
    ColumnType("date", _date),
    ColumnType("timestamp", _timestamp),
    ColumnType("timestamptz", _timestamptz, _other_zone),
    ColumnType("time", _time),
    ColumnType("timetz", lambda chance: _time(chance) + chance.choice(["+00", "+05:30", "-08"])),
    ColumnType("interval", _interval, lambda text: text.replace(" secs", " seconds").replace("mons", "months")),
    ColumnType("boolean", lambda chance: chance.choice(["t", "f"]), lambda text: {"t": " yes ", "f": "off"}[text]),
    ColumnType("uuid", _uuid, lambda text: "{" + text.replace("-", "").upper() + "}"),
    ColumnType("json", _json_value),
    ColumnType("jsonb", _json_value, _spaced_json),
    ColumnType("inet", _inet, lambda text: text.upper()),
    ColumnType("cidr", _cidr),
    ColumnType("macaddr", _colons(6), lambda text: text.replace(":", "-").upper()),
    ColumnType("macaddr8", _colons(8), lambda text: text.replace(":", "").upper()),
    ColumnType("point", _point, lambda text: text[1:-1]),
    ColumnType("line", _line),
    ColumnType("lseg", _points(2, "[", "]"), lambda text: f"({text[1:-1]})"),
    ColumnType("box", _points(2, "", "")),
    ColumnType("path", lambda chance: chance.choice([_points(3, "[", "]"), _points(3, "(", ")")])(chance)),
    ColumnType("polygon", _points(4, "(", ")")),
    ColumnType("circle", lambda chance: f"<{_point(chance)},{chance.randint(0, 99)}>", lambda text: f"({text[1:-1]})"),
    ColumnType("bit(8)", _bits(8, 8), lambda text: f"x{int(text, 2):02x}"),
    ColumnType("varbit", _bits(0, 20)),
    ColumnType("tsvector", _tsvector, _backwards),
    ColumnType("tsquery", _tsquery),
    ColumnType("int4range", _range(lambda chance: chance.randint(-9999, 9999)), _closed_range),
    ColumnType("int8range", _range(lambda chance: chance.getrandbits(60)), _closed_range),
    ColumnType("numrange", _numrange),
    ColumnType("daterange", _daterange),
    ColumnType("tsrange", lambda chance: f"[2000-01-01 {_time(chance)},2001-01-01 00:00)"),
    ColumnType("tstzrange", lambda chance: f'["2000-01-01 {_time(chance)}+00",)'),
    ColumnType("int4multirange", _multirange, _unordered),
    ColumnType("integer[]", _array(_integer(32))),
    ColumnType("text[]", _array(_text(0, 8))),
    ColumnType("numeric[]", _array(_numeric)),
    ColumnType("char(3)[]", _array(_text(0, 3, "ab "))),
    ColumnType("corpus.mood", _mood),
    ColumnType("corpus.mood[]", _array(_mood)),
    ColumnType("corpus.short", _text(0, 20)),
    ColumnType("corpus.padded", _text(0, 8, "ab c"), lambda text: text + " "),
    ColumnType("corpus.pair", _pair),
    ColumnType("corpus.pair[]", _array(_pair)),
    ColumnType("corpus.span", _numrange),
    ColumnType("oid", lambda chance: str(chance.getrandbits(32)), lambda text: f" {text} "),
    ColumnType("regtype", lambda chance: chance.choice(["integer", "text", "bigint[]", "corpus.mood"])),
    ColumnType("pg_lsn", lambda chance: f"{chance.getrandbits(16):X}/{chance.getrandbits(32):X}", str.lower),
    ColumnType("jsonpath", lambda chance: f"$.{_word(chance)}[*]?(@.{_word(chance)} > {chance.randint(0, 99)})"),
    ColumnType("xid8", lambda chance: str(chance.getrandbits(50))),
    ColumnType("pg_snapshot", _snapshot),
    ColumnType("tid", lambda chance: f"({chance.getrandbits(30)},{chance.getrandbits(15)})"),
)
