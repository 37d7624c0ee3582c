"""Read one access path, and point it at an endpoint: atomically, idempotently, everything else left byte-identical."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from statehub_plan import processes
from statehub_plan.access import bridge_file, env_file, json_file, textfile
from statehub_plan.access.place import Place, PlaceError, position, substitute
from statehub_plan.errors import OutcomeUnknown, Refusal, StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.model.spec import (
    AccessPath,
    BridgeAccess,
    CommandAccess,
    EnvFileAccess,
    JsonPointerAccess,
    duration_s,
)
from statehub_plan.redact import redact

RELOAD_TIMEOUT_S = 30.0

_FileAccess = JsonPointerAccess | EnvFileAccess | BridgeAccess


class _Find(Protocol):
    def __call__(self, text: str) -> Place: ...


class AccessChange(Frozen):
    """What an access path held before and holds now; both the same when there was nothing to change."""

    before: str
    after: str


def endpoint_of(path: AccessPath, value: str) -> str | None:
    """The endpoint that `value` points clients at; None when it is not the value of exactly one."""
    found = [name for name in path.values if path.values[name] == value]
    return found[0] if len(found) == 1 else None


def read_access(
    path: AccessPath, base_dir: Path, *, timeout_s: float | None = None, stop: threading.Event | None = None
) -> str:
    """The value that clients of this path really use now. Reads only.

    Files: blocks for as long as the file system does. Commands: for at most their own time-out, `timeout_s` if that is
    shorter, and ends at `stop`. Refusal where the place can't be read, StatehubError where `get` fails.
    """
    if isinstance(path, CommandAccess):
        return _get(path, base_dir, timeout_s, stop)
    snapshot = textfile.read(textfile.resolve_path(path.file, base_dir))
    with _Refusing(path, snapshot):
        return _find(path)(text=snapshot.text).value


def redirect(path: AccessPath, endpoint: str, base_dir: Path) -> AccessChange:
    """Point clients of this path at `endpoint`, and prove it by reading back.

    Idempotent: a value that is right already is not written again; `reload` (and only it) runs every time, since an
    earlier run may have ended between writing and reloading. Refusal, with nothing changed, where the place is not
    there or ambiguous, the value in it is none that the plan knows, or the file can't be replaced atomically.
    StatehubError where `set` or `reload` fails, OutcomeUnknown where what stands there afterwards is not what was put.
    """
    wanted = _wanted(path, endpoint)
    if isinstance(path, CommandAccess):
        return _redirect_command(path, wanted, base_dir)
    change = _redirect_file(path, wanted, base_dir)
    if isinstance(path, BridgeAccess) and path.reload:
        _reload(path, base_dir)
    return change


def try_redirect(path: AccessPath, endpoint: str, base_dir: Path) -> None:
    """Raises what `redirect` would raise, as far as that shows without changing anything that clients use.

    Stricter in one way: where the value is right already, writing it must be possible too, since the way back needs
    that. A file's replacement is made and thrown away, `get` is run, `set` and `reload` only have to be there.
    """
    wanted = _wanted(path, endpoint)
    if isinstance(path, CommandAccess):
        _known_value(path, base_dir)
        _require_program(_set_argv(path, wanted), base_dir)
        return
    snapshot, _, text = _edited(path, wanted, base_dir)
    textfile.try_replace(snapshot, text)
    if isinstance(path, BridgeAccess) and path.reload:
        _require_program(path.reload, base_dir)


def _wanted(path: AccessPath, endpoint: str) -> str:
    if endpoint not in path.values:
        raise Refusal(
            code="access-value-missing",
            what=f"access path {path.name} says no value for endpoint {endpoint}",
            hint=f"add {endpoint} to spec.access[name={path.name}].values",
        )
    return path.values[endpoint]


def _edited(path: _FileAccess, wanted: str, base_dir: Path) -> tuple[textfile.Snapshot, str, str]:
    """The file as it is, the value in it, and its text with `wanted` there instead."""
    snapshot = textfile.read(textfile.resolve_path(path.file, base_dir))
    find = _find(path)
    with _Refusing(path, snapshot):
        place = find(text=snapshot.text)
        _refuse_foreign(path, place.value, f"{snapshot.path}:{position(snapshot.text, place.start)}")
        text = snapshot.text if place.value == wanted else substitute(snapshot.text, find, wanted)
    return snapshot, place.value, text


def _redirect_file(path: _FileAccess, wanted: str, base_dir: Path) -> AccessChange:
    snapshot, before, text = _edited(path, wanted, base_dir)
    if before == wanted:
        textfile.sweep(snapshot)
        return AccessChange(before=wanted, after=wanted)
    textfile.replace(snapshot, text)
    return _verified(path, before, wanted, read_access(path, base_dir))


def _known_value(path: CommandAccess, base_dir: Path) -> str:
    value = _get(path, base_dir)
    _refuse_foreign(path, value, f"{path.get[0]} (get)")
    return value


def _set_argv(path: CommandAccess, wanted: str) -> list[str]:
    if not any("{value}" in argument for argument in path.set):
        raise Refusal(
            code="access-command-invalid",
            what=f"access path {path.name}: no argument of `set` holds {{value}}",
            hint="write {value} where the command takes the new value",
        )
    return [argument.replace("{value}", wanted) for argument in path.set]


def _require_program(argv: Sequence[str], base_dir: Path) -> None:
    """StatehubError unless the program is found where a child started in `base_dir` would look for it."""
    program, cwd = argv[0], base_dir.absolute()
    folders = [""] if os.path.dirname(program) else os.get_exec_path()
    if not any(shutil.which(str(cwd / folder / program)) for folder in folders):
        raise StatehubError(
            code="command-missing",
            what=redact(f"{program} could not be started: no such program, or not executable"),
            hint=f"install it or put it on PATH; it is started in {base_dir} without a shell",
        )


def _redirect_command(path: CommandAccess, wanted: str, base_dir: Path) -> AccessChange:
    before = _known_value(path, base_dir)
    if before == wanted:
        return AccessChange(before=wanted, after=wanted)
    argv = _set_argv(path, wanted)
    try:
        ended = processes.run(argv, timeout_s=duration_s(path.timeout), cwd=base_dir)
    except StatehubError as error:
        if error.code != "command-timeout":
            raise
        raise OutcomeUnknown(
            code="access-set-timeout", what=f"access path {path.name}: {error.what}", hint=_LOOK_AGAIN
        ) from error
    now = _get(path, base_dir)
    if ended.exit_status != 0:
        raise StatehubError(
            code="access-set-failed",
            what=f"access path {path.name}: {argv[0]} (set): {ended.complaint()}",
            hint=f"`get` answers {redact(repr(now))} now; correct the command and run it again",
        )
    return _verified(path, before, wanted, now)


_LOOK_AGAIN = "observe again; the same redirection can be repeated, it begins by looking at what is there"


def _get(
    path: CommandAccess, base_dir: Path, timeout_s: float | None = None, stop: threading.Event | None = None
) -> str:
    own = duration_s(path.timeout)
    ended = processes.run(path.get, timeout_s=min(own, timeout_s or own), cwd=base_dir, stop=stop)
    if ended.exit_status != 0:
        raise StatehubError(
            code="access-get-failed",
            what=f"access path {path.name}: {path.get[0]} (get): {ended.complaint()}",
            hint="run it by hand; it must print the value in use now and end with status 0",
        )
    return ended.stdout.strip()


def _reload(path: BridgeAccess, base_dir: Path) -> None:
    ended = processes.run(path.reload, timeout_s=RELOAD_TIMEOUT_S, cwd=base_dir)
    if ended.exit_status != 0:
        raise StatehubError(
            code="access-reload-failed",
            what=f"access path {path.name}: the file is changed, but {path.reload[0]} (reload): {ended.complaint()}",
            hint="correct the reload command and run it again; the file will not be written a second time",
        )


def _find(path: _FileAccess) -> _Find:
    if isinstance(path, JsonPointerAccess):
        return partial(json_file.find, pointer=path.pointer)
    if isinstance(path, EnvFileAccess):
        return partial(env_file.find, variable=path.variable)
    return partial(bridge_file.find, tunnel=path.tunnel, field=path.field)


def _refuse_foreign(path: AccessPath, value: str, where: str) -> None:
    if endpoint_of(path, value) is None:
        known = ", ".join(f"{redact(path.values[name])} ({name})" for name in sorted(path.values))
        raise Refusal(
            code="access-value-foreign",
            what=f"access path {path.name}: {where}: {redact(repr(value))} is not the value of exactly one endpoint",
            hint="find out who points clients there; then put one of the known values, or correct the plan",
            details=(f"known: {known}",),
        )


def _verified(path: AccessPath, before: str, wanted: str, now: str) -> AccessChange:
    if now != wanted:
        raise OutcomeUnknown(
            code="access-not-kept",
            what=f"access path {path.name}: {redact(repr(wanted))} was put, but {redact(repr(now))} stands there now",
            hint=_LOOK_AGAIN,
        )
    return AccessChange(before=before, after=wanted)


class _Refusing:
    """Turns a PlaceError inside into a Refusal that names file, line and column."""

    def __init__(self, path: AccessPath, snapshot: textfile.Snapshot) -> None:
        self._name = path.name
        self._snapshot = snapshot

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, PlaceError):
            return
        file, text = self._snapshot.path, self._snapshot.text
        where = [f"{file}:{position(text, offset)}" for offset in error.offsets]
        raise Refusal(
            code="access-place-unusable",
            what=redact(f"access path {self._name}: {where[0] if where else file}: {error.problem}"),
            hint=error.remedy,
            details=tuple(f"also at {also}" for also in where[1:]),
        ) from error
