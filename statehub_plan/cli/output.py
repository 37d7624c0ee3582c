"""Results to stdout, everything else to stderr; all of it redacted, coloured only on a terminal."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from contextlib import suppress
from typing import IO, Any

from pydantic import BaseModel, JsonValue

from statehub_plan.errors import StatehubError, refused_by_system
from statehub_plan.model.output import ErrorOutput, FailureOutput
from statehub_plan.model.plan import Step
from statehub_plan.redact import redact, redact_json
from statehub_plan.render.words import harmless, plain


def print_json(value: BaseModel | JsonValue | dict[str, Any]) -> None:
    """One JSON document on stdout, redacted, keys sorted; as ASCII escapes, whatever a terminal would obey."""
    bare = value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value
    text = json.dumps(redact_json(bare), indent=2, sort_keys=True, ensure_ascii=False)
    _put("".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text) + "\n")


def print_text(text: str) -> None:
    """Plain text on stdout, redacted; what a terminal would obey is escaped."""
    _put(harmless(redact(text)) + ("" if text.endswith("\n") else "\n"))


def print_note(text: str) -> None:
    """Plain text on stderr, as `print_text` does it."""
    print(harmless(redact(text)), end="" if text.endswith("\n") else "\n", file=sys.stderr)


def _put(text: str) -> None:
    try:
        sys.stdout.write(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise stdout_refused(error) from error


def stdout_refused(error: OSError) -> StatehubError:
    """What a command came to could not be told; whatever it did is done."""
    return refused_by_system(error, "the result could not be written to stdout")


def colored(stream: IO[str]) -> bool:
    """True when a person looks at this stream and did not ask for plain text (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_rich(renderable: Any) -> None:
    """A rich renderable on stdout: styled on a terminal, plain text elsewhere."""
    from rich.console import Console

    color = colored(sys.stdout)
    width = None if sys.stdout.isatty() else 140
    drawn = io.StringIO()
    console = Console(
        file=drawn, no_color=not color, force_terminal=color or None, highlight=False, width=width, soft_wrap=False
    )
    console.print(renderable)
    _put("".join(f"{line.rstrip()}\n" for line in redact(drawn.getvalue()).splitlines()))


def error_output(error: StatehubError) -> ErrorOutput:
    """An error as it is printed where JSON was asked for."""
    return ErrorOutput(
        code=error.code,
        what=error.what,
        details=error.details,
        remedy=error.hint,
        exit_status=int(error.exit_status),
    )


def print_error(error: StatehubError, *, as_json: bool) -> None:
    """What happened, every detail, the remedy; as one JSON object on stdout where JSON was asked for. That stdout takes
    nothing is told, and no reason to stay silent about the error itself."""
    refusal = None
    if as_json:
        try:
            print_json(FailureOutput(error=error_output(error)))
            sys.stdout.flush()
        except BrokenPipeError:
            pass  # who read it has gone
        except OSError as problem:
            refusal = stdout_refused(problem)
        except StatehubError as problem:
            refusal = problem
    for each in (error, refusal) if refusal is not None and refusal.what != error.what else (error,):
        print_note(f"statehub-plan: {each.code}: {_one_line_each(each)}")


def _one_line_each(error: StatehubError) -> StatehubError:
    """The same with nothing in it that begins a line by itself, such as a file's name."""
    return StatehubError(
        code=error.code, what=plain(error.what), hint=plain(error.hint), details=tuple(map(plain, error.details))
    )


class TerminalReporter:
    """Progress of a run on stderr: one line a step, a moving line for long ones where a person looks."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._tty = sys.stderr.isatty()
        self._started_at = self._told_at = time.monotonic()
        self._label = ""
        self._moving = False

    def _say(self, text: str, end: str = "\n") -> None:
        if self._quiet:
            return
        try:
            print(harmless(redact(text)), file=sys.stderr, end=end, flush=True)
        except OSError:  # the terminal went away or the log's disk is full: no reason to end a move in the middle
            self._quiet = True

    def clear(self) -> None:
        """Takes the moving line away, if there is one."""
        if self._moving:
            with suppress(OSError):
                print("\r\x1b[K", file=sys.stderr, end="", flush=True)
            self._moving = False

    def step_started(self, step: Step, index: int, total: int) -> None:
        """One line: where we are and what is done now."""
        self._started_at = self._told_at = time.monotonic()
        self._say(f"[{index}/{total}] {step.title}")

    def step_ended(self, step: Step, outcome: str, elapsed_s: float) -> None:
        """How it ended and how long it took."""
        self.clear()
        self._say(f"      {outcome} ({elapsed_s:.2f} s)")

    def progress(self, label: str, done: float, total: float | None, unit: str) -> None:
        """At most ten times a second on a terminal, every five seconds elsewhere."""
        now = time.monotonic()
        if label != self._label:  # a phase of its own has a rate of its own
            self._label, self._started_at = label, now
        if now - self._told_at < (0.1 if self._tty else 5.0):
            return
        self._told_at = now
        line = f"      {label}: {progress_text(done, total, unit, now - self._started_at)}"
        if self._tty:
            self.clear()
            self._say(line[:118], end="")
            self._moving = True
        else:
            self._say(line)

    def switching(self, step: Step) -> None:
        """Nothing is printed while writers wait."""

    def note(self, text: str) -> None:
        """One line worth reading now."""
        self.clear()
        self._say(f"      {text}")


def progress_text(done: float, total: float | None, unit: str, elapsed_s: float) -> str:
    """`12.3 of 40.0 MB, 6.1 MB/s, 5 s left`; without a total only what is done and the rate; of a wait its length."""
    if unit == "s":
        return f"{done:.0f} s"
    rate = done / elapsed_s if elapsed_s > 0 else 0.0
    large = unit == "bytes" and max(done, total or 0) >= 1e6
    scale, name = (1e6, "MB") if large else (1e3, "kB") if unit == "bytes" else (1.0, unit)
    if not total:
        return f"{done / scale:.1f} {name}, {rate / scale:.1f} {name}/s"
    left = f", {(total - done) / rate:.0f} s left" if rate > 0 and total >= done else ""
    return f"{done / scale:.1f} of {total / scale:.1f} {name}, {rate / scale:.1f} {name}/s{left}"
