"""Two spellings of one expression: what PostgreSQL writes before it was dumped and read again, and after that. Pure.

- `((a) OR (b)) OR (c)` comes back as `(a) OR (b) OR (c)`: the parser flattens chains of AND and of OR (gram.y,
  makeAndExpr and makeOrExpr).
- `(ARRAY['a'::character varying])::text[]`, which `IN ('a')` becomes for a varchar, comes back as
  `ARRAY[('a'::character varying)::text]`: the parser converts the members of an array that is cast (parse_expr.c,
  transformTypeCast). Not where the type has a length, by which a cast may cut values.

Only that, and parentheses around nothing but parentheses, is treated as the same.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[()]|[^\s()'"]+""")
_CONNECTIVES = ("AND", "OR")
_OPERAND_MAY_FOLLOW = frozenset({"AND", "OR", "NOT", "WHEN", "CHECK", "WHERE", "(", "THEN", "ELSE", "USING"})

_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"""")
_CAST_ARRAY = "(ARRAY["
_NAME = r'(?:"(?:[^"]|"")*"|[a-z_][\w$]*)'
_TO_ARRAY = re.compile(rf"\]\)::({_NAME}(?:[. ]{_NAME})*)\[\]")
_OPENING, _CLOSING = "([", ")]"

Tree = list["str | Tree"]


def same_expression(one: str, other: str) -> bool:
    """True when both texts are the same but for chains of AND or OR that are nested in one and flat in the other, and
    for arrays that are cast as a whole in one and member by member in the other."""
    return one == other or _spelled_out(one) == _spelled_out(other)


def _spelled_out(text: str) -> Tree:
    return _flat(_tree(_cast_members(text)))


def _cast_members(text: str) -> str:
    """The same with each array's cast at its members; inner ones first."""
    begin = len(text)
    while (begin := _rfind_outside(text, _CAST_ARRAY, begin)) >= 0:
        members, end = _members(text, begin + len(_CAST_ARRAY))
        cast = _TO_ARRAY.match(text, end)
        if cast is not None and members:
            inside = ", ".join(f"({member})::{cast[1]}" for member in members)
            text = f"{text[:begin]}ARRAY[{inside}]{text[cast.end() :]}"
    return text


def _rfind_outside(text: str, wanted: str, before: int) -> int:
    """Where the last one before a place begins that stands in no quotes; -1 where there is none."""
    quoted = [found.span() for found in _QUOTED.finditer(text)]
    at = text.rfind(wanted, 0, before)
    while any(begin <= at < end for begin, end in quoted):
        at = text.rfind(wanted, 0, at)
    return at


def _members(text: str, at: int) -> tuple[list[str], int]:
    """What stands between commas up to the bracket that closes here, and where that is; nothing where none does."""
    members, begin, depth = [], at, 0
    while at < len(text):
        if quoted := _QUOTED.match(text, at):
            at = quoted.end()
            continue
        if depth == 0 and text[at] in ",]":
            members.append(text[begin:at].strip())
            begin = at + 1
            if text[at] == "]":
                return (members if members != [""] else []), at
        depth += (text[at] in _OPENING) - (text[at] in _CLOSING)
        at += 1
    return [], at


def _tree(text: str) -> Tree:
    """Nested lists for parentheses; unbalanced text stays a flat list, and so equals nothing but itself."""
    root: Tree = []
    stack = [root]
    for token in _TOKEN.findall(text):
        if token == "(":
            inner: Tree = []
            stack[-1].append(inner)
            stack.append(inner)
        elif token == ")":
            if len(stack) == 1:
                return [text]
            stack.pop()
        else:
            stack[-1].append(token)
    return root if len(stack) == 1 else [text]


def _flat(tree: Tree) -> Tree:
    flat: Tree = []
    items = [_flat(item) if isinstance(item, list) else item for item in tree]
    chain = _connective(items)
    before = "("
    for item in items:
        grouping = isinstance(item, list) and before in _OPERAND_MAY_FOLLOW
        alone = len(items) == 1
        if grouping and isinstance(item, list) and (alone or (chain is not None and _connective(item) == chain)):
            flat.extend(item)
        else:
            flat.append(item)
        before = item if isinstance(item, str) else ")"
    return flat


def _connective(items: Tree) -> str | None:
    """The only connective on this level, None when there is none or more than one."""
    found = {item for item in items if isinstance(item, str) and item in _CONNECTIVES}
    return found.pop() if len(found) == 1 else None
