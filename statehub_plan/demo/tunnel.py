"""A TCP forwarder that stands in for the ops-bridge's SSH tunnels: the local port stays, the far end moves.

Run as `python -m statehub_plan.demo.tunnel serve tunnels.yaml --status tunnels.status.json`. It reads

    tunnels:
      state-hub:
        local: 127.0.0.1:8000
        target: 127.0.0.1:18001

again on SIGHUP and whenever the file changes, and cuts the connections of a tunnel whose target moved, as restarting an
SSH tunnel does. `reload` (with the same arguments) sends the SIGHUP and returns once the new targets are in force.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from statehub_plan.demo.process import end_with_owner
from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen

_CHUNK_BYTES = 65_536
_WATCH_S = 0.2
_RELOAD_TIMEOUT_S = 10.0
_DIAL_TIMEOUT_S = 5.0


class Address(Frozen):
    """Where one end of a tunnel is."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: object) -> Address:
        """From `host:port`; ValueError for anything else."""
        host, separator, port = str(text).rpartition(":")
        if not separator or not host or not port.isdigit() or not 0 < int(port) < 65_536:
            raise ValueError(f"not an address of the form host:port: {text!r}")
        return cls(host=host, port=int(port))

    def __str__(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


class Ends(Frozen):
    """Both ends of one tunnel."""

    local: Address
    target: Address


def read_tunnels(file: Path) -> dict[str, Ends]:
    """The tunnels that `file` declares, by name; StatehubError when it can't be understood."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        return {
            str(name): Ends(local=Address.parse(ends["local"]), target=Address.parse(ends["target"]))
            for name, ends in document["tunnels"].items()
        }
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise StatehubError(
            code="tunnels-unreadable",
            what=f"{file} declares no tunnels: {error}",
            hint="write `tunnels:`, and below each name `local:` and `target:` as host:port",
        ) from error


class Bridge:
    """Every tunnel of one file. Local ends are opened once; a changed `local` needs a restart."""

    def __init__(self, file: Path, status_file: Path) -> None:
        self._file = file
        self._status_file = status_file
        self._tunnels: dict[str, Ends] = {}
        self._connections: dict[str, set[asyncio.StreamWriter]] = {}
        self._stamp = self._file_stamp()

    async def serve(self) -> None:
        """Forward until SIGTERM, SIGINT or cancelled; while it runs, the status file says where to."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # this is one
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        try:
            await self._open()
            while True:
                await asyncio.sleep(_WATCH_S)
                if self._file_stamp() != self._stamp:
                    self.reload()
        finally:
            self._status_file.unlink(missing_ok=True)

    async def _open(self) -> None:
        self._tunnels = read_tunnels(self._file)
        for name, ends in self._tunnels.items():
            self._connections[name] = set()
            await asyncio.start_server(
                lambda reader, writer, name=name: self._forward(name, reader, writer),  # type: ignore[misc]
                ends.local.host,
                ends.local.port,
            )
        self._tell()

    def reload(self) -> None:
        """Take the file's present targets; a file that can't be understood changes nothing and is complained about."""
        self._stamp = self._file_stamp()
        try:
            wanted = read_tunnels(self._file)
        except StatehubError as error:
            print(error, file=sys.stderr, flush=True)
            return
        for name, ends in wanted.items():
            if name in self._tunnels and ends.target != self._tunnels[name].target:
                self._tunnels[name] = self._tunnels[name].model_copy(update={"target": ends.target})
                for writer in self._connections[name]:
                    writer.transport.abort()
        self._tell()

    async def _forward(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = self._tunnels[name].target
        ours = {writer}
        self._connections[name].add(writer)
        try:
            async with asyncio.timeout(_DIAL_TIMEOUT_S):
                far_reader, far_writer = await asyncio.open_connection(target.host, target.port)
            ours.add(far_writer)
            self._connections[name].add(far_writer)
            if target != self._tunnels[name].target:
                return  # moved while dialling: nobody would cut this one any more
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        except (OSError, TimeoutError) as error:
            print(f"{name}: {target}: {error}", file=sys.stderr, flush=True)
        finally:
            self._connections[name] -= ours
            for each in ours:
                each.transport.abort()

    def _tell(self) -> None:
        status = {"pid": os.getpid(), "tunnels": {name: str(ends.target) for name, ends in self._tunnels.items()}}
        fresh = self._status_file.with_name(f".{self._status_file.name}.{os.getpid()}")
        fresh.write_text(json.dumps(status), encoding="utf-8")
        fresh.replace(self._status_file)

    def _file_stamp(self) -> tuple[int, int, int]:
        try:
            found = self._file.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_ino, found.st_mtime_ns, found.st_size)


def reload(file: Path, status_file: Path) -> None:
    """Make the running bridge read `file`; blocks until it forwards there, at most ten seconds, else StatehubError."""
    wanted = {name: str(ends.target) for name, ends in read_tunnels(file).items()}
    try:
        os.kill(_status(status_file)["pid"], signal.SIGHUP)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StatehubError(
            code="bridge-not-running",
            what=f"no bridge answers for {file}: {error}",
            hint="start it with `python -m statehub_plan.demo.tunnel serve`",
        ) from error
    deadline = time.monotonic() + _RELOAD_TIMEOUT_S
    while _status(status_file).get("tunnels") != wanted:
        if time.monotonic() > deadline:
            raise StatehubError(
                code="bridge-not-reloaded",
                what=f"the bridge did not take the targets of {file} within {_RELOAD_TIMEOUT_S:.0f} s",
                hint="look at its log",
            )
        time.sleep(0.01)


def _status(status_file: Path) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(status_file.read_text(encoding="utf-8"))
    return status


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()  # which ends the other direction too


def main() -> int:
    """Serve until SIGTERM or SIGINT (or, with --with-owner, until the owner ends), or make a running bridge reload."""
    parser = argparse.ArgumentParser(prog="python -m statehub_plan.demo.tunnel", description="An ops-bridge stand-in.")
    parser.add_argument("act", choices=("serve", "reload"))
    parser.add_argument("file", type=Path, help="tunnels.yaml")
    parser.add_argument("--status", type=Path, required=True, help="where the bridge says what it forwards to")
    parser.add_argument("--with-owner", action="store_true", help="end when standard input closes")
    arguments = parser.parse_args()
    try:
        if arguments.act == "reload":
            reload(arguments.file, arguments.status)
            return 0
        if arguments.with_owner:
            end_with_owner()
        with suppress(asyncio.CancelledError):
            asyncio.run(Bridge(arguments.file, arguments.status).serve())
    except StatehubError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
