"""What a run leaves when something fails in the middle of it: before the decision, the old primary open again.

One world with its journal in a third PostgreSQL database serves the whole file; the tests run in this order. The
primary moves forth when a run survives a server that was away, back when one survives a kill and an `abort`, and forth
again when one is killed before it reloads.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from statehub_plan.access import redirect
from statehub_plan.cli.workspace import load_plan
from statehub_plan.components import PgInstallation
from statehub_plan.demo.world import SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.spec import BridgeAccess
from tests.integration.applying import (
    GATE,
    At,
    accepts_writes,
    applied_with,
    approved,
    demo_world,
    fences_enabled,
    planned,
    ran,
)
from tests.integration.killed_apply import killed_apply


class Mishap(Exception):
    """Something that nobody foresaw."""


@pytest.fixture(scope="module")
def world(pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path) -> Iterator[DemoWorld]:
    """A world whose record is kept in a database of its own, beside the one that moves."""
    with demo_world(stabilization="1s") as built:
        with psycopg.connect(built.sites[SOURCE].cluster.dsn(), autocommit=True) as superuser:
            superuser.execute("CREATE DATABASE journal")
        os.environ["STATEHUB_PLAN_JOURNAL"] = built.sites[SOURCE].cluster.dsn("journal")
        yield built


class Plans:
    """The approved plan in use, and a new one where a burned term made it worthless."""

    def __init__(self, world: DemoWorld) -> None:
        self._world = world
        self._count = 0
        self.file = self.another()

    def another(self) -> Path:
        """A new plan of the cutover, approved."""
        self._count += 1
        self.file = approved(self._world, f"plan-{self._count}")
        return self.file


@pytest.fixture(scope="module")
def plans(world: DemoWorld) -> Plans:
    """Shared, since a run that failed before the freeze goes on with the plan that it has."""
    return Plans(world)


def serves(world: DemoWorld, name: str = SOURCE) -> bool:
    """Whether it accepts writes without a fence; the server may need a moment to see that a client is gone."""
    until = time.monotonic() + 3.0
    while not (found := accepts_writes(world, name)) and time.monotonic() < until:
        time.sleep(0.05)
    return found and 0 == fences_enabled(world, name)


def burned_terms(world: DemoWorld) -> set[int]:
    """Terms that can no longer be decided for the target."""
    with psycopg.connect(world.sites[TARGET].cluster.dsn("statehub")) as superuser:
        rows = superuser.execute("SELECT term FROM statehub_plan.decision WHERE primary_endpoint IS NULL").fetchall()
    return {term for (term,) in rows}


def end_sessions(world: DemoWorld, like: str) -> None:
    """Ends sessions of the tool on the source, as an impatient administrator would."""
    with psycopg.connect(world.sites[SOURCE].cluster.dsn("statehub"), autocommit=True) as superuser:
        superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s", [like]
        )


def mishap(_world: DemoWorld) -> None:
    """A defect in the middle."""
    raise Mishap("nobody foresaw this")


def full_disk(_world: DemoWorld) -> None:
    """As a write to a full disk would end."""
    raise OSError(28, "No space left on device", "/somewhere")


def interrupt(_world: DemoWorld) -> None:
    """Ctrl-C, which the command line turns into this."""
    raise KeyboardInterrupt


def hold_ended(world: DemoWorld) -> None:
    """The session that holds the locks is gone."""
    end_sessions(world, "statehub-plan hold %")


def everything_ended(world: DemoWorld) -> None:
    """All sessions of the tool are gone."""
    end_sessions(world, "statehub-plan%")


# Between hold and freeze: the plan stays good


@pytest.mark.parametrize(
    ("moment", "act"),
    [
        ("started:hold", full_disk),
        ("inside:copy", everything_ended),
        ("started:sync-sequences", mishap),
        ("inside:compare", interrupt),
        ("started:freeze", hold_ended),
    ],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_a_failure_before_the_freeze_lets_writers_go_on(
    world: DemoWorld, plans: Plans, moment: str, act: Callable[[DemoWorld], None]
) -> None:
    """Whatever it was; no term is spent, and the same plan may be applied again."""
    reporter = At(moment, lambda: act(world))
    try:
        error = applied_with(plans.file, reporter)
    except Mishap:
        error = None
    assert reporter.acted
    assert error is None or Exit.ERROR == error.exit_status
    assert serves(world)
    assert set() == burned_terms(world)


def test_a_revoked_approval_stops_the_run_at_its_next_gate(world: DemoWorld, plans: Plans) -> None:
    """Asked again right before the freeze, while writers wait: status 4, and they go on."""
    signing = ("--gate", GATE, "--key", world.key_file, "--reason", "stop", "--yes")
    error = applied_with(plans.file, At("ended:compare", lambda: ran("revoke", plans.file, *signing)))
    assert (Exit.APPROVAL_MISSING, True) == (error and error.exit_status, serves(world))
    assert set() == burned_terms(world)
    for revocation in (world.directory / "state" / "approvals").glob("*-revoke-*.json"):
        revocation.unlink()  # or whoever approves the next plan of these effects would wait for a minute


# Between freeze and decision: the term is burned, so that nothing can decide it later


def silence_opa() -> None:
    """Ends the policy engine that this process started."""
    for children in Path("/proc/self/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            if Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[1:2] == [b"run"]:
                os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("moment", "act", "status"),
    [
        ("ended:freeze", mishap, None),
        ("started:decide", interrupt, Exit.ERROR),
        ("ended:freeze", lambda _world: silence_opa(), Exit.VETOED),
    ],
    ids=["defect", "interrupted", "no-opa"],
)
def test_a_failure_after_the_freeze_burns_the_term_and_opens_the_old_primary(
    world: DemoWorld, plans: Plans, moment: str, act: Callable[[DemoWorld], None], status: Exit | None
) -> None:
    """The run says so; a new plan takes the next term."""
    plans.another()
    before = burned_terms(world)
    told: StatehubError | Mishap | None
    try:
        told = applied_with(plans.file, At(moment, lambda: act(world)))
        notes = told.details if told else ()
    except Mishap as defect:
        told, notes = None, tuple(defect.__notes__)
    assert status == (told.exit_status if told else None)
    assert serves(world)
    assert len(before) + 1 == len(burned_terms(world))
    assert any("accepts writes again; term" in line for line in notes)


@contextmanager
def journal_gone(world: DemoWorld) -> Iterator[Callable[[], None]]:
    """What takes the journal's database away, also from those who use it; it is back afterwards."""
    with psycopg.connect(world.sites[SOURCE].cluster.dsn(), autocommit=True) as superuser:

        def go() -> None:
            superuser.execute("ALTER DATABASE journal ALLOW_CONNECTIONS false")
            superuser.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'journal'")

        yield go
        superuser.execute("ALTER DATABASE journal ALLOW_CONNECTIONS true")


def test_a_journal_that_goes_away_after_the_freeze_does_not_keep_the_old_primary_shut(
    world: DemoWorld, plans: Plans
) -> None:
    """It can neither be written nor read, and the lease went with its connection; both databases answer."""
    file, before = plans.another(), burned_terms(world)
    with journal_gone(world) as go:
        error = applied_with(file, At("ended:freeze", go))
        assert error is not None
        assert Exit.DONE != error.exit_status
        assert serves(world)
    assert len(before) + 1 == len(burned_terms(world))
    assert any("accepts writes again; term" in line for line in error.details), error.details
    assert any("not on record: " in line for line in error.details), error.details


def test_a_plan_whose_term_is_burned_is_stale(plans: Plans) -> None:
    """It can never be carried out any more, and that is not a matter of policy."""
    again = ran("apply", plans.file, "--json")
    assert (Exit.STALE_PLAN, True) == (again.status, "decision term" in again.out)


# Abort


def test_abort_ends_a_pending_decision_without_anybody_being_asked(world: DemoWorld, plans: Plans) -> None:
    """The tool was killed in the middle of the freeze: `abort` plans burn and open, needs no approval, and settles what
    nobody knew about that step, so that the next plan may be made."""
    file = plans.another()
    assert -signal.SIGKILL == killed_apply(file, "inside:freeze")
    assert not accepts_writes(world, SOURCE)
    aborting = planned(world, "aborting", "abort")
    made = ran("show", aborting, "--json").json["plan"]
    assert [("burn", None), ("open", None)] == [(step["kind"], step["gate"]) for step in made["steps"]]
    assert Exit.DONE == ran("apply", aborting).status
    assert serves(world)


def test_a_run_that_began_ends_its_outage_without_policies_too(
    world: DemoWorld, plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of the freeze, and OPA is gone since: it may not go on, and going back asks nobody."""
    file = plans.another()
    assert -signal.SIGKILL == killed_apply(file, "inside:freeze")
    assert not accepts_writes(world, SOURCE)
    monkeypatch.setenv("STATEHUB_PLAN_OPA_BIN", str(world.directory / "no-opa"))
    error = applied_with(file, At("never", lambda: None))
    assert error is not None
    assert (Exit.ERROR, True) == (
        error.exit_status,
        any("accepts writes again; term" in line for line in error.details),
    )
    assert serves(world)


def test_with_nothing_pending_there_is_nothing_to_abort(world: DemoWorld) -> None:
    """No step, status 0, also where changes would have been 2."""
    made = ran("abort", world.plan_file, "--json", "--detailed-exitcode")
    assert (Exit.DONE, []) == (made.status, made.json["plan"]["steps"])


# Signals, servers that are away, and the whole way


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_a_real_apply_ends_it_in_order(world: DemoWorld, plans: Plans, number: signal.Signals) -> None:
    """During the copy, twice as people do: writers go on, the record says why, the exit status is 1; the plan is as
    good as before."""
    if number == signal.SIGINT:
        plans.another()
    with subprocess.Popen(
        world.command("apply", str(plans.file)), env=world.command_env, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while "copy every row" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(number)
        process.send_signal(number)
        rest = process.stderr.read()
    assert (Exit.ERROR, True) == (process.returncode, "interrupted during" in rest), rest
    assert serves(world)
    assert "step-failed" == ran("history", world.plan_file, "--json").json["records"][-1]["kind"]


def test_a_register_that_is_away_is_told_and_the_run_goes_on_once_it_is_back(world: DemoWorld, plans: Plans) -> None:
    """The target's server dies between freeze and decision: nobody may write anywhere, and the run says so; after the
    server is back, `apply` finishes what was proved. Its plan is the one that was interrupted twice."""
    file = plans.file
    target = world.sites[TARGET].cluster
    error = applied_with(file, At("ended:freeze", target.kill))
    assert error is not None
    assert any(f"whether {SOURCE} accepts writes is not known" in line for line in error.details), error
    assert not accepts_writes(world, SOURCE)
    target.start()
    assert Exit.DONE == (found := ran("watch", file)).status, found.told
    assert (False, True) == (accepts_writes(world, SOURCE), accepts_writes(world, TARGET))


def test_after_the_decision_abort_keeps_the_primary_that_was_decided(world: DemoWorld) -> None:
    """Killed between decision and opening on the way back: aborting now means to serve where the register says; the
    run that was killed then finishes."""
    file = approved(world, "back", "switchback")
    assert -signal.SIGKILL == killed_apply(file, "ended:decide")
    assert (False, False) == (accepts_writes(world, SOURCE), accepts_writes(world, TARGET))
    aborting = planned(world, "keeping", "abort")
    made = ran("show", aborting, "--json").json["plan"]
    assert [("open", SOURCE), ("redirect", SOURCE)] == [(step["kind"], step["subject"]) for step in made["steps"]]
    assert Exit.DONE == ran("apply", aborting).status
    assert Exit.DONE == (found := ran("watch", file)).status, found.told
    assert (True, False) == (accepts_writes(world, SOURCE), accepts_writes(world, TARGET))


def test_a_redirect_that_a_kill_left_half_done_is_done_by_another_plan_too(world: DemoWorld) -> None:
    """Killed between writing the files and reloading the bridge: what can be observed is as it should be, and the
    journal knows better: a new plan shows the redirect and why, and carrying it out reloads."""
    file = approved(world, "there-again")
    assert -signal.SIGKILL == killed_apply(file, "started:redirect")
    for path in load_plan(file).spec.spec.access:
        written = path.model_copy(update={"reload": ()}) if isinstance(path, BridgeAccess) else path
        redirect(written, TARGET, world.plan_file.parent)
    for redirected in (True, False):  # once is enough
        aborting = planned(world, f"staying-{redirected}", "abort")
        shown = ran("show", aborting, "--json").json["plan"]["steps"]
        assert ["redirect"] * redirected == [step["kind"] for step in shown]
        assert all("interrupted" in step["because"] for step in shown)
        assert Exit.DONE == ran("apply", aborting).status
        records = ran("history", world.plan_file, "--json").json["records"]
        done = [one["step"] for one in records if one["run"] == records[-1]["run"] and one["kind"] == "step-done"]
        assert redirected is any(str(step).endswith("-redirect") for step in done)
    assert Exit.DONE == (found := ran("watch", file)).status, found.told
    assert (False, True) == (accepts_writes(world, SOURCE), accepts_writes(world, TARGET))


def test_all_of_it_is_on_record_in_the_third_database(world: DemoWorld) -> None:
    """One hash chain from the first failure to the last run, checked; nothing was kept in a file beside it."""
    found = ran("history", world.plan_file, "--json")
    kinds = [record["kind"] for record in found.json["records"]]
    assert (Exit.DONE, len(kinds)) == (found.status, found.json["checked"])
    assert {"run-started", "run-resumed", "step-failed", "run-aborted", "gate-passed", "run-finished"} <= set(kinds)
    assert [] == list((world.directory / "state").glob("journal*"))
