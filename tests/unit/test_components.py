"""Finding the real components, with stand-in programs that only print a version.

They stand for installations that one machine can't have all at once (majors 91 to 93, an OPA of 2023); the components
themselves are exercised in tests/integration.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from statehub_plan.components import (
    OPA_BIN_VARIABLE,
    PG_BIN_VARIABLE,
    PgInstallation,
    client_tool,
    find_opa,
    find_ssh_keygen,
    opa_version,
    postgres_installations,
    server_installations,
)
from statehub_plan.errors import StatehubError

CLIENTS = ("pg_dump", "pg_restore", "psql")
EVERYTHING = ("postgres", "initdb", *CLIENTS)


def _program(path: Path, output: str, status: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{output}'\nexit {status}\n")
    path.chmod(0o755)
    return path


def _postgres(bin_dir: Path, version: str, tools: tuple[str, ...] = EVERYTHING) -> Path:
    for tool in tools:
        _program(bin_dir / tool, f"{tool} (PostgreSQL) {version} (Stand-in 1)")
    return bin_dir


def _found_in(directory: Path) -> list[PgInstallation]:
    return [each for each in postgres_installations() if each.bin_dir.is_relative_to(directory.resolve())]


def test_installations_come_lowest_major_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories named in the environment are found in any order and sorted by major, as numbers."""
    named = [
        _postgres(tmp_path / name, version) for name, version in (("b", "100.1"), ("a", "92.11"), ("c", "91beta2"))
    ]
    monkeypatch.setenv(PG_BIN_VARIABLE, os.pathsep.join(map(str, named)))
    expected = [(91, 910000, "91.0"), (92, 920011, "92.11"), (100, 1000001, "100.1")]
    assert expected == [(each.major, each.version_num, each.version) for each in _found_in(tmp_path)]
    assert {"environment"} == {each.source for each in _found_in(tmp_path)}


def test_a_named_directory_without_postgres_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone asked for it, so passing it over in silence would run the wrong version."""
    monkeypatch.setenv(PG_BIN_VARIABLE, str(tmp_path))
    with pytest.raises(StatehubError) as caught:
        postgres_installations()
    assert "component-unusable" == caught.value.code
    assert str(tmp_path) in caught.value.what


def test_a_broken_installation_on_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that fail or print something else are not an installation."""
    _program(tmp_path / "fails" / "postgres", "postgres (PostgreSQL) 91.1", status=127)
    _program(tmp_path / "talks" / "postgres", "hello")
    monkeypatch.setenv("PATH", f"{tmp_path / 'fails'}:{tmp_path / 'talks'}:{os.environ['PATH']}")
    assert [] == _found_in(tmp_path)


def test_links_on_path_lead_to_the_installation_but_wrappers_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A linked pg_dump is found where it really is, once; Debian's pg_wrapper, which picks a version itself, is not."""
    real = _postgres(tmp_path / "pg91" / "bin", "91.4")
    wrapper = _program(tmp_path / "wrapper" / "pg_wrapper", "pg_dump (PostgreSQL) 93.1")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "pg_dump").symlink_to(real / "pg_dump")
    (wrapper.parent / "pg_dump").symlink_to(wrapper)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{tmp_path / 'path'}:{real}:{os.environ['PATH']}")
    assert [(real.resolve(), "path")] == [(each.bin_dir, each.source) for each in _found_in(tmp_path)]


def test_client_tool_is_the_oldest_that_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only pg_dump of at least the server's major will do, and one no newer than it must be."""
    named = [_postgres(tmp_path / str(major), f"{major}.1", CLIENTS) for major in (93, 91, 92)]
    monkeypatch.setenv(PG_BIN_VARIABLE, os.pathsep.join(map(str, named)))
    assert (tmp_path / "92" / "pg_dump").resolve() == client_tool("pg_dump", 92)
    assert (tmp_path / "91" / "pg_restore").resolve() == client_tool("pg_restore", 90)


def test_a_missing_client_tool_says_what_there_is_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal names the tool, the version wanted, each version found, the package and the variable."""
    monkeypatch.setenv(PG_BIN_VARIABLE, str(_postgres(tmp_path, "91.1", CLIENTS)))
    with pytest.raises(StatehubError) as caught:
        client_tool("pg_dump", 92)
    assert "component-missing" == caught.value.code
    assert "no pg_dump of PostgreSQL 92 or newer was found" == caught.value.what
    assert any("91.1" in line for line in caught.value.details)
    assert "postgresql-client-92" in caught.value.hint
    assert PG_BIN_VARIABLE in caught.value.hint


def test_servers_are_one_per_major_and_never_clients_only(tmp_path: Path) -> None:
    """A client package (pg_dump without postgres) is no server; of two of one major the one found first counts."""
    found = tuple(
        PgInstallation(bin_dir=_postgres(tmp_path / name, "9.1", tools), version_num=number, major=major, source="path")
        for name, number, major, tools in (
            ("a", 910004, 91, CLIENTS),
            ("b", 920001, 92, EVERYTHING),
            ("c", 920009, 92, EVERYTHING),
        )
    )
    assert (found[1],) == server_installations(found)


def test_no_server_at_all_says_how_to_get_one() -> None:
    """Nothing found is a refusal with a remedy, not an empty answer that someone has to check."""
    with pytest.raises(StatehubError) as caught:
        server_installations(())
    assert "component-missing" == caught.value.code
    assert "apt-get install postgresql" in caught.value.hint


@pytest.mark.parametrize(
    ("version", "problem"),
    [("Version: 0.69.0", "older than 1.0"), ("opa?", "does not answer"), (None, "not an executable file")],
)
def test_an_unusable_named_opa_is_an_error(
    version: str | None, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STATEHUB_PLAN_OPA_BIN is obeyed or refused, never ignored."""
    if version is not None:
        _program(tmp_path / "opa", version)
    monkeypatch.setenv(OPA_BIN_VARIABLE, str(tmp_path / "opa"))
    with pytest.raises(StatehubError) as caught:
        find_opa()
    assert "component-unusable" == caught.value.code
    assert problem in caught.value.what


def test_an_old_opa_on_path_gives_way_to_the_environments_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPA before 1.0 reads policies in another dialect, so it is passed over."""
    monkeypatch.delenv(OPA_BIN_VARIABLE, raising=False)
    old = _program(tmp_path / "old" / "opa", "Version: 0.70.0")
    own = _program(tmp_path / "venv" / "bin" / "opa", "Version: 1.0.0")
    monkeypatch.setenv("PATH", f"{old.parent}:/usr/bin:/bin")
    assert own == find_opa(tmp_path / "venv")
    assert (0, 70, 0) == opa_version(old)


def test_no_opa_says_what_was_rejected_and_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal lists every candidate with what is wrong with it."""
    monkeypatch.delenv(OPA_BIN_VARIABLE, raising=False)
    old = _program(tmp_path / "old" / "opa", "Version: 0.70.0")
    monkeypatch.setenv("PATH", f"{old.parent}:/usr/bin:/bin")
    with pytest.raises(StatehubError) as caught:
        find_opa(tmp_path / "venv")
    assert "component-missing" == caught.value.code
    assert (f"{old} is version 0.70.0, older than 1.0",) == caught.value.details
    assert "make" in caught.value.hint


def test_no_ssh_keygen_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Approvals can't be verified without it, so its absence is an error with Debian's package name."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StatehubError) as caught:
        find_ssh_keygen()
    assert "component-missing" == caught.value.code
    assert "openssh-client" in caught.value.hint
