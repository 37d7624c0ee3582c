"""What a restored scratch database may lack or say in another way although the backup is good: a closed list of rules,
each with its reason. They come after the rules for any two catalogs (`catalog_rules`).

Whatever no rule here names makes a drill fail. What a rule excuses is told with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from statehub_plan.postgres.catalog import Catalog
from statehub_plan.postgres.catalog_rules import CatalogObject
from statehub_plan.postgres.comparison import Difference

__all__ = ["DRILL_RULES", "Circumstances", "DrillRule", "Lack", "excuse"]

_OWN_PUBLIC_SINCE = 150000
# Names are qualified, and quoted where they have to be. Casts and transforms are in no schema: what is in one only says
# from what and to what they convert.
_ALONE = frozenset({"added to operator family", "collation", "routine", "type"})
_WITH_TYPE = frozenset({"comment", "dependency", "object", "security label"})
_NAMED_ALONE = re.compile(r"pg_catalog\.")
_NAMED_WITH_TYPE = re.compile(r"(?!transform )[a-z ]+ pg_catalog\.")
_DATABASES_OWN = frozenset({"access", "comment"})
_SERVERS_OWN = frozenset({"built-in", "parameter privileges", "role", "setting", "tablespace"})


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Under which a backup was restored. `with_owners`: owners and privileges were restored, too. `makers`: who owns
    there what comes with the server or with an extension."""

    source_version: int
    target_version: int
    with_owners: bool
    makers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing that is not as the backup's catalog has it, with both sides' objects; None where there is none."""

    found: Difference
    source: CatalogObject | None
    target: CatalogObject | None
    of: CatalogObject | None
    """The table that it belongs to, on the source."""
    circumstances: Circumstances

    @property
    def values(self) -> tuple[Any, Any]:
        """What both sides say of the aspect."""
        ours, theirs = (one.definition.get(self.found.aspect) if one else None for one in (self.source, self.target))
        return ours, theirs


@dataclass(frozen=True, slots=True)
class DrillRule:
    """What is no fault of a backup: the reason, for people, and when it applies."""

    reason: str
    applies: Callable[[Lack], bool]


def _of_the_place(lack: Lack) -> bool:
    kind, name = lack.found.kind, lack.found.object
    if kind == "security label" and name.endswith(" on database"):
        return True
    return kind in _SERVERS_OWN or (kind == "database" and name in _DATABASES_OWN)


def _collation_of_the_place(lack: Lack) -> bool:
    kind, name, aspect = lack.found.kind, lack.found.object, lack.found.aspect
    return (kind == "database" and name == "collation") or (kind == "collation" and aspect == "version")


def _in_the_servers_schema(lack: Lack) -> bool:
    kind, name = lack.found.kind, lack.found.object
    of_the_servers = _NAMED_ALONE if kind in _ALONE else _NAMED_WITH_TYPE if kind in _WITH_TYPE else None
    return lack.target is None and of_the_servers is not None and of_the_servers.match(name) is not None


def _subscription(lack: Lack) -> bool:
    return lack.found.kind == "subscription" and lack.target is None


def _not_restored_owners(lack: Lack) -> bool:
    kind, aspect = lack.found.kind, lack.found.aspect
    if lack.circumstances.with_owners:
        return False
    return aspect in ("owner", "privileges") or (kind in ("default privileges", "changed privileges"))


def _made_by_another(lack: Lack) -> bool:
    if lack.found.kind != "changed privileges" or lack.found.aspect != "privileges":
        return False
    ours, theirs = (_by_grantee(value) for value in lack.values)
    gone, came = (dict(one.items() - other.items()) for one, other in ((ours, theirs), (theirs, ours)))
    same = len(gone) == len(came) == 1 and set(gone.values()) == set(came.values())
    return same and came.keys() <= lack.circumstances.makers


def _by_grantee(texts: Any) -> dict[str, frozenset[str]]:
    grants: dict[str, frozenset[str]] = {}
    for text in texts or ():
        grantee, _, privilege = text.rpartition("=")
        grants[grantee] = grants.get(grantee, frozenset()) | {privilege}
    return grants


def _public_of_before(lack: Lack) -> bool:
    steps_over = lack.circumstances.source_version < _OWN_PUBLIC_SINCE <= lack.circumstances.target_version
    if not steps_over or (lack.found.kind, lack.found.object) != ("schema", "public"):
        return False
    return lack.found.aspect == "owner" or (lack.found.aspect == "privileges" and _granted_alike(lack))


def _granted_alike(lack: Lack) -> bool:
    """Whether all but the owner and everybody have the same."""
    grants = []
    for side, value in zip((lack.source, lack.target), lack.values, strict=True):
        owner = side.definition["owner"] if side else None
        grants.append({name: what for name, what in _by_grantee(value).items() if name not in (owner, "PUBLIC")})
    return grants[0] == grants[1]


def _version_of_the_place(lack: Lack) -> bool:
    return (lack.found.kind, lack.found.aspect) == ("extension", "version")


def _extension_comment(lack: Lack) -> bool:
    return (lack.found.kind, lack.found.aspect) == ("extension", "comment")


def _invalid_index(lack: Lack) -> bool:
    source, gone = lack.source, lack.found.aspect == "missing"
    return gone and source is not None and source.kind == "index" and source.definition["valid"] is False


def _silenced(lack: Lack) -> bool:
    return (lack.found.kind, lack.found.aspect) == ("relation", "silenced constraint triggers") and lack.values[
        1
    ] is None


def _implied_type(lack: Lack) -> bool:
    source, gone = lack.source, lack.found.aspect == "missing"
    return gone and source is not None and source.kind == "comment" and source.definition["implied type"] is True


def _being_detached(lack: Lack) -> bool:
    return (lack.found.kind, lack.found.aspect) == ("relation", "being detached") and lack.values == (True, False)


def _inherited_columns_first(lack: Lack) -> bool:
    if (lack.found.kind, lack.found.aspect) != ("column", "position") or lack.of is None:
        return False
    return bool(lack.of.definition["parents"]) and lack.of.definition["partition bound"] is None


DRILL_RULES: tuple[DrillRule, ...] = (
    DrillRule("it belongs to the server or to the database as such, and no dump of a content has it", _of_the_place),
    DrillRule("the scratch database has the locale and the libraries of its own server", _collation_of_the_place),
    DrillRule("no dump has what a user has put into pg_catalog", _in_the_servers_schema),
    DrillRule("subscriptions are not backed up: a dump of them would hold passwords", _subscription),
    DrillRule("owners and privileges were not restored", _not_restored_owners),
    DrillRule("whoever made the extension or the server there has what its maker had here", _made_by_another),
    DrillRule("since 15 the schema public has another owner and fewer privileges", _public_of_before),
    DrillRule("CREATE EXTENSION takes the version that the server has", _version_of_the_place),
    DrillRule("pg_dump leaves out an index that is not valid", _invalid_index),
    DrillRule("no dump says that constraint triggers are silenced: restored, they are not", _silenced),
    DrillRule(
        "comments of extensions are not restored: they come with them, and only a superuser may set others",
        _extension_comment,
    ),
    DrillRule("no dump has comments of row types, arrays and multiranges", _implied_type),
    DrillRule("a partition that was half detached is dumped as one", _being_detached),
    DrillRule("a restored child table has its parents' columns first", _inherited_columns_first),
)


def excuse(found: Difference, source: Catalog, target: Catalog, circumstances: Circumstances) -> str | None:
    """The reason of the first rule that applies; None for what makes the drill fail."""
    key = (found.kind, found.object)
    of = source.get(("relation", found.table or ""))
    lack = Lack(found, source.get(key), target.get(key), of, circumstances)
    return next((rule.reason for rule in DRILL_RULES if rule.applies(lack)), None)
