"""From a plan document to what checks take: the move that is intended, and each side with its sessions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from statehub_plan.errors import StatehubError
from statehub_plan.model.spec import CutoverPlan, Endpoint, FallbackMode, TargetContent, TransferMethod, UnderHold
from statehub_plan.postgres.checks.declare import Move
from statehub_plan.postgres.checks.run import End
from statehub_plan.postgres.connect import Connection, resolve_dsn
from statehub_plan.processes import run

__all__ = ["end_of", "move_of"]

_DISK_FREE_S = 3.0


def move_of(document: CutoverPlan, *, replace: bool | None = None) -> Move:
    """What the document intends, `auto` as the replication that it hopes for; `replace` where it is known better
    whether the target's content is replaced."""
    spec = document.spec
    return Move(
        method=TransferMethod.DUMP if spec.transfer.method is TransferMethod.DUMP else TransferMethod.REPLICATION,
        following=spec.transfer.method is not TransferMethod.DUMP
        and spec.desired.fallback.mode is FallbackMode.FOLLOWING,
        replace=spec.transfer.target_content is TargetContent.REPLACE if replace is None else replace,
        replaces_kept=replace is None,
        waive=spec.compare.waive,
        reads_changes=spec.compare.under_hold is UnderHold.CHANGES,
    )


def end_of(
    endpoint: Endpoint,
    connection: Connection,
    base_dir: Path,
    open_session: Callable[[str], Connection],
    *,
    timeout_s: float = _DISK_FREE_S,
) -> End:
    """The side that `connection` leads to, with all that its database's entry in the document names.

    `open_session` gives a session for a connection string, which stays the caller's to close. Runs the command
    `diskFree`, for at most `timeout_s`: what it does not print is not known, with its reason. StatehubError when a
    reference leads nowhere, or the role that is to subscribe cannot connect.
    """
    database = endpoint.database
    subscriber = replication = None
    if database.subscriber_dsn is not None:
        subscriber = open_session(resolve_dsn(database.subscriber_dsn, base_dir))
    if database.replication_dsn is not None:
        replication = resolve_dsn(database.replication_dsn, base_dir)
    free, why = _disk_free(endpoint, base_dir, timeout_s)
    return End(
        connection,
        subscriber=subscriber,
        replication_dsn=replication,
        app_roles=endpoint.app_roles,
        disk_free_bytes=free,
        disk_unknown_because=why,
    )


def _disk_free(endpoint: Endpoint, base_dir: Path, timeout_s: float) -> tuple[int | None, str]:
    command = endpoint.database.disk_free
    if command is None:
        return None, ""
    try:
        finished = run(command, timeout_s=timeout_s, cwd=base_dir)
    except StatehubError as error:
        return None, error.what
    if finished.exit_status != 0:
        return None, finished.complaint()
    printed = finished.stdout.strip()
    if not (printed.isascii() and printed.isdigit()):
        return None, f"{command[0]} printed no whole number of bytes"
    return int(printed), ""
