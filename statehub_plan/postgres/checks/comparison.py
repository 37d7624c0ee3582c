"""What the comparison will find to differ after the move, and only a waiver or an administrator can settle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby

from statehub_plan.model.preflight import Severity, Side
from statehub_plan.postgres.after_move import SITUATION, Answered, foretold, statements
from statehub_plan.postgres.checks.declare import (
    Answers,
    FirstWord,
    FollowUp,
    Look,
    Place,
    Query,
    Seen,
    Unanswered,
    check,
)
from statehub_plan.postgres.comparison import CannotTell, Difference, covers
from statehub_plan.postgres.names import word

__all__: list[str] = []

_LONGEST = 160
_SITUATION = Query(SITUATION)


def _ask(first: FirstWord) -> Mapping[str, str]:
    return statements(
        first.side is Side.TARGET,
        first.mine,
        first.other,
        roles=(first.roles, first.other_roles),
        versions=(first.version_num, first.other_version_num),
    )


_CATALOG = FollowUp(_SITUATION, _ask)


@check(
    "comparison-will-differ",
    Severity.WARNING,
    Place.TARGET,
    title="what a move does not carry is the same on both sides, or the plan waives it",
    reason="each is a difference in the catalogs, so that the rehearsal's proof fails, and the one under the hold",
    here=(_CATALOG,),
    there=(_CATALOG,),
)
def _will_differ(look: Look) -> Iterator[Seen]:
    try:
        found = foretold(*(_answered(side) for side in (look.there, look.here)))
    except CannotTell as reason:
        raise Unanswered(reason.what) from reason
    kept = [one for one in found if not any(covers(waiver, one) for waiver in look.move.waive)]
    # Last, because of the first superuser's name alone there may be more of these than are told.
    kept.sort(key=lambda one: "information_schema." in one.object)
    for (kind, name), of_it in groupby(kept, key=lambda one: (one.kind, one.object)):
        differences = list(of_it)
        yield Seen(_told(differences), _remedy(differences[0], look.here.info.role), f"{kind} {name}")


def _answered(side: Answers) -> Answered:
    return Answered(side.value(_SITUATION), side.probed(_CATALOG), side.info.version_num, {side.info.role})


def _told(differences: list[Difference]) -> str:
    one = differences[0]
    what = f"{one.kind} {one.object}"
    if one.aspect in ("missing", "extra"):
        return f"{what} is only on the {'source' if one.aspect == 'missing' else 'target'}, and stays so"
    if one.aspect == "unseen":
        hidden = (f"on the {side}: {why}" for side, why in (("source", one.source), ("target", one.target)) if why)
        return f"{what} cannot be compared, {'; '.join(hidden)}"
    aspects = (f"{each.aspect} {_short(each.source)} on the source, {_short(each.target)} on the target" for each in
               differences)  # fmt: skip
    return f"{what} will differ: {'; '.join(aspects)}"


def _short(text: str | None) -> str:
    told = "nothing" if text in (None, "null", "") else str(text)
    return told if len(told) <= _LONGEST else f"{told[: _LONGEST - 1]}…"


def _remedy(one: Difference, mine: str) -> str:
    waiver = f"name it in the plan's compare.waive (kind: {one.kind}, object: {_quoted(one.object)})"
    if one.aspect == "missing":
        return f"{waiver}, or bring it to the target"
    if one.kind == "default privileges" and one.object.startswith(f"{word(mine)} in "):
        return (
            "take it away there (ALTER DEFAULT PRIVILEGES … REVOKE …): the tool's role makes the tables, and each that "
            f"it makes there would be granted this, and differ; {waiver} for this alone"
        )
    if one.aspect == "extra":
        return f"{waiver}, or take it away there"
    if one.aspect == "unseen":
        return f"{waiver} after looking at it oneself, or let the tool's roles be superusers"
    return f"{waiver}, or make both sides the same"


def _quoted(name: str) -> str:
    """For YAML."""
    return "'" + name.replace("'", "''") + "'" if name.isprintable() else json.dumps(name)
