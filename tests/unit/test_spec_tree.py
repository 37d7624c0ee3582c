"""YAML text → tree: what YAML may do and a plan may not, each refused where it stands."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from statehub_plan.spec.scalars import Surprise, resolve
from statehub_plan.spec.tree import MAX_BYTES, MAX_DEPTH, MAX_NODES, Read, read
from tests.unit.spec_marks import marks


def told(text: str | bytes) -> list[str]:
    """Every problem with the text itself."""
    return [str(problem) for problem in sorted(read(text.encode() if isinstance(text, str) else text).problems)]


def plain(text: str) -> object:
    """The value of a text that has no problem."""
    seen = read(text.encode())
    assert not seen.problems
    assert seen.root is not None
    return seen.root.plain()


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("true", True),
        ("false", False),
        ("0", 0),
        ("-7", -7),
        ("9007199254740991", 2**53 - 1),
        ("1.0", 1.0),
        ("-0.5", -0.5),
        ("2.5e10", 2.5e10),
        ("1.5E+3", 1500.0),
        ("text", "text"),
        ("127.0.0.1:8000", "127.0.0.1:8000"),
        ("v1.10", "v1.10"),
        ("10.1.2", "10.1.2"),
        ("5s", "5s"),
        ("nope", "nope"),
        ("only", "only"),
        ("2026-06-27 is a day", "2026-06-27 is a day"),
        ("-", "-"),
        ("<<", "<<"),
    ],
)
def test_what_everybody_reads_alike_is_accepted(scalar: str, value: object) -> None:
    """Booleans, decimal numbers and text that no version of YAML takes for anything else."""
    found = resolve(scalar)
    assert (type(value), value) == (type(found), found)


@pytest.mark.parametrize(
    ("scalar", "what"),
    [
        *((word, "a boolean") for word in ("yes", "Yes", "NO", "no", "on", "On", "OFF", "y", "N", "True", "FALSE")),
        ("Null", "null"),
        ("NULL", "null"),
        ("0123", "octal"),
        ("0o17", "octal"),
        ("08", "octal"),
        ("-012", "octal"),
        ("0x1F", "another base"),
        ("0b101", "another base"),
        ("12:30:45", "base-60"),
        ("1:30", "base-60"),
        ("22:22", "base-60"),
        ("190:20:30.15", "base-60"),
        ("2026-06-27", "a date"),
        ("2026-6-7", "a date"),
        ("2026-06-27T12:30:45Z", "a date"),
        ("2026-06-27 12:30:45 +2", "a date"),
        (".inf", "finite"),
        ("-.INF", "finite"),
        (".NaN", "finite"),
        ("1_000", "underscores"),
        ("1_0.5", "underscores"),
        ("+5", "unusual"),
        ("5.", "unusual"),
        (".5", "unusual"),
        ("1e5", "unusual"),
        ("=", "special"),
        ("9007199254740993", "too large"),
        ("9" * 5000, "too large"),
        ("1.5e999", "too large"),
    ],
)
def test_yaml_surprises_are_refused(scalar: str, what: str) -> None:
    """What one YAML reader takes for a number, a date or a boolean and another for text is never guessed."""
    found = resolve(scalar)
    assert isinstance(found, Surprise)
    assert what in found.what


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: ▸no", "unquoted no is a boolean to some YAML readers; write false, or quote it if it is text"),
        ("▸on: {}", "unquoted on is a boolean"),
        ("a:\n  - x\n  - ▸12:30:45", "base-60"),
        ("é: {ü: ▸0123}", "octal"),
        ("a: 1\nb: 2\n▸a: 3", "`a` is here a second time; it is already in line 1; keep one of the two"),
        ('a: 1\n▸"a": 3', "`a` is here a second time"),
        ("a: {b: 1, ▸b: 2}", "`b` is here a second time"),
        ("a: ▸&anchor 1", "there is an anchor, `&anchor`; delete it; a plan has no aliases"),
        ("a:\n  ▸<<: {b: 1}", "there is a merge key, `<<`; write the keys out"),
        ("a: ▸!!str 1", "there is a tag, `tag:yaml.org,2002:str`; delete it; quote what must be text"),
        ("a: ▸!env HOME", "there is a tag, `!env`"),
        ("a: ▸! x", "there is a tag, `!`"),
        ("a: ▸!!python/object/apply:os.system [id]", "there is a tag"),
        ("▸1: x", "the key 1 is not text"),
        ("▸true: x", "the key true is not text"),
        ("▸~: x", "the key ~ is not text"),
        ("? ▸[a, b]\n: x", "a key is a list or a mapping"),
        ("? ▸{a: b}\n: x", "a key is a list or a mapping"),
        ("a: 1\n▸---\nb: 2", "a second document begins here; keep one document in a file"),
        ("a: {▸b: }", "`b` has no value; give it one, or delete it"),
        ("▸a:\n", "`a` has no value"),
        ("▸a: ~", "`a` has no value"),
        ("a: [x, ▸null]", "this item has no value"),
        ("▸equals: null", "`equals` has no value"),
        ('a: ▸"x\\0y"', "the text holds a control character, U+0000"),
        ('a: ▸"\\x1b[2J"', "the text holds a control character, U+001B"),
        ('a: ▸"\\u202egnp.exe"', "the text holds a control character, U+202E"),
        ("a: x▸\u202egnp.exe", "there is an invisible or forbidden character, U+202E"),
        ("a: x▸\u2028b: c", "U+2028"),
        ("a: x▸\x85b: c", "U+0085"),
        ("a: x▸\x00", "U+0000"),
        ("a: x▸\x1b[31m", "U+001B"),
        ("a: b▸: c", "mapping values are not allowed in this context; quote a text that holds ': '"),
        ("a: 1\n▸\tb: 2", "there is a tab where YAML allows blanks only; indent with blanks"),
        ("a:\n▸\tb: 2", "there is a tab where YAML allows blanks only; indent with blanks"),
        ("a: ▸@x", "cannot start any token"),
        ("a: {b: 1\n▸", "close the brackets before it"),
        ('a: "▸\\q"', "unknown escape character"),
        ("▸%YAML 1.1\n---\na: 1", "there is a % directive; delete it"),
        ("▸", "this is not a plan document; start from what `statehub-plan init` writes"),
        ("▸just text", "this is not a plan document"),
        ("▸- a\n- b", "this is not a plan document"),
        ("▸42", "this is not a plan document"),
        ("# password of the database: postgresql://hub:▸hunter22@db/hub\na: 1", "there is a secret in the document"),
        ("a: host=db password=▸hunter22", "take it out of the file and change it"),
        ('a: ▸"postgresql\\x3a//hub:hunter22@db/hub"', "there is a secret in the document"),
        ("a: 'Authorization: ▸Bearer c4nary-Qz7'", "there is a secret in the document"),
    ],
)  # fmt: skip
def test_what_a_plan_has_no_use_for_is_refused_where_it_stands(text: str, what: str) -> None:
    """One problem, at the character it is about, with a remedy."""
    unmarked, expected = marks(text)
    found = told(unmarked)
    assert expected == [":".join(line.split(":")[:2]) for line in found], found
    assert what in found[0]


def test_everything_wrong_is_told_at_once() -> None:
    """A person corrects a file once, not once per run."""
    text = "a: &x 1\nb: *x\nb: no\nc: !t 012\n<<: {d: }\n"
    assert [
        "1:4: there is an anchor, `&x`; delete it; a plan has no aliases",
        "2:4: `*x` repeats another part; write it out; a plan has no aliases",
        "3:1: `b` is here a second time; it is already in line 2; keep one of the two",
        "3:4: unquoted no is a boolean to some YAML readers; write false, or quote it if it is text",
        "4:4: there is a tag, `!t`; delete it; quote what must be text",
        "5:1: there is a merge key, `<<`; write the keys out",
        "5:6: `d` has no value; give it one, or delete it",
    ] == told(text)


def test_quotes_make_text_of_anything() -> None:
    """The remedy that the messages give works."""
    assert {"a": ["no", "0123", "12:30:45", "2026-06-27", "~", "<<", "1e5"]} == plain(
        """a: ["no", '0123', "12:30:45", "2026-06-27", '~', "<<", '1e5']"""
    )


def test_null_may_stand_inside_a_value_to_compare_with() -> None:
    """Inside `equals` and `healthy` any JSON may be compared with; a whole value that is null is a forgotten one."""
    assert {"equals": {"a": None, "b": [None]}} == plain("equals: {a: null, b: [~]}")


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    """Editors write them; positions stay those that the editor shows."""
    assert read("\ufeffa: x\r\nb: z\r\n".encode()).problems == []
    assert ["2:4: unquoted no is a boolean to some YAML readers; write false, or quote it if it is text"] == told(
        "\ufeffa: x\r\nb: no\r\n"
    )


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (b"\xff\xfea\x00:\x00", "1:1"),
        (b"a: caf\xe9", "1:7"),
        ("é: ".encode() + b"\xc3\x28", "1:4"),
        (b"a: 1\nb: \xed\xa0\x80", "2:4"),
        (bytes(range(128, 256)), "1:1"),
    ],
)
def test_what_is_not_utf8_is_refused_at_the_first_wrong_byte(data: bytes, at: str) -> None:
    """UTF-16, Latin-1, encoded surrogates and binary files are named as what they are not."""
    assert [f"{at}: this is not UTF-8 text; save the file as UTF-8; is this the right file?"] == told(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"[" * 30_000, f"nested deeper than {MAX_DEPTH} levels"),
        (b"a: " + b"{b: " * 30_000, f"nested deeper than {MAX_DEPTH} levels"),
        (b"- " * 30_000, f"nested deeper than {MAX_DEPTH} levels"),
        (b"? " * 30_000, f"nested deeper than {MAX_DEPTH} levels"),
        (b"a: [" + b"1," * 300_000 + b"]", f"there are more than {MAX_NODES} values"),
        (b"a: x\n" * 200_000, "`a` is here a second time"),
        (b"a: " + b"x" * 10_000_000, f"the file is larger than {MAX_BYTES} bytes"),
        (b"\0" * 1000, "U+0000"),
        (b"a: &a [x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\nd: [*c,*c,*c]", "there is an anchor"),
        (b"a: " + b"9" * 1_000_000, "too large to be exact"),
        (b'a: "' + b"\\x41" * 100_000, "this is not YAML"),
        (b"---\n" * 100_000, "a second document begins here"),
        (b"# " + b"password=x " * 50_000 + b"\na: 1", "there is a secret"),
    ],
)
def test_bombs_do_not_go_off(data: bytes, what: str) -> None:
    """Depth, number, size, aliases and binary: refused after looking at as little as possible, in one process."""
    seen = read(data)
    assert any(what in problem.what for problem in seen.problems)
    assert len(seen.problems) <= 1_000


def test_a_secret_is_never_repeated() -> None:
    """Neither the secret nor another place that repeats it is echoed by any message."""
    found = read(b"hunter22: postgresql://hub:hunter22@db/hub\nhunter22: x\n")
    assert frozenset({"hunter22"}) == found.secrets


@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"a: *\n")
@example(b"\xef\xbb\xbf")
@example(b"? ? ?")
@example(b"!<")
def test_any_bytes_are_read_without_failing(data: bytes) -> None:
    """Whatever comes, the answer is a tree or problems."""
    seen = read(data)
    assert isinstance(seen, Read)
    assert seen.root is not None or seen.problems


_PIECES = st.sampled_from(
    [*"abx:- \n{}[],#&*!|>'\"%@`?~=\t", "  ", ": ", "- ", "\n  ", "a: ", "<<", "no", "012", "---\n", "&a", "*a", "!t "]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=60).map("".join))
def test_anything_that_looks_like_yaml_is_read_without_failing(text: str) -> None:
    """Grammar fragments in any order reach every state of the builder."""
    seen = read(text.encode())
    assert seen.root is not None or seen.problems
    lines = text.count("\n") + 2
    assert all(1 <= problem.at.line <= lines and problem.at.column >= 1 for problem in seen.problems)
