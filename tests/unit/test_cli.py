"""The command line's own manners: statuses of wrong usage, errors as JSON, signals, progress, what is imported when."""

from __future__ import annotations

import io
import json
import os
import pwd
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest

from statehub_plan import cli
from statehub_plan.cli import workspace
from statehub_plan.cli.leased import appending, leased
from statehub_plan.cli.output import TerminalReporter, progress_text
from statehub_plan.cli.runs import ended_in_order
from statehub_plan.cli.workspace import Workspace, save_plan
from statehub_plan.errors import Exit, LeaveNow, StatehubError
from statehub_plan.model.record import RecordKind
from statehub_plan.postgres.transaction import StandbySilent
from statehub_plan.spec import starter
from tests.unit.facts import NOW, document, plan

WITHOUT_JSON = {"init", "graph", "report", "completion"}
"""What they print or write is in a format of its own."""

STEP = plan(doc=document(transfer={"method": "dump", "targetContent": "replace"})).steps[0]


def run(*arguments: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of one command."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = cli.run(list(arguments))
    return int(status), out.getvalue(), err.getvalue()


def commands(group: click.Group = cli.cli, path: str = "") -> dict[str, click.Command]:
    """Every command by its full name, those of subgroups included."""
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= commands(command, f"{path}{name} ")
        else:
            found[path + name] = command
    return found


# Usage


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nope",),
        ("--frob",),
        ("plan",),
        ("plan", "a.yaml", "b.yaml"),
        ("plan", "a.yaml", "--force"),
        ("plan", "a.yaml", "-out"),
        ("apply", "a.plan", "--yes"),
        ("apply", "a.plan", "--target", "hold"),
        ("approve", "a.plan"),
        ("policy",),
        ("policy", "nope"),
        ("drill",),
        ("status", "plans", "--format", "pdf"),
        ("demo", "--rows", "many"),
        ("completion", "tcsh"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_64(arguments: tuple[str, ...]) -> None:
    """EX_USAGE of sysexits.h, so that a script can tell a typo from a refusal; nothing on stdout."""
    status, out, err = run(*arguments)
    assert (Exit.USAGE, "") == (status, out)
    assert "sage: " in err


def test_wrong_usage_is_json_where_json_was_asked_for() -> None:
    """One object on stdout, in either spelling of the option, the same as for every other error."""
    for spelling in ("--json", "-json"):
        status, out, _ = run("plan", spelling)
        error = json.loads(out)["error"]
        assert (64, 64, "usage") == (status, error["exit_status"], error["code"])
        assert "DOCUMENT" in error["what"]


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_explains_itself(name: str) -> None:
    """`--help` and `-h` end with 0 and say what the command is for."""
    for option in ("--help", "-h"):
        status, out, _ = run(*name.split(), option)
        assert (Exit.DONE, True) == (status, out.startswith(f"Usage: statehub-plan {name}"))


def test_every_command_that_tells_something_tells_it_as_json_too() -> None:
    """In both spellings."""
    for name, command in commands().items():
        spellings = {each for parameter in command.params for each in parameter.opts}
        assert (name in WITHOUT_JSON) != ({"-json", "--json"} <= spellings), name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_that_shell(shell: str) -> None:
    """It asks the tool itself, by the variable that click answers to."""
    status, out, _ = run("completion", shell)
    assert (Exit.DONE, True) == (status, f"_STATEHUB_PLAN_COMPLETE={shell}_complete" in out)


def test_help_imports_nothing_heavy() -> None:
    """What makes it instant."""
    code = "import sys; from statehub_plan import cli; cli.run(['--help']); print(*sys.modules, file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set() == {"pydantic", "psycopg", "yaml", "rich", "jsonschema", "requests"} & set(found.stderr.split())


# Errors


def test_a_file_that_is_not_there_is_an_error_with_a_remedy() -> None:
    """Not a traceback, whatever reads it; on stderr for people, on stdout for programs."""
    for command in (("show",), ("apply",), ("graph",), ("approvals",), ("policy", "check")):
        status, out, err = run(*command, "no-such.plan")
        assert (Exit.ERROR, "") == (status, out)
        assert "no-such.plan" in err
        assert "remedy: " in err
    status, out, _ = run("show", "no-such.plan", "--json")
    assert (1, "plan-unreadable") == (status, json.loads(out)["error"]["code"])


def test_a_directory_in_place_of_a_file_is_told_by_what_the_system_says(tmp_path: Path) -> None:
    """Reading, and writing."""
    assert Exit.ERROR == run("show", str(tmp_path))[0]
    assert Exit.ERROR == run("plan", str(tmp_path))[0]
    status, _, err = run("init", "my-move", "-out", str(tmp_path))
    assert (Exit.ERROR, True) == (status, str(tmp_path) in err)


def test_a_defect_is_told_without_secrets_and_ends_with_one() -> None:
    """The traceback goes through the redactor, and so does the JSON."""
    out, err = io.StringIO(), io.StringIO()
    defect = RuntimeError("postgresql://somebody:hunter2@host/db does not parse")
    with redirect_stdout(out), redirect_stderr(err):
        status = cli.tell_defect(defect, ["plan", "--json"])
    assert (1, "defect") == (status, json.loads(out.getvalue())["error"]["code"])
    assert "RuntimeError" in err.getvalue()
    assert "hunter2" not in out.getvalue() + err.getvalue()


@pytest.mark.parametrize("redirection", [">&-", "> /dev/full"])
@pytest.mark.parametrize("arguments", ["status plans", "status plans --json", "show nowhere --json"])
def test_a_result_that_nobody_can_get_is_an_error(redirection: str, arguments: str, tmp_path: Path) -> None:
    """stdout is closed, or its disk is full: one line on stderr says so, besides what went wrong anyway, and the status
    is that of an error; no traceback, and nothing that looks like success."""
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "my-move.yaml").write_text(starter("my-move"))
    ended = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m statehub_plan {arguments} {redirection}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert Exit.ERROR == ended.returncode
    told = [line for line in ended.stderr.splitlines() if not line.startswith(" ")]
    assert [line for line in told if "stdout" in line] == told[-1:]
    assert {"statehub-plan"} == {line.partition(":")[0] for line in told}


def test_what_is_opened_never_takes_the_place_of_a_closed_stream() -> None:
    """With stdin and stderr closed, the next files would be those, and get what is printed: a journal, for example."""
    script = (
        "import os, sys; from statehub_plan import cli; sys.argv = ['statehub-plan', '--version']; "
        "exit = sys.exit; sys.exit = lambda status: print(os.open('/dev/null', os.O_RDONLY) > 2, status); cli.main()"
    )
    ended = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" <&- 2>&-', sys.executable, script],
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert "True 0" == ended.stdout.splitlines()[-1]


EVIL = "e\x1b[31mvil\n\u202e\x9b.yaml"


def test_the_name_of_a_file_is_told_and_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document, a plan, a folder may be called anything: a screen gets no control character of it, nor a new line;
    what reads JSON gets the name as it is."""
    monkeypatch.chdir(tmp_path)
    told = [run("init", "my-move", "--out", EVIL)]
    for command in (("validate", EVIL), ("validate", f"no{EVIL}"), ("show", f"no{EVIL}"), ("history", f"no{EVIL}")):
        told += [run(*command), run(*command, "--json")]
    for _, out, err in told:
        assert all(sign.isprintable() or sign == "\n" for sign in out + err)
        if not out.startswith("{"):
            assert "e\\u{1b}[31mvil \\u{202e}\\u{9b}.yaml" in out + err
    assert EVIL == json.loads(told[2][1])["documents"][0]["path"]


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_ends_a_run_in_order_and_only_the_third_ends_that(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    """The second says what is going on; afterwards everything is as it was before."""
    before = signal.getsignal(number)
    with ended_in_order():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert "ending in order" in capfd.readouterr().err
        with pytest.raises(LeaveNow):
            os.kill(os.getpid(), number)
    assert before == signal.getsignal(number)


def test_a_signal_that_is_ignored_on_purpose_stays_ignored() -> None:
    """`nohup` is meant."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_in_order():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


# Progress


def test_progress_that_nobody_can_read_does_not_end_a_run() -> None:
    """The terminal is gone, or the log's disk is full."""
    full = open("/dev/full", "w")  # noqa: SIM115  # closing it complains once more
    with redirect_stderr(full):
        reporter = TerminalReporter()
        reporter.step_started(STEP, 1, 2)
        reporter.note("still going")
        reporter.progress("copy", 1, 2, "rows")
        reporter.step_ended(STEP, "done", 1.0)
    with pytest.raises(OSError, match="No space left"):
        full.close()


def test_what_is_not_a_terminal_gets_plain_lines() -> None:
    """No escape sequences in a log; passwords never."""
    said = io.StringIO()
    with redirect_stderr(said):
        TerminalReporter().note("connecting to postgresql://u:hunter2@h/db")
        TerminalReporter(quiet=True).note("not this")
    assert "      connecting to postgresql://u:***@h/db\n" == said.getvalue()


@pytest.mark.parametrize(
    ("done", "total", "unit", "elapsed_s", "text"),
    [
        (12.3e6, 40e6, "bytes", 2.0, "12.3 of 40.0 MB, 6.2 MB/s, 5 s left"),
        (10, None, "rows", 5.0, "10.0 rows, 2.0 rows/s"),
        (0, 100, "rows", 0.0, "0.0 of 100.0 rows, 0.0 rows/s"),
        (2_000, 8_192, "bytes", 1.0, "2.0 of 8.2 kB, 2.0 kB/s, 3 s left"),
        (50, 0, "s", 50.0, "50 s"),
        (120, 100, "rows", 1.0, "120.0 of 100.0 rows, 120.0 rows/s"),
    ],
)
def test_progress_says_rate_and_time_left(
    done: float, total: float | None, unit: str, elapsed_s: float, text: str
) -> None:
    """As far as they can be known; an estimate that was too low is no reason for negative time."""
    assert text == progress_text(done, total, unit, elapsed_s)


def test_an_encoding_that_lacks_an_arrow_ends_no_command(tmp_path: Path) -> None:
    """A terminal of another century gets an escape instead."""
    file = tmp_path / "move.plan"
    save_plan(plan(doc=document(transfer={"method": "dump", "targetContent": "replace"})), file)
    command = [sys.executable, "-m", "statehub_plan", "show", str(file)]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (Exit.DONE, True) == (found.returncode, "\\u2192" in found.stdout), found.stderr


# Who plans and applies


def test_an_author_is_named_on_a_machine_that_knows_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git does not answer, as with a home on a drive that is away, and the user id has no entry, as in a container."""
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\nexec sleep 30\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(workspace, "_GIT_TIMEOUT_S", 0.2)
    for name in ("STATEHUB_PLAN_AUTHOR", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert f"{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}" == workspace.author()
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    assert f"uid-3999999999@{socket.gethostname()}" == workspace.author()


# The lease, and what is put on record under it


def test_a_record_that_no_standby_confirms_is_a_note_for_guard_as_for_runs() -> None:
    """The slot goes before the disk does, also where the journal's standby is silent; and a lease that cannot be given
    back hides no other error."""
    notes: list[str] = []

    def silent(*_: object, **__: object) -> None:
        raise StandbySilent("a record of the journal")

    def unreachable(_lease: object) -> None:
        raise StatehubError(code="journal-unreachable", what="nobody answers", hint="")

    journal = SimpleNamespace(append=silent, acquire=lambda *_, **__: "a lease", release=unreachable)
    spec = SimpleNamespace(metadata=SimpleNamespace(name="move"), spec=SimpleNamespace(endpoints={}))
    there = cast(Any, SimpleNamespace(journal=journal, service="hub", document=spec))
    reporter = cast(Any, SimpleNamespace(note=notes.append))
    moving = cast(Any, SimpleNamespace(spec=spec))
    with suppress(ZeroDivisionError), leased(there, moving, reporter) as lease:
        appending(there, "r", lease, reporter)(RecordKind.FACT, None, {})
        raise ZeroDivisionError
    assert 2 == len(notes)
    assert "no synchronous standby has confirmed" in notes[0]
    assert "that the lease is free is not on record" in notes[1]


# What a probe looks at


@pytest.mark.parametrize(
    ("url", "base_url", "about"),
    [
        ("http://hub/health", "http://hub", True),
        ("http://hub", "http://hub/", True),
        ("http://HUB:80/health?deep=1", "http://hub", True),
        ("https://hub:443/", "https://hub", True),
        ("http://hub/api?all=1", "http://hub/api/", True),
        ("http://hub-old/health", "http://hub", False),
        ("http://h:8010/health", "http://h:80", False),
        ("http://hub:8000/health", "http://hub", False),
        ("https://hub/health", "http://hub", False),
        ("http://hub/api-old/health", "http://hub/api", False),
        ("http://hub/", "http://hub/api", False),
        ("http://hub:none/", "http://hub", False),
    ],
)
def test_a_probe_looks_at_the_api_that_its_address_leads_to(url: str, base_url: str, about: bool) -> None:
    """Not at one whose address merely begins with the same letters: a probe of the target that fails while that is
    refilled may stand on the record, one of the source never."""
    home = {"title": "Home", "database": {"dsn": {"env": "HOME_DSN"}}, "appRoles": ["app"]}
    away = {**home, "database": {"dsn": {"env": "AWAY_DSN"}}, "api": {"baseUrl": base_url}}
    probe = {"kind": "http", "name": "health", "url": url}
    spec = document(endpoints={"home": home, "away": away}, tasks=[{"id": "T01", "title": "Health", "probes": [probe]}])
    assert about is workspace._looks_at(spec, spec.spec.tasks[0].probes[0], "away")


# The folder that things are kept in


def test_the_default_journal_makes_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the document, for nobody else's eyes; only when something is to be recorded."""
    for name in ("STATEHUB_PLAN_HOME", "STATEHUB_PLAN_JOURNAL"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / ".statehub-plan"
    with Workspace(document(), tmp_path / "move.yaml", "sha256:0") as workspace:
        assert ((), False) == (workspace.records(), home.exists())
        assert str(home) in workspace.journal.location
    assert 0o700 == stat.S_IMODE(home.stat().st_mode)


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A document whose service has two records in a journal beside it."""
    for name in ("STATEHUB_PLAN_HOME", "STATEHUB_PLAN_JOURNAL"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "hub.yaml"
    file.write_text(starter("hub"))
    with Workspace.load(file) as opened:
        for number in range(2):
            opened.journal.append(
                None,
                service=opened.service,
                plan_name="hub",
                run="",
                kind=RecordKind.FACT,
                step=None,
                payload={"kind": "test", "state": str(number)},
                at=NOW,
            )
    return file


def emptied(document: Path) -> None:
    """The journal without its records, as somebody would leave it who can write the file."""
    with closing(sqlite3.connect(document.parent / ".statehub-plan" / "journal.db")) as db:
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute("DELETE FROM record")
        db.commit()


def test_a_journal_from_which_a_service_is_gone_is_not_called_whole(recorded: Path) -> None:
    """Nothing to show is no reason not to check: the head counts what is missing."""
    status, out, _ = run("history", str(recorded), "--json")
    assert (Exit.DONE, 2) == (status, json.loads(out)["checked"])
    emptied(recorded)
    status, out, _ = run("history", str(recorded), "--json")
    assert (Exit.ERROR, "journal-tampered") == (status, json.loads(out)["error"]["code"])
    _, out, _ = run("doctor", str(recorded), "--json")
    check = next(one for one in json.loads(out)["checks"] if one["id"] == "journal")
    assert (False, True) == (check["ok"], "the head counts 2 records" in check["what"])


def test_what_was_never_recorded_is_nothing_on_record(recorded: Path) -> None:
    """Of another service, and where there is no journal at all, which asking does not make."""
    recorded.write_text(recorded.read_text().replace('service: "hub"', 'service: "other"', 1))
    status, out, _ = run("history", str(recorded))
    assert (Exit.DONE, "nothing is on record (2 records checked)\n") == (status, out)
    alone = recorded.parent / "alone" / "hub.yaml"
    alone.parent.mkdir()
    alone.write_text(starter("hub"))
    assert (Exit.DONE, "nothing is on record (0 records checked)\n") == run("history", str(alone))[:2]
    assert [alone] == list(alone.parent.iterdir())


def test_a_document_is_not_taken_for_a_plan_that_was_tampered_with(tmp_path: Path) -> None:
    """Whoever applies a document has missed a step, which is named; nobody has changed anything."""
    path = tmp_path / "move.yaml"
    path.write_text("# the move\napiVersion: statehub-plan/v1\nkind: CutoverPlan\n")
    status, _, err = run("apply", str(path))
    assert (Exit.ERROR, True) == (status, "plan-is-document" in err)
    assert f"plan {path} -out FILE" in " ".join(err.split())
