"""YAML text → a tree of nodes that know where they stand. Everything that a plan has no use for is refused here.

PyYAML's composer and constructor are not used: they keep the last of two duplicate keys, recurse until the process
dies, and read `no` as false. libyaml's event stream is flat; a tree is built from it under caps on size, depth and
number of nodes, without anchors, tags, merge keys or further documents.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import yaml

from statehub_plan.redact import find_secrets
from statehub_plan.spec.node import Node
from statehub_plan.spec.problem import Position, Problem, shown
from statehub_plan.spec.scalars import Scalar, Surprise, resolve

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 50_000
MAX_PROBLEMS = 1_000
MAX_SECRETS = 50
FREE_KEYS = frozenset({"equals", "healthy"})
"""Keys whose value is any JSON; null is allowed inside them (but not as them)."""

_START = Position(1, 1)
_BREAK = re.compile(r"\r\n|[\n\r]")
# YAML 1.2 section 5.1, without the line breaks that only YAML 1.1 knows (editors and readers would count lines
# differently) and without the characters that make a text look like another one (CVE-2021-42574).
_UNWANTED = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")
_SECRET_REMEDY = "take it out of the file and change it; give the DSN by `env:`, `file:` or `service:`"
_SYNTAX_REMEDIES = (
    ("mapping values are not allowed", "quote a text that holds ': ', or correct the indentation"),
    ("tab character", "indent with blanks"),
    ("escape character", "write \\\\ for a backslash, or use single quotes"),
    ("cannot start any token", "indent with blanks, and quote a text that begins with this character"),
    ("could not find expected ':'", "write `key: value`, with a blank behind the colon"),
    ("did not find expected key", "line it up with the keys above it, or close the quotes or brackets before it"),
    ("did not find expected '-' indicator", "line it up with the items above it"),
    ("did not find expected ',' or", "close the brackets before it"),
    ("while scanning a quoted scalar", "close the quotes"),
)


@dataclass(slots=True)
class Read:
    """What could be read, and every problem with the text itself. `root` is None where the text is no YAML mapping;
    `secrets` are what no message may repeat."""

    root: Node | None
    problems: list[Problem]
    secrets: frozenset[str] = frozenset()


def read(data: bytes) -> Read:
    """The tree of one YAML document; never raises, whatever the bytes are."""
    if len(data) > MAX_BYTES:
        what = f"the file is larger than {MAX_BYTES} bytes"
        return Read(None, [Problem(_START, what, "a plan is a few kilobytes; is this the right file?")])
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        at = _position(data[: error.start].decode("utf-8", "replace"), None)
        return Read(None, [Problem(at, "this is not UTF-8 text", "save the file as UTF-8; is this the right file?")])
    unwanted = _UNWANTED.search(text)
    if unwanted:
        what = f"there is an invisible or forbidden character, U+{ord(unwanted[0]):04X}"
        return Read(None, [Problem(_position(text, unwanted.start()), what, "delete it")])
    builder = _Builder(text)
    builder.read_secrets()
    builder.read_events()
    return Read(builder.root, builder.problems, frozenset(builder.secrets))


def _position(text: str, offset: int | None) -> Position:
    """Line and column of `offset` (the end where None)."""
    before = text[:offset]
    breaks = list(_BREAK.finditer(before))
    return Position(len(breaks) + 1, len(before) - (breaks[-1].end() if breaks else 0) + 1)


@dataclass(slots=True)
class _Frame:
    """A collection that is being read. `key` is the pending key of a mapping; under `dropped` the value is read and
    forgotten; `free` collections may hold null."""

    node: Node
    key: str | None = None
    dropped: bool = False
    has_key: bool = False
    free: bool = False


class _Builder:
    """Turns events into nodes, collecting problems; stops by itself at a cap."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self.secrets: set[str] = set()
        self._frames: list[_Frame] = []
        self._nodes = 0
        self._documents = 0
        self._stopped = False

    def read_secrets(self) -> None:
        """Report what is shaped like a secret anywhere in the text, comments included."""
        spans = find_secrets(self.text)[:MAX_SECRETS]
        if not spans:
            return
        line_starts = [0, *(found.end() for found in _BREAK.finditer(self.text))]
        for start, end in spans:
            line = bisect_right(line_starts, start)
            self._secret(Position(line, start - line_starts[line - 1] + 1), self.text[start:end])

    def read_events(self) -> None:
        """Read until the end, a syntax error or a cap."""
        try:
            for event in yaml.parse(self.text, Loader=yaml.CSafeLoader):
                self._event(event)
                if self._stopped:
                    return
        except yaml.YAMLError as error:
            self.root = None
            self._syntax(error)
            return
        if self.root is None or not isinstance(self.root.value, dict):
            at = self.root.at if self.root else _START
            self.root = None
            self._problem(at, "this is not a plan document", "start from what `statehub-plan init` writes")

    def _problem(self, at: Position, what: str, remedy: str) -> None:
        self.problems.append(Problem(at, what, remedy))
        if len(self.problems) >= MAX_PROBLEMS:
            self._stop()

    def _stop(self) -> None:
        self.root = None
        self._stopped = True

    def _secret(self, at: Position, secret: str) -> None:
        if len(self.secrets) < MAX_SECRETS:
            self.secrets.add(secret)
        self._problem(at, "there is a secret in the document", _SECRET_REMEDY)

    def _syntax(self, error: yaml.YAMLError) -> None:
        if not isinstance(error, yaml.MarkedYAMLError):
            self._problem(_START, "this is not YAML", "is this the right file?")
            return
        mark = error.problem_mark or error.context_mark
        at = Position(mark.line + 1, mark.column + 1) if mark else _START
        said = " ".join(part for part in (error.context, error.problem) if part)
        if self._is_tab(at):
            self._problem(at, "this is not YAML: there is a tab where YAML allows blanks only", "indent with blanks")
            return
        remedy = next((remedy for part, remedy in _SYNTAX_REMEDIES if part in said), "see the lines above it as well")
        self._problem(at, f"this is not YAML: {shown(said) if len(said) < 60 else said}", remedy)

    def _is_tab(self, at: Position) -> bool:
        lines = _BREAK.split(self.text)
        return at.line <= len(lines) and lines[at.line - 1][at.column - 1 : at.column] == "\t"

    def _event(self, event: Any) -> None:
        mark = event.start_mark
        at = Position(mark.line + 1, mark.column + 1)
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._scalar(event, at)
        elif kind is yaml.MappingStartEvent:
            self._begin(event, at, Node({}, at))
        elif kind is yaml.SequenceStartEvent:
            self._begin(event, at, Node([], at))
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._frames.pop()
        elif kind is yaml.AliasEvent:
            self._problem(at, f"`*{shown(event.anchor)}` repeats another part", "write it out; a plan has no aliases")
            self._place(Node("", at, refused=True))
        elif kind is yaml.DocumentStartEvent:
            self._document(event, at)

    def _document(self, event: Any, at: Position) -> None:
        self._documents += 1
        if event.version or event.tags:
            self._problem(at, "there is a % directive", "delete it; a plan needs none")
        if self._documents == 2:
            self._problem(at, "a second document begins here", "keep one document in a file")

    def _begin(self, event: Any, at: Position, node: Node) -> None:
        self._refuse_extras(event, at, node)
        free = self._place(node)
        self._frames.append(_Frame(node, free=free))
        if len(self._frames) > MAX_DEPTH:
            self._problem(at, f"nested deeper than {MAX_DEPTH} levels", "a plan needs fewer than ten")
            self._stop()

    def _scalar(self, event: Any, at: Position) -> None:
        value: Scalar | Surprise = event.value
        node = Node(event.value, at)
        unquoted = event.implicit[0]
        if unquoted:
            value = resolve(event.value)
            if isinstance(value, Surprise):
                self._surprise(node, value)
            else:
                node.value = value
        self._refuse_extras(event, at, node)
        self._look_inside(event, node)
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.node.value, dict) and not frame.has_key:
            self._key(frame, node, event.value, unquoted)
            return
        if node.value is None and not (frame is not None and frame.free):
            self._null(frame, node)
        self._place(node)

    def _surprise(self, node: Node, surprise: Surprise) -> None:
        node.refused = True
        self._problem(node.at, f"unquoted {shown(str(node.value))} is {surprise.what}", surprise.remedy)

    def _null(self, frame: _Frame | None, node: Node) -> None:
        if frame is None:
            return  # an empty document: reported as such
        node.refused = True
        what = f"`{shown(frame.key)}` has no value" if frame.key is not None else "this item has no value"
        at = frame.node.keys.get(frame.key, node.at) if frame.key is not None else node.at
        self._problem(at, what, "give it one, or delete it")

    def _refuse_extras(self, event: Any, at: Position, node: Node) -> None:
        if event.anchor is not None:
            self._problem(at, f"there is an anchor, `&{shown(event.anchor)}`", "delete it; a plan has no aliases")
        if event.tag is not None:
            node.refused = True
            self._problem(at, f"there is a tag, `{shown(event.tag)}`", "delete it; quote what must be text")

    def _look_inside(self, event: Any, node: Node) -> None:
        """What escapes in double quotes may hide: control characters, and secrets that the text did not show."""
        value = event.value
        if event.end_mark.index - event.start_mark.index == len(value):
            return
        control = _CONTROL.search(value)
        if control:
            node.refused = True
            self._problem(node.at, f"the text holds a control character, U+{ord(control[0]):04X}", "delete it")
        for start, end in find_secrets(value):
            if value[start:end] not in self.secrets:
                self._secret(node.at, value[start:end])

    def _key(self, frame: _Frame, node: Node, text: str, unquoted: bool) -> None:
        frame.has_key = True
        frame.dropped = False
        frame.key = text
        if unquoted and text == "<<":
            self._problem(node.at, "there is a merge key, `<<`", "write the keys out")
            frame.dropped = True
        elif not node.refused and not isinstance(node.value, str):
            self._problem(node.at, f"the key {shown(text) or '(nothing)'} is not text", "write a word, or quote it")
        if text in frame.node.keys:
            first = frame.node.keys[text]
            what = f"`{shown(text)}` is here a second time; it is already in line {first.line}"
            self._problem(node.at, what, "keep one of the two")
            frame.dropped = True
        else:
            frame.node.keys[text] = node.at

    def _place(self, node: Node) -> bool:
        """Put a value where it belongs; True where null may stand inside it."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._problem(node.at, f"there are more than {MAX_NODES} values", "is this the right file?")
            self._stop()
        if not self._frames:
            if self._documents == 1:
                self.root = node
            return False
        frame = self._frames[-1]
        if isinstance(frame.node.value, list):
            frame.node.value.append(node)
            return frame.free
        if not frame.has_key:
            if not node.refused:
                self._problem(node.at, "a key is a list or a mapping", "write a word")
            frame.has_key, frame.dropped, frame.key = True, True, None
            return False
        frame.has_key = False
        if isinstance(frame.node.value, dict) and frame.key is not None and not frame.dropped:
            frame.node.value[frame.key] = node
        return frame.free or frame.key in FREE_KEYS
