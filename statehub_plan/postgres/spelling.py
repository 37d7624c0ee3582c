"""Two spellings of one Boolean expression: `((a) OR (b)) OR (c)` is what PostgreSQL writes before an expression was
dumped and read again, `(a) OR (b) OR (c)` after that. Pure.

The parser flattens chains of AND and of OR (gram.y, makeAndExpr and makeOrExpr); whatever was stored as a nested chain
comes back flat. Only that, and parentheses around nothing but parentheses, is treated as the same.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[()]|[^\s()'"]+""")
_CONNECTIVES = ("AND", "OR")
_OPERAND_MAY_FOLLOW = frozenset({"AND", "OR", "NOT", "WHEN", "CHECK", "WHERE", "(", "THEN", "ELSE", "USING"})

Tree = list["str | Tree"]


def same_expression(one: str, other: str) -> bool:
    """True when both texts are the same but for chains of AND or OR that are nested in one and flat in the other."""
    return one == other or _flat(_tree(one)) == _flat(_tree(other))


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
