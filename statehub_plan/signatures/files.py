"""Signed documents as files: read so that what a person sees is what is verified, written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from rfc8785 import CanonicalizationError

from statehub_plan.model.base import canonical

ModelT = TypeVar("ModelT", bound=BaseModel)


class AnotherSchema(ValueError):
    """The document names a schema that is not the one it is read as: `named`."""

    def __init__(self, named: str) -> None:
        super().__init__(f"it is written as {named[:80]!r}, which is another schema")
        self.named = named


def read_document(path: Path, model: type[ModelT], *, signed: str, max_bytes: int, schema: str | None = None) -> ModelT:
    """The document in a file; ValueError with the position and reason of what is wrong with it, if anything is.

    AnotherSchema where the member `signed` says that it is not of `schema`; whatever else is wrong with it then.

    Strict where a reviewer could be shown one thing and the tool another: no link, no key twice, and the member
    `signed`, which the signature is over, is written the way the tool writes it.
    """
    try:
        raw = json.loads(_read(path, max_bytes), object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
        if schema is not None and (named := _schema_of(raw, signed)) not in (None, schema):
            raise AnotherSchema(str(named))
        document = model.model_validate(raw)
        if canonical(raw[signed]) != canonical(getattr(document, signed)):
            raise ValueError(f"{signed}: a value is not written the way the tool writes it")
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'document'}: {first['msg']}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except CanonicalizationError as error:
        raise ValueError(f"it has no canonical form: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start}: it is not UTF-8") from error
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else f"it can't be read: {error.strerror}"
        raise ValueError(why) from error
    return document


def write_document(path: Path, document: BaseModel) -> None:
    """Appears whole, flushed, or not at all; the folder is made if missing. OSError when it can't be."""
    text = json.dumps(document.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    write_whole(path, text)


def write_whole(path: Path, text: str) -> None:
    """A file with this text, whole and flushed, or as it was. OSError when it can't be."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, max_bytes: int) -> str:
    # A link could show a reviewer one file and the tool another; a pipe without a writer would block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_size > max_bytes:
            raise ValueError(f"it has {status.st_size} bytes; such a document has at most {max_bytes}")
        return file.read(max_bytes).decode("utf-8")


def _schema_of(raw: Any, member: str) -> Any:
    document = raw.get(member) if isinstance(raw, dict) else None
    return document.get("schema_version") if isinstance(document, dict) else None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
