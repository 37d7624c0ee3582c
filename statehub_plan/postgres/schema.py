"""The source's schema on the target, bare and fenced, before anything is held; and made so again for another copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.postgres import state
from statehub_plan.postgres.backup import take_backup
from statehub_plan.postgres.connect import Connection, connect, user_tables
from statehub_plan.postgres.contents import described, user_objects
from statehub_plan.postgres.dump import SchemaDump, dump_schema
from statehub_plan.postgres.loading import Load, is_bare, load_bare, source_defaults, source_settings, try_out
from statehub_plan.postgres.preflight import left_by_undecided_transfer, preflight_schema
from statehub_plan.postgres.tools import major_of
from statehub_plan.postgres.workers import OnProgress, nobody_looks, nothing_to_lose
from statehub_plan.world import TransferStage

__all__ = ["Prepared", "prepare_schema", "refresh_schema"]


class Prepared(Frozen):
    """What `prepare_schema` came to: tables created (empty, fenced), objects dropped before, and the dump of them."""

    tables: int
    dropped: tuple[str, ...]
    safety_dump: str | None
    schema_digest: str


def prepare_schema(
    source_dsn: str,
    target_dsn: str,
    *,
    run: str,
    epoch: int,
    term: int,
    replace: bool,
    safety_dir: Path,
    endpoint: str,
    jobs: int = 2,
    recipients: tuple[str, ...] = (),
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
) -> Prepared:
    """The source's tables on the target, empty, bare (no indexes, foreign keys, triggers) and fenced; nothing is held.

    The target must be frozen already (`fence.fence`). Content of its own is refused, or with `replace` dumped into
    `safety_dir` under the name of `endpoint` (encrypted for `recipients`, where given) and then dropped; what an
    earlier, undecided transfer left is dropped as it is. The whole schema, indexes and all, is tried out first in a
    transaction that is rolled back, as far as the server's lock table has room for it. Idempotent; Refusal
    `preflight-failed` lists everything that stands in the way, StatehubError `schema-refused` names the first entry
    that the target's server does not accept.
    """
    with connect(source_dsn, purpose="prepare") as source, connect(target_dsn, purpose="prepare") as target:
        _require_frozen(target)
        ours = left_by_undecided_transfer(target)
        problems = preflight_schema(source, target, replace=replace)
        if problems:
            raise Refusal(
                code="preflight-failed",
                what=f"{len(problems)} things stand in the way of copying into {endpoint}; nothing was touched",
                hint="do what each line says, then run again; after an edit of the document, with a new plan of it",
                details=tuple(str(problem) for problem in problems),
            )
        load, post = _read_source(source, target, term, epoch, check)
        content = user_objects(target)
        try_out(target, load, post)
        safety = None
        if content and not ours:
            backup = take_backup(
                target_dsn,
                safety_dir,
                endpoint=endpoint,
                kind="safety",
                jobs=jobs,
                recipients=recipients,
                on_progress=on_progress,
                check=check,
            )
            safety = str(backup.path)
        load_bare(target, load, expected=content if safety else None)
        return Prepared(
            tables=len(user_tables(target)),
            dropped=() if ours else described(content),
            safety_dump=safety,
            schema_digest=load.digest,
        )


def refresh_schema(
    source_dsn: str, target_dsn: str, *, run: str, epoch: int, check: Callable[[], None] = nothing_to_lose
) -> bool:
    """Makes the target's schema bare and current again where it is not; True when it had to be loaded anew.

    For a copy that is begun again after indexes were built, or after the source's schema has changed. StatehubError
    `target-not-prepared` unless the target holds what a transfer of this tool has left, undecided and still frozen.
    """
    with connect(source_dsn, purpose="prepare") as source, connect(target_dsn, purpose="prepare") as target:
        current = state.read_state(target)
        mark = current.transfer if current else None
        if mark is None or mark.term is None or not left_by_undecided_transfer(target):
            raise StatehubError(
                code="target-not-prepared",
                what="the target was not prepared for this transfer, or its content was decided for meanwhile",
                hint="make a new plan; it begins with preparing the target",
            )
        _require_frozen(target)
        load, _ = _read_source(source, target, mark.term, epoch, check)
        if mark.stage is TransferStage.PREPARED and mark.proof == load.digest and is_bare(target):
            return False
        load_bare(target, load, expected=None)
        return True


def _read_source(
    source: Connection, target: Connection, term: int, epoch: int, check: Callable[[], None]
) -> tuple[Load, SchemaDump]:
    pre, post = (
        dump_schema(source, section, target_major=major_of(target), check=check)
        for section in ("pre-data", "post-data")
    )
    load = Load(
        bare=pre,
        source_identity=state.identity(source),
        source_major=major_of(source),
        settings=source_settings(source),
        defaults=source_defaults(source, target.info.user),
        term=term,
        epoch=epoch,
    )
    return load, post


def _require_frozen(target: Connection) -> None:
    current = state.read_state(target)
    if current is None or current.fence is None or current.copied:
        raise StatehubError(
            code="target-not-fenced",
            what="the target is not frozen; nothing is loaded into a database that others may write to",
            hint="make a new plan; preparing the target begins with freezing it",
        )
