"""The redactor: no seeded canary survives, in any shape that a library may print it."""

from __future__ import annotations

import json
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statehub_plan.redact import MASK, find_secrets, redact, redact_json, register_secret

CANARY = "c4nary-Qz7"

SHAPES = [
    f"postgresql://app:{CANARY}@db.internal:5432/statehub",
    f"postgres://app:{CANARY}@h1:5432,h2:5433/statehub?sslmode=require",
    f"could not connect to 'postgresql://app:{CANARY}@db/statehub': refused",
    f"postgresql://app:{CANARY}/with?odd#chars@db/statehub",
    f"postgresql://app:{CANARY}@twice@db/statehub",
    f"postgresql://:{CANARY}@/statehub",
    f"postgresql://db/statehub?user=app&password={CANARY}&sslmode=require",
    f"https://{CANARY}@git.internal/repo.git",
    f"(see http://app:{CANARY}@127.0.0.1:8000/state/health)",
    f"host=db user=app password={CANARY} dbname=statehub",
    f"host=db password='{CANARY}' user=app",
    f"host=db password = 'it\\'s {CANARY}' user=app",
    f"host=db password='never closed {CANARY}",
    f"host=db password=a,b;c)d'{CANARY} user=app",
    f"host=db password=spaced\\ {CANARY} user=app",
    f"sslpassword={CANARY}",
    f"PGPASSWORD={CANARY} psql -h db",
    f"export STATE_HUB_DB_PASSWORD='{CANARY}'",
    f'POSTGRES_PASSWORD="{CANARY} with blanks"',
    f"connect(user='app', password='{CANARY}', host='db')",
    f"--password={CANARY}",
    f"API_KEY={CANARY}",
    f'{{"user": "app", "password": "{CANARY}"}}',
    f'{{"password":"a\\"b{CANARY}","next":1}}',
    f'{{"password": "{CANARY}',
    f"{{'user': 'app', 'password': '{CANARY}'}}",
    f"{{'token': b'{CANARY}'}}",
    json.dumps({"body": json.dumps({"password": f'quote" and \\ {CANARY}', "user": "app"})}),
    f"Authorization: Bearer {CANARY}",
    f"authorization: Basic {CANARY}==",
    f"'Authorization': 'Token {CANARY}'",
    f"{{'headers': {{'Authorization': 'Bearer {CANARY}'}}}}",
    f"curl -H 'Authorization: Bearer {CANARY}' http://127.0.0.1:8181",
    f"sent bearer {CANARY}, refused",
    f"X-Api-Key: {CANARY}",
    f"Set-Cookie: session={CANARY}; HttpOnly",
    f"ALTER ROLE app PASSWORD '{CANARY}'",
    f"LINE 1: ALTER ROLE app WITH ENCRYPTED PASSWORD E'x\\'{CANARY}'",
    f"ALTER ROLE app PASSWORD $q${CANARY}$q$",
    f"database:\n  password: {CANARY}\n",
    f"- token: '{CANARY}'",
    f"-----BEGIN OPENSSH PRIVATE KEY-----\n{CANARY}\n-----END OPENSSH PRIVATE KEY-----",
]

HARMLESS = [
    "http://127.0.0.1:8000/state/health",
    "http://127.0.0.1:8000/@me",
    "state-hub answers at http://10.0.0.1:8000, look there: ops@example.org",
    "postgresql://app@db.internal:5432/statehub",
    "host=db.internal port=5432 user=app dbname=statehub",
    'FATAL: password authentication failed for user "app"',
    "fence {'password_encryption': 'scram-sha-256', 'primary_key': 'id'}",
    "the allowed_signers file names the bearer of each key",
    "postgresql://app:***@db/statehub password=*** token: ***",
    "postgresql://app:${STATE_HUB_PASSWORD}@db/statehub",
    "postgresql://app:<password>@db/statehub",
    "a basic authentication scheme, bearer tokens and a password: three things",
    "kubectl get secret/state-hub -o json",
]


@pytest.mark.parametrize("text", SHAPES)
def test_a_secret_is_hidden_by_its_shape(text: str) -> None:
    """A canary that nobody registered is caught by the way it is written."""
    assert CANARY not in redact(text)
    assert MASK in redact(text)


@pytest.mark.parametrize("text", SHAPES)
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    """What has passed the redactor may pass it again."""
    assert redact(text) == redact(redact(text))


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    """Addresses, messages, settings and placeholders are left alone, else the output would not help."""
    assert text == redact(text)
    assert () == find_secrets(text)


def test_the_rest_of_the_line_stays() -> None:
    """Host, user and database remain: they are what a person needs to find the mistake."""
    assert (
        redact("postgresql://app:pw@db:5432/hub refused; host=db password=pw user=app")
        == "postgresql://app:***@db:5432/hub refused; host=db password=*** user=app"
    )


@pytest.mark.parametrize("secret", ["k9/%+ ü\"'\\<&>", "plain-registered", "ab1"])
@pytest.mark.parametrize(
    "spell",
    [
        str,
        json.dumps,
        repr,
        lambda secret: json.dumps(json.dumps(secret)),
        lambda secret: json.dumps(secret, ensure_ascii=False),
        lambda secret: __import__("urllib.parse").parse.quote(secret, safe=""),
        lambda secret: __import__("html").escape(secret),
        lambda secret: "'" + secret.replace("'", "''") + "'",
    ],
)
def test_a_registered_secret_is_hidden_in_every_spelling(secret: str, spell: object) -> None:
    """Once the tool has read a password, no encoding of it leaves the tool."""
    register_secret(secret)
    assert callable(spell)
    spelled = str(spell(secret))
    assert f"before {spelled} after".replace(spelled.strip("\"'\\"), MASK) == redact(f"before {spelled} after")


def test_a_short_registered_secret_hides_whole_words_only() -> None:
    """A careless three-letter password does not turn every message into asterisks."""
    register_secret("qx1")
    assert "the aqx1b said ***" == redact("the aqx1b said qx1")
    register_secret("a")
    assert "a message" == redact("a message")


def test_a_traceback_passes_the_redactor() -> None:
    """Tracebacks show source lines and messages; both may hold a DSN."""
    try:
        raise RuntimeError(f"cannot connect: postgresql://app:{CANARY}@db/hub")
    except RuntimeError:
        assert f"app:{CANARY}" not in redact(traceback.format_exc())


def test_json_is_redacted_by_value_and_by_key() -> None:
    """Structure survives; members named like secrets lose their scalars, references to secrets stay."""
    assert redact_json(
        {
            "dsn": f"postgresql://app:{CANARY}@db/hub",
            "password": CANARY,
            "PGPASSWORD": 12345,
            "nested": [{"api_key": CANARY, "port": 5432}, None, True, 1.5],
            "Authorization": f"Bearer {CANARY}",
            "secret": {"env": "STATE_HUB_DSN"},
            "password_encryption": "scram-sha-256",
        }
    ) == {
        "dsn": "postgresql://app:***@db/hub",
        "password": MASK,
        "PGPASSWORD": MASK,
        "nested": [{"api_key": MASK, "port": 5432}, None, True, 1.5],
        "Authorization": MASK,
        "secret": {"env": "STATE_HUB_DSN"},
        "password_encryption": "scram-sha-256",
    }


def test_canonical_json_stays_json() -> None:
    """A secret inside compact JSON text is hidden without breaking the text around it."""
    text = json.dumps({"dsn": f"postgresql://u:{CANARY}@h/d", "to": "a@b", "password": CANARY}, separators=(",", ":"))
    assert {"dsn": "postgresql://u:***@h/d", "to": "a@b", "password": MASK} == json.loads(redact(text))


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "://a:",
        "://a:1/",
        "'",
        "password",
        "password='",
        "x password: ",
        'x\\"',
        '"password":"\\',
        "Bearer ",
        "eyJ",
        "@",
    ],
)
def test_hostile_text_is_no_bomb(piece: str) -> None:
    """No shape backtracks without bound: this test would not end if one did."""
    assert isinstance(redact(piece * (300_000 // len(piece))), str)


@given(
    st.lists(st.sampled_from([*"ab:/@='\"\\ \n?-.12*$", "password", "token", "://", "Bearer "]), max_size=60).map(
        "".join
    )
)
def test_any_text_is_redacted_without_failing(text: str) -> None:
    """Whatever comes, the answer is a text, and what was found is inside it."""
    assert isinstance(redact(text), str)
    assert all(0 <= start < end <= len(text) for start, end in find_secrets(text))
