"""The whole demo, as `make demo` runs it, on a small hub: the main job end to end, there and back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from statehub_plan.components import PgInstallation
from tests.integration.demo_processes import descendants, running

_RUN = "import sys; from statehub_plan.demo.run import run_demo; sys.exit(run_demo(json_output=True, rows=5000))"


@pytest.fixture(scope="module")
def told(
    pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """One demo: how it ended, and what it printed."""
    done = subprocess.run([sys.executable, "-c", _RUN], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr[-4000:]
    return done, json.loads(done.stdout)


def test_no_acknowledged_write_is_lost_or_doubled_in_either_direction(
    told: tuple[subprocess.CompletedProcess[str], dict[str, Any]],
) -> None:
    """The reason for all of this: the client wrote throughout, and both moves kept everything."""
    done, printed = told
    assert 0 == done.returncode, done.stderr[-4000:]
    assert (0, 0, True, "railiance01") == tuple(
        printed[key] for key in ("lost", "duplicated", "content_equal", "primary")
    )
    back = printed["switchback"]
    assert (0, 0, True, "wsl2") == tuple(back[key] for key in ("lost", "duplicated", "content_equal", "primary"))
    assert 0 < printed["acknowledged"] < back["acknowledged"]
    assert printed["write_gap_ms"] > 0


def test_each_command_is_shown_as_a_person_would_type_it(
    told: tuple[subprocess.CompletedProcess[str], dict[str, Any]],
) -> None:
    """Every step that is reported was shown, and each ended well or with the status that means waiting."""
    done, printed = told
    assert [step["command"] for step in printed["steps"]] == [
        line.removeprefix("$ ") for line in done.stderr.splitlines() if line.startswith("$ ")
    ]
    assert {step["exit_status"] for step in printed["steps"]} <= {0, 8}
    kinds = [step["command"].split()[1] for step in printed["steps"]]
    assert ["validate", "observe", "plan", "approve", "apply"] == kinds[:5]
    assert {"status", "switchback"} <= set(kinds)


def test_no_secret_is_shown(told: tuple[subprocess.CompletedProcess[str], dict[str, Any]]) -> None:
    """No command prints a connection string's password."""
    done, _ = told
    assert "postgresql://statehub_cutover:" not in done.stderr + done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_and_no_file(
    opa_path: Path, ssh_keygen: Path, scratch: Path, number: signal.Signals
) -> None:
    """Ctrl-C in the middle of `apply` reaches the whole foreground group, as from a terminal."""
    place = scratch / f"demo-{number.name}"
    place.mkdir()
    env = {**os.environ, "TMPDIR": str(place)}
    with subprocess.Popen(
        [sys.executable, "-c", _RUN], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as demo:  # fmt: skip
        assert demo.stderr is not None
        for line in demo.stderr:
            if line.startswith("$ statehub-plan apply"):
                break
        started = descendants(demo.pid)
        if number is signal.SIGINT:
            os.killpg(demo.pid, number)
        else:
            demo.send_signal(number)
        demo.stderr.read()
    assert 0 != demo.returncode
    assert [] == sorted(place.iterdir())
    assert len(started) > 10
    assert started.isdisjoint(running())
