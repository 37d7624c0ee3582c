"""Where a connection string comes from, and that it never shows up in what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from statehub_plan.errors import StatehubError
from statehub_plan.model.spec import SecretRef
from statehub_plan.postgres.connect import resolve_dsn
from statehub_plan.redact import redact

DSN = "postgresql://hub:s3cret-canary@db.example:6432/hub?sslmode=require"
PARTS = {
    "user": "hub",
    "password": "s3cret-canary",
    "host": "db.example",
    "port": "6432",
    "dbname": "hub",
    "sslmode": "require",
}


def test_a_dsn_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable holds a URI; what comes back is the same place in key=value form."""
    monkeypatch.setenv("HUB_DSN", f"  {DSN}\n")
    assert conninfo_to_dict(resolve_dsn(SecretRef(env="HUB_DSN"), tmp_path)) == PARTS


def test_a_dsn_comes_from_a_file_beside_the_plan(tmp_path: Path) -> None:
    """A relative file is looked for beside the plan document, an absolute one where it is."""
    (tmp_path / "dsn").write_text(DSN + "\n")
    assert conninfo_to_dict(resolve_dsn(SecretRef(file="dsn"), tmp_path)) == PARTS
    assert conninfo_to_dict(resolve_dsn(SecretRef(file=str(tmp_path / "dsn")), Path("/"))) == PARTS


def test_a_libpq_service_is_left_to_libpq(tmp_path: Path) -> None:
    """A service name is handed on; libpq itself reads pg_service.conf when connecting."""
    assert resolve_dsn(SecretRef(service="hub"), tmp_path) == "service=hub"


def test_passwords_are_known_to_the_redactor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Once resolved, the bare password is hidden wherever it turns up."""
    monkeypatch.setenv("HUB_DSN", DSN)
    resolve_dsn(SecretRef(env="HUB_DSN"), tmp_path)
    assert "s3cret-canary" not in redact("someone printed s3cret-canary here")


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("postgresql://", {}),
        ("postgresql:///hub", {"dbname": "hub"}),
        ("postgresql://db:5432/hub", {"host": "db", "port": "5432", "dbname": "hub"}),
        ("postgresql://hub@[::1]:5432/", {"user": "hub", "host": "::1", "port": "5432"}),
        ("postgresql://a:1,b:2/hub", {"host": "a,b", "port": "1,2", "dbname": "hub"}),
        (
            "postgresql://hub:a%2Fb%40c@db/hub%40home",
            {"user": "hub", "password": "a/b@c", "host": "db", "dbname": "hub@home"},
        ),
        ("postgresql://hub:a?b#c:d@db/hub", {"user": "hub", "password": "a?b#c:d", "host": "db", "dbname": "hub"}),
        ("postgresql://db/hub?user=me@home", {"host": "db", "dbname": "hub", "user": "me@home"}),
        ("host=db password=a/b@c", {"host": "db", "password": "a/b@c"}),
    ],
)
def test_a_url_that_libpq_reads_as_it_was_meant_is_taken(
    url: str, parts: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is percent-encoded, or harmless where it stands, and what has no password at all."""
    monkeypatch.setenv("HUB_DSN", url)
    assert parts == conninfo_to_dict(resolve_dsn(SecretRef(env="HUB_DSN"), tmp_path))


@pytest.mark.parametrize(
    ("ref", "value", "code"),
    [
        (SecretRef(env="HUB_DSN"), None, "dsn-missing"),
        (SecretRef(env="HUB_DSN"), " ", "dsn-missing"),
        (SecretRef(env="HUB_DSN"), "postgresql//hub:s3cret-canary@db", "dsn-invalid"),
        (SecretRef(env="HUB_DSN"), "host=db password=s3cret-canary nonsense", "dsn-invalid"),
        (SecretRef(env="HUB_DSN"), "postgresql://hub:s3cret-canary", "dsn-invalid"),
        (SecretRef(env="HUB_DSN"), "postgresql://hub:s3cret-canary/db", "dsn-invalid"),
        (SecretRef(env="HUB_DSN"), "postgresql://hub:s3cret-canary/x@db:5432/hub", "dsn-invalid"),
        (SecretRef(env="HUB_DSN"), "postgres://hub:x/s3cret-canary@db:5432/hub?sslmode=require", "dsn-invalid"),
        (SecretRef(env="HUB_DSN"), "postgresql://hub:x@s3cret-canary@db:5432/hub", "dsn-invalid"),
        (SecretRef(file="not-there"), None, "dsn-missing"),
        (SecretRef(file="."), None, "dsn-missing"),
    ],
)
def test_what_is_no_dsn_is_refused_without_repeating_it(
    ref: SecretRef, value: str | None, code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Unset, empty, missing, malformed: each says where to put what, none quotes a secret."""
    monkeypatch.delenv("HUB_DSN", raising=False)
    if value is not None:
        monkeypatch.setenv("HUB_DSN", value)
    with pytest.raises(StatehubError) as caught:
        resolve_dsn(ref, tmp_path)
    assert code == caught.value.code
    assert caught.value.hint
    assert "s3cret-canary" not in str(caught.value)
    assert caught.value.__cause__ is None
