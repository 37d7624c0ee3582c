"""The command line: parse, wire, call, print, exit. No decisions. Commands are imported only when they are used."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import Any

import click

from statehub_plan import __version__
from statehub_plan.errors import Exit, StatehubError, refused_by_system

_COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("specs:init", "write a commented starter plan that validates"),
    "validate": ("specs:validate", "check plan documents; every problem at once, with its position"),
    "doctor": ("look:doctor", "check components, connections and privileges, with a remedy each"),
    "observe": ("look:observe", "look at the world and print every fact"),
    "compare": ("look:compare", "prove both endpoints' databases equal, or show where they differ"),
    "plan": ("plans:plan", "show what would be done, why, and what policies say"),
    "switchback": ("plans:switchback", "plan the way back: the same plan with the roles exchanged"),
    "abort": ("plans:abort", "plan to keep the present primary after an interrupted run"),
    "show": ("plans:show", "show a saved plan again"),
    "graph": ("plans:graph", "draw a saved plan as a Mermaid diagram"),
    "approve": ("gates:approve", "sign an approval of a gate with your SSH key"),
    "revoke": ("gates:revoke", "sign a revocation of an approval"),
    "approvals": ("gates:approvals", "show which gates are approved, by whom, until when"),
    "rehearse": ("runs:rehearse", "hold, drain, prove and release on the live system, with a receipt"),
    "apply": ("runs:apply", "carry a saved plan out, or go on with it"),
    "watch": ("runs:watch", "go on with a waiting run until it is done"),
    "guard": ("guarding:guard", "look after a fallback's slot once, before it fills the primary's disk"),
    "refresh": ("refreshing:refresh", "take tables made on both sides into the stream of a following fallback"),
    "backup": ("backups:backup", "take a backup with a checksummed manifest, or verify one"),
    "drill": ("drills:drill", "drill a restore or a failover and keep the proof; verify a restore's proof"),
    "status": ("status:status", "where every lane of a folder stands, from observed facts"),
    "history": ("runs:history", "print the journal after checking its hash chain"),
    "report": ("runs:report", "write one HTML page about a run"),
    "policy": ("policy:policy", "check, test and explain policies"),
    "demo": ("demo:demo", "move a real State Hub between two real clusters, and back"),
    "completion": ("shell:completion", "print the shell completion script"),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and summaries without importing them; `--help` stays instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which they are used."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None for a name that does not exist."""
        target = _COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target[0].partition(":")
        command: click.Command = getattr(import_module(f"statehub_plan.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and summaries, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


_EPILOG = (
    "Exit status: 0 done, 1 error, 2 changes pending (with -detailed-exitcode), 3 vetoed, 4 approval missing, "
    "5 stale plan, 6 locked, 7 outcome unknown, 8 waiting, 64 usage."
)


@click.group(cls=LazyGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="statehub-plan")
def cli() -> None:
    """Plan-as-code for moving the primary of a PostgreSQL-backed service without losing a row."""


def _completing(name: str) -> bool:
    return f"_{name.replace('-', '_').upper()}_COMPLETE" in os.environ


def _wants_json(arguments: list[str]) -> bool:
    return "--json" in arguments or "-json" in arguments


def run(arguments: list[str]) -> int:
    """The exit status of one invocation; everything that can go wrong is told on stderr, or as JSON where asked."""
    as_json = _wants_json(arguments)
    try:
        result = cli.main(args=arguments, prog_name="statehub-plan", standalone_mode=False)
        return result if isinstance(result, int) else Exit.DONE
    except click.exceptions.Exit as done:
        return done.exit_code
    except _NOTHING_SAID as problem:
        print(problem.format_message(), file=sys.stderr)
        return Exit.USAGE
    except click.ClickException as problem:
        return _tell(_of_click(problem), as_json)
    except StatehubError as error:
        return _tell(error, as_json)
    except (KeyboardInterrupt, click.Abort):
        return _tell(_INTERRUPTED, as_json)
    except BrokenPipeError:
        return Exit.ERROR
    except OSError as problem:
        return _tell(_of_system(problem), as_json)


_NOTHING_SAID: tuple[type[click.ClickException], ...] = tuple(
    filter(None, [getattr(click.exceptions, "NoArgsIsHelpError", None)])  # click 8.2; before, help is a result
)


def _of_system(problem: OSError) -> StatehubError:
    """What the system has refused; where libraries print by themselves, that may be the result."""
    from statehub_plan.cli.output import stdout_refused

    try:
        sys.stdout.flush()
    except OSError as unwritable:
        return stdout_refused(unwritable)
    return refused_by_system(problem, "the system refused")


def _of_click(problem: click.ClickException) -> StatehubError:
    """What click has to say, in our own words and with our own exit status."""
    usage = isinstance(problem, click.UsageError)
    context = getattr(problem, "ctx", None)
    path = context.command_path if context is not None else "statehub-plan"
    return StatehubError(
        code="usage" if usage else "unusable",
        what=problem.format_message(),
        hint=f"`{path} --help` says what it takes",
        exit_status=Exit.USAGE if usage else Exit.ERROR,
        details=(context.get_usage(),) if context is not None else (),
    )


_INTERRUPTED = StatehubError(
    code="interrupted", what="interrupted", hint="nothing is left half done without a record: `history` prints it"
)


def _tell(error: StatehubError, as_json: bool) -> int:
    from statehub_plan.cli.output import print_error

    print_error(error, as_json=as_json)
    return error.exit_status


def main() -> Any:
    """Entry point of the installed command. The only place where everything is caught."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # what its encoding lacks (an arrow in Latin-1) ends no command
        sys.stdout.reconfigure(errors="backslashreplace")
    if not _standard_streams():
        sys.exit(_tell(_STDOUT_CLOSED, as_json=False))
    try:
        status = run(sys.argv[1:])
    except Exception as defect:  # noqa: BLE001 the one place: a defect must not print secrets
        status = tell_defect(defect, sys.argv[1:])
    sys.exit(_flushed(int(status)))


_STDOUT_CLOSED = StatehubError(
    code="stdout-closed",
    what="stdout is closed, so that nobody would get the result; nothing was done",
    hint="leave it open, or send it to a file or to /dev/null",
)


def _standard_streams() -> bool:
    """Whether stdout is open. The next files to be opened would take the place of those of the three that are closed,
    and get what is printed, by this process or by a child: /dev/null takes it first."""
    closed = [descriptor for descriptor in range(3) if not _is_open(descriptor)]
    for _ in closed:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # always the lowest number that is free
    if 2 in closed:
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False))
    return 1 not in closed


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _flushed(status: int) -> int:
    """The status once everything that was printed is out; that of an error in place of a success that nobody reads."""
    try:
        sys.stdout.flush()
        return status
    except OSError as problem:
        # What is left in the buffer would be tried again at the interpreter's end, which complains once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if status not in (Exit.DONE, Exit.CHANGES_PENDING):
            return status  # its error is told already, by stderr too
        if not isinstance(problem, BrokenPipeError):
            from statehub_plan.cli.output import stdout_refused

            _tell(stdout_refused(problem), as_json=False)
        return Exit.ERROR


def tell_defect(defect: Exception, arguments: list[str]) -> int:
    """A traceback, redacted: it may hold connection strings."""
    import traceback

    from statehub_plan.redact import redact

    print(redact("".join(traceback.format_exception(defect))), file=sys.stderr, end="")
    told = StatehubError(
        code="defect", what=f"{type(defect).__name__}: {defect}", hint="please report it with the lines above"
    )
    return _tell(told, _wants_json(arguments))
