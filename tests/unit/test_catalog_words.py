"""What a difference of definitions tells, and what it keeps to itself."""

from __future__ import annotations

from typing import Any

import pytest

from statehub_plan.postgres.catalog_words import in_words
from statehub_plan.redact import redact

HIDDEN: tuple[tuple[str, str, str, Any], ...] = (
    ("setting", "every role: app.jwt_secret", "value", "s3cr3t"),
    ("setting", "x everywhere: app.signing.key", "value", "s3cr3t"),
    ("setting", "x: app.password_old", "value", "s3cr3t"),
    ("setting", "every role: app.upstream", "value", "postgresql://app:s3cr3t@db/app"),
    ("column", "public.client.api_key", "default", "'s3cr3t'::text"),
    ("column", "public.client.note", "default", "'password=s3cr3t'::text"),
    ("column", "public.remote.id", "foreign options", ["column_name=id", "token=s3cr3t"]),
    ("relation", "public.remote", "foreign", ["server", ["auth_token_v2=s3cr3t", "table_name=t"]]),
    ("object", "server far", "options", ["host=far", "password=s3cr3t"]),
    ("object", "server far", "options", ["encryption_key=s3cr3t"]),
    ("routine", "public.f()", "definition", "DECLARE api_key constant text := 's3cr3t'; BEGIN"),
    ("routine", "public.f()", "definition", "PERFORM set_config('app.jwt_secret', 's3cr3t', true);"),
    ("routine", "public.f()", "definition", "v_password := E's3cr3t';"),
    ("routine", "public.f()", "definition", "v_password := $q$s3cr3t$q$;"),
    ("routine", "public.f()", "definition", "PERFORM dblink_connect('host=far password=s3cr3t');"),
    ("routine", "f()", "definition", "AS $f$ SELECT 'it''s', crypt('x', 'y') WHERE secret = 's3cr3t' $f$"),
    ("trigger", "public.t.x", "definition", "EXECUTE FUNCTION f('https://app:s3cr3t@hook/x')"),
    ("policy", "public.t.p", "using", "(current_setting('app.token'::text) = 's3cr3t'::text)"),
    ("comment", "table public.t", "text", "for tests: password=s3cr3t"),
)
SHOWN: tuple[tuple[str, str, str, Any, str], ...] = (
    ("setting", "every role: search_path", "value", "hub, public", "hub, public"),
    ("setting", "every role: password_encryption", "value", "md5", "md5"),
    ("setting", "every role: app.tenant", "value", "west", "west"),
    ("column", "public.client.token_count", "default", "0", "0"),
    ("column", "public.client.api_key", "default", "gen_random_uuid()", "gen_random_uuid()"),
    ("column", "public.client.api_key", "default", None, "null"),
    ("column", "public.client.state", "default", "'new'::text", "'new'::text"),
    ("relation", "public.t", "options", ["fillfactor=50"], '["fillfactor=50"]'),
    ("relation", "public.t", "privileges", ["app=SELECT", "x=INSERT*"], '["app=SELECT", "x=INSERT*"]'),
    ("routine", "public.f()", "definition", "BEGIN\n  RETURN 'x' || y;\nEND", "BEGIN\n  RETURN 'x' || y;\nEND"),
    ("routine", "f()", "definition", "IF token_kind = 'a' THEN", "IF token_kind = 'a' THEN"),
    ("constraint", "public.t.c", "definition", "CHECK ((kind = 'a'::text))", "CHECK ((kind = 'a'::text))"),
)


@pytest.mark.parametrize(("kind", "name", "aspect", "value"), HIDDEN, ids=str)
def test_what_looks_like_a_secret_is_hidden(kind: str, name: str, aspect: str, value: Any) -> None:
    """By the name of the setting, the column, the option or the variable, or by its own shape."""
    told = in_words(kind, name, aspect, value)
    assert "s3cr3t" not in told
    assert "***" in told


@pytest.mark.parametrize(("kind", "name", "aspect", "value", "told"), SHOWN, ids=str)
def test_everything_else_is_told_as_it_stands(kind: str, name: str, aspect: str, value: Any, told: str) -> None:
    """A difference that shows nothing helps nobody."""
    assert told == in_words(kind, name, aspect, value)


def test_the_rest_of_a_definition_stays_readable() -> None:
    """Only the literal goes; and nothing more when it is printed."""
    told = in_words("routine", "public.f()", "definition", "api_key := 's3cr3t'; RETURN digest(x, 'sha256');")
    assert "api_key := '***'; RETURN digest(x, 'sha256');" == told == redact(told)
