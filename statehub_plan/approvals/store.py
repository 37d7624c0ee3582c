"""Approvals as files, one each, meant to be committed and reviewed like code."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rfc8785 import CanonicalizationError

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen, canonical
from statehub_plan.model.record import SignedStatement
from statehub_plan.signatures.sshsig import read_signature

MAX_BYTES = 64 * 1024
MAX_FILES = 10_000


class StoredApproval(Frozen):
    """One file of the folder: what it holds, or (`signed` is None) the position and reason of what is wrong with it."""

    source: str
    signed: SignedStatement | None = None
    problem: str = ""


def save(folder: Path, signed: SignedStatement) -> Path:
    """The new file that holds `signed`; appears whole or not at all. The folder is made if missing.

    Named after gate, act, time, key and nonce, so that a listing tells the story.
    """
    statement = signed.statement
    key = re.sub(r"[^A-Za-z0-9]", "", read_signature(signed.signature).fingerprint.removeprefix("SHA256:"))
    nonce = re.sub(r"[^A-Za-z0-9]", "", statement.nonce)
    name = f"{statement.gate}-{statement.act}-{statement.signed_at:%Y%m%dT%H%M%SZ}-{key[:8]}-{nonce[:8]}.json"
    text = json.dumps(signed.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    path, temporary = folder / name, folder / f".{name}.{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(folder)
    except OSError as error:
        raise StatehubError(
            code="approval-not-saved",
            what=f"the signed statement could not be written to {folder}: {error.strerror}",
            hint="give this user a folder with room and write permission; nothing was approved",
        ) from error
    return path


def load(folder: Path) -> tuple[StoredApproval, ...]:
    """Every `*.json` of the folder, sorted by name; a bad one never hides the others. No folder: no approvals."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".json"))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _unreadable_folder(folder, str(error.strerror)) from error
    if len(names) > MAX_FILES:
        raise _unreadable_folder(folder, f"it holds more than {MAX_FILES} files")
    return tuple(_load_one(folder / name) for name in names)


def _load_one(path: Path) -> StoredApproval:
    try:
        return StoredApproval(source=str(path), signed=_parsed(_read(path)))
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = f"{'.'.join(map(str, first['loc'])) or 'document'}: {first['msg']}"
    except RecursionError:
        problem = "it is nested too deeply"
    except CanonicalizationError as error:
        problem = f"it has no canonical form: {error}"
    except UnicodeDecodeError as error:
        problem = f"byte {error.start}: it is not UTF-8"
    except OSError as error:
        problem = "it is a symbolic link" if error.errno == errno.ELOOP else f"it can't be read: {error.strerror}"
    except ValueError as error:
        problem = str(error)
    return StoredApproval(source=str(path), problem=problem)


def _read(path: Path) -> str:
    # A link could show a reviewer one file and the tool another; a pipe without a writer would block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_size > MAX_BYTES:
            raise ValueError(f"it has {status.st_size} bytes; an approval has at most {MAX_BYTES}")
        return file.read(MAX_BYTES).decode("utf-8")


def _parsed(text: str) -> SignedStatement:
    """The signed statement, if the text says nothing else: no key twice, no value that needs interpretation."""
    raw = json.loads(text, object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    signed = SignedStatement.model_validate(raw)
    if canonical(raw["statement"]) != canonical(signed.statement):
        raise ValueError("statement: a value is not written the way the tool writes it")
    return signed


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unreadable_folder(folder: Path, why: str) -> StatehubError:
    return StatehubError(
        code="approvals-unreadable",
        what=f"the approvals folder {folder} can't be used: {why}",
        hint="name a readable folder that holds approvals only",
    )
