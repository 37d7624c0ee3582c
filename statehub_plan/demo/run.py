"""The demo's story: every command as a person would type it, each a real process, while a client keeps writing."""

from __future__ import annotations

import ctypes
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from statehub_plan.demo.equality import equality
from statehub_plan.demo.ledger import read_ledger
from statehub_plan.demo.table import CommandRun, Leg, Outcome, print_table
from statehub_plan.demo.world import APPROVER, SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit, StatehubError

GATE = "CUST-WP-0011-T07"
_PLAN = "plans/cust-wp-0011.yaml"
_MOVED_WITHIN_S = 20.0
_STOP_TIMEOUT_S = 20.0
_MOST_WATCHES = 20
_PR_SET_PDEATHSIG = 1
_ENDING = (signal.SIGTERM, signal.SIGINT)
_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec nothing should be


def look() -> tuple[tuple[str, ...], ...]:
    """Commands that change nothing."""
    return ("validate", _PLAN), ("observe", _PLAN)


def move(making: str, file: str, reason: str) -> tuple[tuple[str, ...], ...]:
    """Commands that move the primary: `making` is `plan` or `switchback`."""
    return (
        (making, _PLAN, "-out", file),
        ("approve", file, "--gate", GATE, "--key", "keys/approver", "--as", APPROVER, "--reason", reason, "--yes"),
        ("apply", file),
    )


def go_on(file: str) -> tuple[str, ...]:
    """The command that goes on with a run that waits."""
    return ("watch", file)


STATUS = ("status", "plans")


def run_demo(
    *, json_output: bool = False, keep: bool = False, rows: int = 200_000, rate: float = 40.0, stabilization: str = "3s"
) -> int:
    """Tell the story; 0 when both moves lost nothing, doubled nothing and left equal content, else 1.

    About half a minute. Commands and their output go to stdout, or to stderr where `json_output` has stdout hold the
    one JSON object. `keep` leaves everything up afterwards until Ctrl-C. Main thread only: it takes SIGTERM.
    """
    told = sys.stderr if json_output else sys.stdout
    with ended_in_order():
        say(told, f"Two PostgreSQL clusters, two State Hubs, {rows:,} rows, a client that keeps writing …")
        with DemoWorld(rows=rows, rate=rate, stabilization=stabilization) as world:
            story = Story(world, told)
            outcome = story.tell(rows)
            if json_output:
                print(json.dumps(outcome.as_json(), indent=2), flush=True)
            else:
                print_table(outcome, told)
            if keep:
                stay(world, told)
    return Exit.DONE if outcome.good else Exit.ERROR


class Story:
    """Runs the commands, and judges each move by the client's ledger and the databases themselves."""

    def __init__(self, world: DemoWorld, told: IO[str]) -> None:
        self._world = world
        self._told = told
        self._runs: list[CommandRun] = []

    def tell(self, rows: int) -> Outcome:
        """Everything up to the last judgement; a failure ends it early and is told in the outcome."""
        cutover = switchback = failure = None
        try:
            self._world.start_client()
            self._all(look())
            cutover = self._leg("plan", "cutover.plan", SOURCE, TARGET)
            self._all((STATUS,))
            if cutover.good:
                switchback = self._leg("switchback", "switchback.plan", TARGET, SOURCE)
                self._all((STATUS,))
            if self._world.stop_client():
                failure = f"the client could not finish: {(self._world.directory / 'logs' / 'client.log').read_text()}"
        except StatehubError as error:
            failure = str(error)
        return Outcome(rows=rows, steps=tuple(self._runs), cutover=cutover, switchback=switchback, failure=failure)

    def _leg(self, making: str, file: str, old: str, new: str) -> Leg:
        *before, apply = move(making, file, f"move the primary from {old} to {new}")
        self._all(tuple(before))
        status = self._run(apply, Exit.DONE, Exit.WAITING)
        for _ in range(_MOST_WATCHES):
            if status != Exit.WAITING:
                break
            status = self._run(go_on(file), Exit.DONE, Exit.WAITING)
        if status != Exit.DONE:
            raise _failed(f"{file} still waits", "see what `statehub-plan status plans` says about stabilization")
        return self._judge(old, new)

    def _judge(self, old: str, new: str) -> Leg:
        primary = self._answering(new)
        content = equality(self._world.sites[old], self._world.sites[new])
        return Leg(old=old, new=new, primary=primary, ledger=self._world.verify(new), content=content)

    def _answering(self, expected: str) -> str | None:
        """Who acknowledged the client's newest write; waits a while for the expected one."""
        deadline = time.monotonic() + _MOVED_WITHIN_S
        while True:
            acknowledged = read_ledger(self._world.ledger_file).acknowledged
            last = acknowledged[-1].server if acknowledged else None
            if last == expected or time.monotonic() > deadline:
                return last
            time.sleep(0.1)

    def _all(self, commands: tuple[tuple[str, ...], ...]) -> None:
        for command in commands:
            self._run(command, Exit.DONE)

    def _run(self, arguments: tuple[str, ...], *accepted: int) -> int:
        shown = f"statehub-plan {shlex.join(arguments)}"
        say(self._told, f"\n$ {shown}")
        began = time.monotonic()
        # What a handler raises in one of Python's hooks around fork is ignored: nothing is delivered there.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            process = subprocess.Popen(
                self._world.command(*arguments),
                stdin=subprocess.DEVNULL,
                stdout=self._told,
                env=self._world.command_env,
                cwd=self._world.directory,
                preexec_fn=_end_with_this_thread,
            )
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise
        status = _wait(process, before)
        elapsed_s = round(time.monotonic() - began, 2)
        self._runs.append(CommandRun(command=shown, exit_status=status, elapsed_s=elapsed_s))
        if status not in accepted:
            raise _failed(f"`{shown}` ended with status {status}", "see its output above")
        return status


def say(stream: IO[str], text: str) -> None:
    """One line, at once: the next process writes to the same place."""
    print(text, file=stream, flush=True)


def _wait(process: subprocess.Popen[bytes], mask: Iterable[int]) -> int:
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return process.wait()
    finally:
        if process.poll() is None:  # interrupted; in a terminal the command has had its own Ctrl-C
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _end_with_this_thread() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def _failed(what: str, hint: str) -> StatehubError:
    return StatehubError(code="demo-failed", what=what, hint=hint)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """SIGTERM unwinds the stack like Ctrl-C does; once that has begun, neither can interrupt it."""

    def end(number: int, _: FrameType | None) -> NoReturn:
        for each in _ENDING:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    previous = {number: signal.signal(number, end) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def stay(world: DemoWorld, told: IO[str]) -> None:
    """Everything stays up, with the client writing, until Ctrl-C."""
    world.start_client()
    exports = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH\n"
    exports += "".join(f"export {name}={shlex.quote(value)}\n" for name, value in world.env.items())
    say(told, f"\nStill up until Ctrl-C. To play in another terminal:\n\ncd {world.directory}\n{exports}")
    say(told, f"The hub: {world.bridge_url}/state/health. The approver's key: keys/approver, as {APPROVER}.")
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        return
