"""Approvals as files, one each, meant to be committed and reviewed like code."""

from __future__ import annotations

import os
import re
from pathlib import Path

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.model.record import SignedStatement
from statehub_plan.signatures.files import read_document, write_document
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
    path = folder / name
    try:
        write_document(path, signed)
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
        return StoredApproval(
            source=str(path), signed=read_document(path, SignedStatement, signed="statement", max_bytes=MAX_BYTES)
        )
    except ValueError as problem:
        return StoredApproval(source=str(path), problem=str(problem))


def _unreadable_folder(folder: Path, why: str) -> StatehubError:
    return StatehubError(
        code="approvals-unreadable",
        what=f"the approvals folder {folder} can't be used: {why}",
        hint="name a readable folder that holds approvals only",
    )
