"""Tree → model: each value that is not what the models say, where it stands, with what to write instead."""

from __future__ import annotations

import pytest

from tests.unit.spec_marks import OBSERVED, assert_marked, changed, marks, problems

CASES = [
    ("kind: CutoverPlan", "kind: ▸Cutover-plan", "there is no kind `Cutover-plan`; did you mean `CutoverPlan`?"),
    ("kind: CutoverPlan", "kind: ▸Deployment", "there is no kind `Deployment`; write one of CutoverPlan, ObservedLane"),
    (
        "statehub-plan/v1",
        "▸statehub-plan/v2",
        "apiVersion cannot be `statehub-plan/v2`; did you mean `statehub-plan/v1`?",
    ),
    ('name: "hub"', "name: ▸Hub_1", "metadata.name cannot be `Hub_1`; write lower-case letters"),
    ('name: "hub"', "name: ▸12", "metadata.name must be text, not the number 12; put it in quotes"),
    ('name: "hub"', 'name: ▸"hub\\n"', "metadata.name cannot be `hub·`; write lower-case letters"),
    ("title: Move the service to its new home", "title: ▸1.10", "must be text, not the number 1.1; put it in quotes"),
    ("title: Move the service to its new home", "title: ▸true", "must be text, not the boolean true; put it in quotes"),
    ("title: Move the service to its new home", 'title: ▸""', "metadata.title is empty; write at least 1"),
    ("title: Move the service to its new home", "title: ▸[a]", "must be text, not a list; write text"),
    ("lane: active ", "lane: ▸actve ", "metadata.lane cannot be `actve`; did you mean `active`?"),
    ("lane: active ", "lane: ▸later ", "metadata.lane cannot be `later`; write one of active, deferred"),
    ("lane: active ", "▸Lane: active ", "unknown key `Lane` in metadata; did you mean `lane`?"),
    (
        "baseUrl: http://127.0.0.1:8000\n",
        "baseUrl: ▸127.0.0.1:8000\n",
        "baseUrl cannot be `127.0.0.1:8000`; write http:// or https://",
    ),
    ("baseUrl: http://127.0.0.1:8000\n", 'baseUrl: ▸"http://a b"\n', "without blanks"),
    (
        "baseUrl: http://127.0.0.1:8000\n",
        "baseUrl: http://127.0.0.1:8000\n        ▸time_out: 3s\n",
        "did you mean `timeout`?",
    ),
    (
        "dsn: {env: OLD_HOME_DSN}",
        "▸dsn: {}",
        "database.dsn is incomplete or contradictory; give exactly one of env, file, service",
    ),
    ("dsn: {env: OLD_HOME_DSN}", "▸dsn: {env: A, file: b}", "give exactly one of env, file, service"),
    ("{env: OLD_HOME_DSN}", "{env: ▸OLD-HOME}", "dsn.env cannot be `OLD-HOME`; write the name of a variable"),
    ("{env: OLD_HOME_DSN}", "▸postgresql-service", "dsn must be a mapping, not the text `postgresql-service`"),
    (
        "appRoles: [app]  # every",
        "appRoles: ▸app  # every",
        "appRoles must be a list, not the text `app`; write a list",
    ),
    ("    primary: new-home", "    primary: ▸{name: new-home}", "desired.primary must be text, not a mapping"),
    ("mode: frozen", "mode: ▸freeze", "mode cannot be `freeze`; did you mean `frozen`?"),
    (
        "      kind: env-file",
        "      kind: ▸envfile",
        "spec.access[0] cannot have kind `envfile`; did you mean `env-file`?",
    ),
    ("variable: API_BASE", "variable: ▸API-BASE", "spec.access[0].variable cannot be `API-BASE`"),
    (
        "method: auto  ",
        "method: ▸copy  ",
        "spec.transfer.method cannot be `copy`; write one of auto, dump, replication",
    ),
    (
        "    jobs: 2\n    targetContent",
        '    jobs: ▸"2"\n    targetContent',
        "jobs must be a whole number, not the text `2`",
    ),
    (
        "    jobs: 2\n    targetContent",
        "    jobs: ▸2.0\n    targetContent",
        "jobs must be a whole number, not the number 2.0",
    ),
    (
        "    jobs: 2\n    targetContent",
        "    jobs: ▸true\n    targetContent",
        "jobs must be a whole number, not the boolean true",
    ),
    (
        "    jobs: 2\n    targetContent",
        "    jobs: ▸0\n    targetContent",
        "spec.transfer.jobs is too small; write at least 1",
    ),
    (
        "    jobs: 2\n    targetContent",
        "    jobs: ▸65\n    targetContent",
        "spec.transfer.jobs is too large; write at most 64",
    ),
    (
        "lockTimeout: 5s",
        "lockTimeout: ▸5",
        "lockTimeout must be text, not the number 5; write a number above zero and ms, s, m, h or d",
    ),
    (
        "lockTimeout: 5s",
        "lockTimeout: ▸5 seconds",
        "lockTimeout cannot be `5 seconds`; write a number above zero and ms, s, m, h or d",
    ),
    ("lockTimeout: 5s", "lockTimeout: ▸0s", "lockTimeout cannot be `0s`; write a number above zero"),
    ("content: true", 'content: ▸"true"', "spec.compare.content must be true or false, not the text `true`"),
    (
        "          kind: http\n",
        "          kind: http\n          ▸query: x\n",
        "unknown key `query` in spec.tasks[0].probes[0]; known here:",
    ),
    ("pointer: /status", "pointer: ▸status", "pointer cannot be `status`; write a JSON pointer (RFC 6901"),
    ("pointer: /status", "pointer: ▸/a~2b", "pointer cannot be `/a~2b`"),
    (
        "doneBy: [decide, redirect",
        "doneBy: [▸decid, redirect",
        "spec.tasks[1].doneBy[0] cannot be `decid`; did you mean `decide`?",
    ),
    ("    - id: T01", "    - id: ▸T 01", "spec.tasks[0].id cannot be `T 01`"),
    ("approvers: [ann@ops.example]", "approvers: ▸[]", "spec.gates[0].approvers has too few items; write at least 1"),
    ("approvers: [ann@ops.example]", 'approvers: [▸"*@ops.example"]', "write one name as in allowed_signers"),
    ("approvers: [ann@ops.example]", 'approvers: [▸"ann,bob"]', "no patterns, no lists"),
    ("allowedSigners: ./allowed_signers", 'allowedSigners: ▸""', "allowedSigners is empty; write a path"),
    ("\nspec:\n", "\n▸quorum: 2\nspec:\n", "unknown key `quorum`; `quorum` belongs to spec.gates"),
    (
        "  desired:\n",
        "  desired:\n    ▸mode: frozen\n",
        "unknown key `mode` in spec.desired; `mode` belongs to spec.desired.fallback",
    ),
]


@pytest.mark.parametrize(("old", "new", "what"), CASES)
def test_a_wrong_value_is_told_where_it_stands(old: str, new: str, what: str) -> None:
    """One mistake in a valid plan is one problem, at its character, with what to write instead."""
    assert_marked(changed(old, new), what)


@pytest.mark.parametrize(
    ("old", "marked", "what"),
    [
        ('  name: "hub"\n', ("metadata:", "▸metadata:"), "`name` is missing in metadata; write lower-case letters"),
        (
            "      kind: env-file\n",
            ("- name: clients", "- ▸name: clients"),
            "`kind` is missing in spec.access[0]; write one of",
        ),
        ("          equals: ok\n", ("- name: api-health", "- ▸name: api-health"), "give pointer and equals together"),
        ("    primary: new-home\n", ("  desired:\n", "  ▸desired:\n"), "`primary` is missing in spec.desired"),
        (
            "kind: CutoverPlan\n",
            ("apiVersion:", "▸apiVersion:"),
            "`kind` is missing; write kind: CutoverPlan or ObservedLane",
        ),
    ],
)
def test_a_missing_key_is_told_at_what_lacks_it(old: str, marked: tuple[str, str], what: str) -> None:
    """There is no character where something is missing, so the key that owns it, or the item, is named."""
    assert_marked(changed(*marked, text=changed(old, "")), what)


def test_a_third_endpoint_is_one_too_many() -> None:
    """A primary moves between two places."""
    third = "\n  endpoints:\n    ▸third: {title: x, database: {dsn: {env: THIRD}}}\n"
    text = changed("      values:\n", "      ▸values:\n", changed("\n  endpoints:\n", third))
    assert_marked(text, "spec.endpoints has too many items; write at most 2", "does not say what it holds for third")


def test_several_mistakes_are_all_told_in_order() -> None:
    """Unknown keys, wrong types, misspelled kinds and references do not hide each other."""
    text = changed("kind: CutoverPlan", "kind: ▸Cutover")
    text = changed("lane: active ", "lane: ▸no ", text)
    text = changed("{endpoint: old-home, mode: frozen}", "{endpoint: ▸oldhome, mode: ▸3, ▸extra: 1}", text)
    text = changed("    jobs: 2\n    targetContent", "    jobs: ▸many\n    targetContent", text)
    assert_marked(
        text,
        "there is no kind `Cutover`; did you mean `CutoverPlan`?",
        "unquoted no is a boolean",
        "there is no such endpoint; did you mean `old-home`?",
        "cannot be `3`; write one of following, frozen, retired",
        "unknown key `extra` in spec.desired.fallback; known here: endpoint, limits, mode",
        "spec.transfer.jobs must be a whole number, not the text `many`",
    )


def test_what_was_refused_already_is_not_told_again() -> None:
    """An alias, a tag or a surprise is one problem, not also a wrong type."""
    assert_marked(changed("    jobs: 2\n    targetContent", "    jobs: ▸!!int 2\n    targetContent"), "there is a tag")
    assert_marked(changed("    primary: new-home", "    primary: ▸off"), "unquoted off")


def test_an_observed_lane_has_its_own_keys() -> None:
    """What a lane that is only observed cannot have is unknown to it."""
    assert_marked(
        OBSERVED + "  ▸gates: []\n", "unknown key `gates` in spec; known here: entryCriteria, narrative, tasks"
    )


def test_text_of_the_document_cannot_forge_a_message() -> None:
    """Line breaks and control characters of keys and values never reach the terminal as such."""
    plain, _ = marks(changed('name: "hub"', 'name: "a\\nplan.yaml:1:1: all is well"'))
    (line,) = problems(plain)
    assert "\n" not in line
    assert line.startswith("7:9: metadata.name cannot be `a·plan.yaml:1:1: all is well`")
