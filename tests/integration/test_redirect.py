"""Redirecting access paths on a real file system and with real commands: atomic, idempotent, or nothing at all."""

from __future__ import annotations

import fcntl
import json
import os
import random
import resource
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from statehub_plan.access import AccessChange, endpoint_of, read_access, redirect, textfile, try_redirect
from statehub_plan.errors import OutcomeUnknown, Refusal, StatehubError
from statehub_plan.model.spec import AccessPath, BridgeAccess, CommandAccess, EnvFileAccess, JsonPointerAccess

OLD, NEW = "http://127.0.0.1:8000", "http://10.43.0.7:8000"
VALUES = {"wsl2": OLD, "railiance01": NEW}
NOBODY = 65534


def _spec(**fields: Any) -> dict[str, Any]:
    return {"name": "mcp", "values": VALUES} | fields


def _json_access(file: Path | str) -> JsonPointerAccess:
    return JsonPointerAccess.model_validate(_spec(kind="json-pointer", file=str(file), pointer="/env/API_BASE"))


def _env_access(file: Path | str) -> EnvFileAccess:
    return EnvFileAccess.model_validate(_spec(kind="env-file", file=str(file), variable="API_BASE"))


def _bridge_access(file: Path | str, *reload: str) -> BridgeAccess:
    return BridgeAccess.model_validate(_spec(kind="bridge", file=str(file), tunnel="hub", reload=reload))


def _command_access(get: list[str], set_: list[str], timeout: str = "10s") -> CommandAccess:
    return CommandAccess.model_validate(_spec(kind="command", get=get, set=set_, timeout=timeout))


def _config(directory: Path, value: str = OLD) -> Path:
    path = directory / "mcp.json"
    path.write_bytes(b'{ "env":\t{"API_BASE": "%s", "x": 1.0} }\r\n' % value.encode())
    return path


def _refused(access: AccessPath, base_dir: Path, endpoint: str = "railiance01") -> Refusal:
    """Why it is refused; a mere try says the very same."""
    with pytest.raises(Refusal) as tried:
        try_redirect(access, endpoint, base_dir)
    with pytest.raises(Refusal) as refused:
        redirect(access, endpoint, base_dir)
    assert refused.value.hint
    assert str(refused.value) == str(tried.value)
    return refused.value


def _state(directory: Path) -> dict[str, tuple[object, ...]]:
    """Every file there: which it is, whose, and what it says."""
    states = {path: path.stat() for path in directory.rglob("*") if path.is_file()}
    return {
        str(path): (one.st_ino, one.st_mtime_ns, one.st_ctime_ns, one.st_nlink, path.read_bytes())
        for path, one in states.items()
    }


def _executable(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


@contextmanager
def _unprivileged() -> Iterator[None]:
    """Permissions bind root only when it is not root."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory that an unprivileged user may search but not write."""
    for directory in (tmp_path, *tmp_path.parents[:3]):
        if directory.owner() != "root" or os.geteuid() == 0:
            directory.chmod(directory.stat().st_mode | 0o055)
    yield tmp_path
    tmp_path.chmod(0o755)


KINDS: list[tuple[Callable[[Path], AccessPath], str]] = [
    (_json_access, '\ufeff{\r\n  "env" : {"API_BASE" : "%s"} , "n":1.50}'),
    (_env_access, 'A=1\r\nexport API_BASE="%s" # clients\r\n#API_BASE=x'),
    (_bridge_access, "tunnels:\r\n  hub: {target: '%s', k: [1,  2]} # private\r\n"),
]


@pytest.mark.parametrize(("access_to", "text"), KINDS)
def test_a_file_goes_there_and_back_byte_for_byte(
    access_to: Callable[[Path], AccessPath], text: str, tmp_path: Path
) -> None:
    """Only the value changes; pointing it back leaves the very bytes there were; doing it twice changes nothing."""
    file = tmp_path / "config"
    before, after = ((text % value).encode() for value in (OLD, NEW))
    file.write_bytes(before)
    access = access_to(file)

    assert AccessChange(before=OLD, after=NEW) == redirect(access, "railiance01", tmp_path)
    assert after == file.read_bytes()
    written = file.stat()
    assert AccessChange(before=NEW, after=NEW) == redirect(access, "railiance01", tmp_path)
    assert (written.st_ino, written.st_mtime_ns) == (file.stat().st_ino, file.stat().st_mtime_ns)
    assert "railiance01" == endpoint_of(access, read_access(access, tmp_path))
    assert AccessChange(before=NEW, after=OLD) == redirect(access, "wsl2", tmp_path)
    assert before == file.read_bytes()
    assert [file] == list(tmp_path.iterdir())


@pytest.mark.parametrize("endpoint", sorted(VALUES))
@pytest.mark.parametrize(("access_to", "text"), KINDS)
def test_trying_changes_nothing(
    access_to: Callable[[Path], AccessPath], text: str, endpoint: str, tmp_path: Path
) -> None:
    """A file that can be redirected is not refused, stays the file it was, and nothing is left beside it; also where
    a killed one had left something."""
    file = tmp_path / "config"
    file.write_bytes((text % OLD).encode())
    before = _state(tmp_path)
    (tmp_path / ".config.statehub-plan~").write_text("left")
    try_redirect(access_to(file), endpoint, tmp_path)
    assert before == _state(tmp_path)


def test_trying_writes_also_what_is_right_already(tmp_path: Path) -> None:
    """Redirecting has nothing to do then, but nobody could go back."""
    file = _config(tmp_path)
    os.link(file, tmp_path / "other")
    assert AccessChange(before=OLD, after=OLD) == redirect(_json_access(file), "wsl2", tmp_path)
    with pytest.raises(Refusal, match="hard links"):
        try_redirect(_json_access(file), "wsl2", tmp_path)


def test_mode_owner_and_attributes_stay(tmp_path: Path) -> None:
    """A private file stays private and its owner's, extended attributes included."""
    file = _config(tmp_path)
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, NOBODY, NOBODY)
    os.setxattr(file, "user.note", b"mine")
    expected = file.stat()

    redirect(_json_access(file), "railiance01", tmp_path)

    found = file.stat()
    assert (expected.st_mode, expected.st_uid, expected.st_gid) == (found.st_mode, found.st_uid, found.st_gid)
    assert b"mine" == os.getxattr(file, "user.note")


def test_symbolic_links_stay_links(tmp_path: Path) -> None:
    """A file that a dotfile manager links to is changed where it really is; relative paths begin at the plan."""
    real_dir = tmp_path / "dotfiles"
    real_dir.mkdir()
    real = _config(real_dir)
    (tmp_path / "first").symlink_to("second")
    (tmp_path / "second").symlink_to("dotfiles/mcp.json")

    redirect(_json_access("first"), "railiance01", tmp_path)

    assert (tmp_path / "first").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert NEW == json.loads(real.read_text())["env"]["API_BASE"]


def test_a_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~/mcp.json` is the file of whoever runs the tool."""
    monkeypatch.setenv("HOME", str(tmp_path))
    _config(tmp_path)
    assert OLD == read_access(_json_access("~/mcp.json"), Path("/nonexistent"))


def test_a_value_that_nobody_planned_is_left_alone(tmp_path: Path) -> None:
    """Clients pointed at a third place by hand are not redirected: the refusal says where and what, without secrets."""
    file = _config(tmp_path, "http://user:hunter2@elsewhere")
    refusal = _refused(_json_access(file), tmp_path)
    assert "access-value-foreign" == refusal.code
    assert f"{file}:1:23" in refusal.what
    assert "hunter2" not in str(refusal)
    assert endpoint_of(_json_access(file), read_access(_json_access(file), tmp_path)) is None


def test_a_value_that_cannot_be_spelled_is_refused(tmp_path: Path) -> None:
    """Readers of environment files differ in how they take a blank without quotes."""
    file = tmp_path / "env"
    file.write_text("API_BASE=here\n")
    access = _env_access(file).model_copy(update={"values": {"wsl2": "here", "railiance01": "over there"}})
    assert "access-place-unusable" == _refused(access, tmp_path).code


def test_an_endpoint_without_a_value_is_refused(tmp_path: Path) -> None:
    """There is nothing to guess."""
    assert "access-value-missing" == _refused(_json_access(_config(tmp_path)), tmp_path, "elsewhere").code


@pytest.mark.parametrize(
    ("text", "what"),
    [('{"env": {}}', "1:9"), ('{"env": {"API_BASE": null}}', "1:22"), ('{"env": {"API_BASE": "a",}}', "1:26"),
     ('{"env": {"API_BASE": "a", "API_BASE": "b"}}', "1:27")],
)  # fmt: skip
def test_an_unusable_place_is_refused_with_its_position(text: str, what: str, tmp_path: Path) -> None:
    """The refusal names file, line and column, and the file is not written."""
    file = tmp_path / "mcp.json"
    file.write_text(text)
    refusal = _refused(_json_access(file), tmp_path)
    assert "access-place-unusable" == refusal.code
    assert f"{file}:{what}" in refusal.what
    assert text == file.read_text()


def test_every_line_of_a_duplicate_is_named(tmp_path: Path) -> None:
    """Whoever has to remove one of them is shown them all."""
    file = tmp_path / "env"
    file.write_text(f"API_BASE={OLD}\nB=1\nAPI_BASE={OLD}\n")
    refusal = _refused(_env_access(file), tmp_path)
    assert f"{file}:1:1" in refusal.what
    assert (f"also at {file}:3:1",) == refusal.details


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """Missing, a directory, a loop of links, a FIFO (without waiting for its writer), too large: refused."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(textfile.SIZE_CAP + 1)
    for name in ("missing", "directory", "loop", "fifo", "large"):
        assert "access-file-unreadable" == _refused(_json_access(name), tmp_path).code


def test_a_directory_that_cannot_be_written_is_refused(place: Path) -> None:
    """Without the right to write beside the file there is no atomic replacement, so there is none."""
    file = _config(place)
    expected = file.read_bytes()
    place.chmod(0o555)
    with _unprivileged():
        refusal = _refused(_json_access(file), place)
    assert "access-file-unwritable" == refusal.code
    assert expected == file.read_bytes()


def test_a_file_of_another_owner_is_refused(place: Path) -> None:
    """Replacing it would change its owner; only root can give a file away."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make a file of another owner; run the tests as root")
    file = _config(place)
    place.chmod(0o777)
    with _unprivileged():
        assert "access-file-unwritable" == _refused(_json_access(file), place).code
    assert [file] == list(place.iterdir())


def test_a_full_disk_leaves_the_old_content(tmp_path: Path) -> None:
    """The write fails in the temporary file; the real one was never touched."""
    file = _config(tmp_path)
    expected = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        refusal = _refused(_json_access(file), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "access-file-unwritable" == refusal.code
    assert expected == file.read_bytes()
    assert [file] == list(tmp_path.iterdir())


def test_a_hard_link_is_refused(tmp_path: Path) -> None:
    """The other name would keep the old value and nobody would know."""
    file = _config(tmp_path)
    os.link(file, tmp_path / "other")
    refusal = _refused(_json_access(file), tmp_path)
    assert ("hard links" in refusal.what, "-samefile" in refusal.hint) == (True, True)
    assert 2 == file.stat().st_nlink


@pytest.mark.parametrize("change", ["edited", "replaced"])
def test_a_change_by_somebody_else_is_detected(change: str, tmp_path: Path) -> None:
    """What was read is compared with what stands there right before the rename, so another's edit is not overwritten;
    another file with the same content is another file."""
    file = _config(tmp_path)
    snapshot = textfile.read(file)
    if change == "edited":
        file.write_text("theirs")
    else:
        (tmp_path / "theirs").write_bytes(file.read_bytes())
        (tmp_path / "theirs").rename(file)
    expected = file.read_bytes()
    with pytest.raises(Refusal) as refused:
        textfile.replace(snapshot, "mine")
    assert "access-file-changed" == refused.value.code
    assert expected == file.read_bytes()
    assert [file] == list(tmp_path.iterdir())


def test_two_at_the_same_time(tmp_path: Path) -> None:
    """Whoever comes second while a replacement goes on and on is refused instead of interleaving."""
    file = _config(tmp_path)
    temporary = tmp_path / ".mcp.json.statehub-plan~"
    with temporary.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "access-file-busy" == _refused(_json_access(file), tmp_path).code
    assert AccessChange(before=OLD, after=NEW) == redirect(_json_access(file), "railiance01", tmp_path)


@pytest.mark.parametrize("removed", [True, False])
def test_a_try_under_way_does_not_stop_a_redirection(removed: bool, tmp_path: Path) -> None:
    """`doctor` holds the temporary file for milliseconds: a redirection that is due then waits for its end."""
    file, temporary = _config(tmp_path), tmp_path / ".mcp.json.statehub-plan~"
    with temporary.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        def end() -> None:
            if removed:
                temporary.unlink()
            fcntl.flock(held, fcntl.LOCK_UN)

        ending = threading.Timer(0.1, end)
        ending.start()
        assert AccessChange(before=OLD, after=NEW) == redirect(_json_access(file), "railiance01", tmp_path)
        ending.join()
    assert [file] == list(tmp_path.iterdir())


def test_a_trap_in_place_of_the_temporary_file_is_refused(tmp_path: Path) -> None:
    """A link or a directory planted under the temporary name is neither followed nor removed."""
    file, victim = _config(tmp_path), tmp_path / "victim"
    victim.write_text("precious")
    temporary = tmp_path / ".mcp.json.statehub-plan~"
    temporary.symlink_to(victim)
    assert "access-file-unwritable" == _refused(_json_access(file), tmp_path).code
    temporary.unlink()
    os.link(victim, temporary)
    assert "access-file-unwritable" == _refused(_json_access(file), tmp_path).code
    assert "precious" == victim.read_text()


FLIP = textwrap.dedent(
    """
    import os, signal, sys, time
    from pathlib import Path
    from statehub_plan.access import redirect
    from statehub_plan.model.spec import JsonPointerAccess
    access = JsonPointerAccess.model_validate_json(sys.argv[1])
    for delay in sys.stdin:
        child = os.fork()
        while child == 0:
            for endpoint in ("railiance01", "wsl2"):
                redirect(access, endpoint, Path("/"))
        time.sleep(float(delay))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print("killed", flush=True)
    """
)


def test_a_kill_at_any_moment_leaves_old_or_new(tmp_path: Path) -> None:
    """SIGKILL at random moments: the file is whole, one of the two, and at most one temporary file is left, which no
    reader's pattern matches and the next redirection removes."""
    file = _config(tmp_path)
    whole = {_config(tmp_path, value).read_bytes() for value in VALUES.values()}
    access, chance = _json_access(file), random.Random(11)
    argv = [sys.executable, "-c", FLIP, access.model_dump_json(by_alias=True)]
    litter = tmp_path / ".mcp.json.statehub-plan~"
    littered = 0
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(200):
            process.stdin.write(f"{chance.uniform(0.001, 0.01)}\n")
            assert "killed\n" == process.stdout.readline()
            assert file.read_bytes() in whole
            assert set(tmp_path.iterdir()) <= {file, litter}
            littered += litter.exists()
            redirect(access, chance.choice(["wsl2", "railiance01"]), tmp_path)
            assert [file] == list(tmp_path.iterdir())
    assert littered, "no kill fell between writing and renaming: the test proves nothing"


def test_the_bridge_is_reloaded_every_time(tmp_path: Path) -> None:
    """An earlier run may have died between writing and reloading, so `reload` runs even when nothing has to change."""
    file = tmp_path / "tunnels.yaml"
    file.write_text(f"tunnels: {{hub: {{target: '{OLD}'}}}}\n")
    access = _bridge_access(file, "sh", "-c", "cat tunnels.yaml >> reloaded")
    for _ in range(2):
        redirect(access, "railiance01", tmp_path)
    assert file.read_text() * 2 == (tmp_path / "reloaded").read_text()


def test_a_failing_reload_is_an_error_that_says_what_is_done(tmp_path: Path) -> None:
    """The file is changed, the reload is not done, and running again repeats only the latter."""
    file = tmp_path / "tunnels.yaml"
    file.write_text(f"tunnels: {{hub: {{target: '{OLD}'}}}}\n")
    with pytest.raises(StatehubError) as failed:
        redirect(_bridge_access(file, "sh", "-c", "echo no bridge here >&2; exit 3"), "railiance01", tmp_path)
    assert "access-reload-failed" == failed.value.code
    assert "exit status 3: no bridge here" in failed.value.what
    assert NEW in file.read_text()


def test_a_reload_that_is_missing_shows_before_the_file_is_changed(tmp_path: Path) -> None:
    """Only whether it is there; trying does not run it."""
    file = tmp_path / "tunnels.yaml"
    file.write_text(f"tunnels: {{hub: {{target: '{OLD}'}}}}\n")
    before = _state(tmp_path)
    try_redirect(_bridge_access(file, "touch", "reloaded"), "railiance01", tmp_path)
    with pytest.raises(StatehubError) as missing:
        try_redirect(_bridge_access(file, "no-such-reload"), "railiance01", tmp_path)
    assert "command-missing" == missing.value.code
    assert before == _state(tmp_path)


def test_programs_are_looked_for_where_their_process_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a slash from the plan's folder, without one on PATH, whose relative folders begin there too."""
    _executable(tmp_path / "bin" / "set-by-path")
    (tmp_path / "bin" / "plain").write_text("")
    monkeypatch.setenv("PATH", f"bin:{os.environ['PATH']}")
    for program in ("bin/set-by-path", f"{tmp_path}/bin/set-by-path", "set-by-path"):
        try_redirect(_command_access(["echo", OLD], [program, "{value}"]), "railiance01", tmp_path)
    for program in ("./set-by-path", "bin/plain", "plain", "bin", "", "/nonexistent/set"):
        access = _command_access(["echo", OLD], [program, "{value}"])
        for attempt in (try_redirect, redirect):
            with pytest.raises(StatehubError) as missing:
                attempt(access, "railiance01", tmp_path)
            assert "command-missing" == missing.value.code, program


def test_a_pair_of_commands(tmp_path: Path) -> None:
    """`set` gets the value as one argument, without a shell; it does not run when `get` already answers it."""
    (tmp_path / "state").write_text(f"{OLD}\n")
    access = _command_access(["cat", "state"], ["sh", "-c", 'echo "$1" > state; echo run >> runs', "sh", "{value}"])
    try_redirect(access, "railiance01", tmp_path)
    assert f"{OLD}\n" == (tmp_path / "state").read_text()
    for _ in range(2):
        assert NEW == redirect(access, "railiance01", tmp_path).after
    assert f"{NEW}\n" == (tmp_path / "state").read_text()
    assert "run\n" == (tmp_path / "runs").read_text()


WRONG_FROM_THE_FIRST = [
    (["false"], ["true", "{value}"], "access-get-failed"),
    (["no-such-command"], ["true", "{value}"], "command-missing"),
    (["echo", "elsewhere"], ["true", "{value}"], "access-value-foreign"),
    (["echo", OLD], ["true"], "access-command-invalid"),
]


@pytest.mark.parametrize(
    ("get", "set_", "code"),
    [
        *WRONG_FROM_THE_FIRST,
        (["echo", OLD], ["false", "{value}"], "access-set-failed"),
        (["echo", OLD], ["true", "{value}"], "access-not-kept"),
        (["echo", OLD], ["sh", "-c", "sleep 60", "{value}"], "access-set-timeout"),
    ],
)
def test_commands_that_fail(get: list[str], set_: list[str], code: str, tmp_path: Path) -> None:
    """A command that fails, hangs, lies or answers something unplanned never counts as redirected."""
    with pytest.raises(StatehubError) as failed:
        redirect(_command_access(get, set_, timeout="300ms"), "railiance01", tmp_path)
    assert code == failed.value.code
    assert isinstance(failed.value, OutcomeUnknown) is (code in {"access-not-kept", "access-set-timeout"})


@pytest.mark.parametrize(
    ("get", "set_", "code"),
    [
        *WRONG_FROM_THE_FIRST,
        (["echo", OLD], ["no-such-command", "{value}"], "command-missing"),
        (["echo", NEW], ["no-such-command", "{value}"], "command-missing"),
    ],
)
def test_what_is_wrong_with_commands_before_they_change_anything(
    get: list[str], set_: list[str], code: str, tmp_path: Path
) -> None:
    """Where clients are pointed there already, the way back needs a `set` all the same."""
    with pytest.raises(StatehubError) as failed:
        try_redirect(_command_access(get, set_), "railiance01", tmp_path)
    assert code == failed.value.code
