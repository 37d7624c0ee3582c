"""What names and wishes mean together: references, duplicates, contradictions, each where it stands."""

from __future__ import annotations

import pytest

from statehub_plan.spec import parse
from tests.unit.spec_marks import FILE, OBSERVED, assert_marked, changed

GATE = "    - name: cutover\n"
RETIRE_GATE = """\
    - name: retire
      title: end the way back
      guards: [retire]
      approvers: [bob@ops.example]
      allowedSigners: ./allowed_signers
"""
DRILLS = "\n  drills:\n    restore: {maxAge: 7d}\n"
TRANSFER = "\n  transfer:\n"
BACKUP = "    directory: ./backups\n"
AGE_KEY = "age1" + "q" * 58


def retired(text: str | None = None) -> str:
    """The starter with a fallback that is retired, properly."""
    text = changed("mode: frozen", "mode: retired", text)
    text = changed(GATE, RETIRE_GATE + GATE, text)
    return changed(TRANSFER, DRILLS + TRANSFER, text)


def following() -> str:
    """The starter with a fallback that follows, properly."""
    return changed("method: auto  ", "method: replication  ", changed("mode: frozen", "mode: following"))


CONTRADICTIONS = [
    (
        "primary: new-home",
        "primary: ▸newhome",
        "names `newhome`, and there is no such endpoint; did you mean `new-home`?",
    ),
    ("{endpoint: old-home", "{endpoint: ▸elsewhere", "no such endpoint; write one of new-home, old-home"),
    (
        "{endpoint: old-home",
        "{endpoint: ▸new-home",
        "the fallback is the primary itself; name the other endpoint, old-home",
    ),
    (
        "        old-home: http",
        "        ▸third: http://x\n        old-home: http",
        "spec.access[0].values names `third`",
    ),
    (
        "      values:\n        old-home: http://127.0.0.1:8000\n",
        "      ▸values:\n",
        "does not say what it holds for old-home; give a value for each endpoint",
    ),
    (
        "      values:\n        old-home: http://127.0.0.1:8000\n",
        "      ▸values:\n        old-home: http://new-home.internal:8000\n",
        "spec.access[0].values are the same for both endpoints; say what differs",
    ),
    (
        "          equals: ok\n",
        "          equals: ok\n        - {name: rows, kind: sql, endpoint: ▸new, query: SELECT 1, equals: 1}\n",
        "spec.tasks[0].probes[1].endpoint names `new`",
    ),
    (
        "          equals: ok\n",
        "          equals: ok\n        - {name: ▸api-health, kind: file, path: x}\n",
        "spec.tasks[0].probes has `api-health` a second time; it is already in line",
    ),
    (
        "          equals: ok\n",
        "          equals: ok\n"
        "        - {name: pod, kind: kubernetes, endpoint: ▸new-home, resource: pod/a, pointer: /x, equals: 1}\n",
        "spec.tasks[0].probes[1] asks the platform of new-home, which declares none",
    ),
    ("id: T02", "id: ▸T01", "spec.tasks has `T01` a second time"),
    ("doneBy: [decide, ", "doneBy: [decide, ▸decide, ", "spec.tasks[1].doneBy has `decide` a second time"),
    ("doneBy: [decide, ", "doneBy: [decide, ▸retire, ", "never does; it needs desired.fallback.mode: retired"),
    ("doneBy: [decide, ", "doneBy: [decide, ▸follow, ", "never does; it needs transfer.method: replication"),
    ("doneBy: [decide, ", "doneBy: [decide, ▸reverse-follow, ", "it needs desired.fallback.mode: following"),
    (
        "doneBy: [decide, ",
        "doneBy: [decide, ▸failover-drill, ",
        "it needs drills.failover and desired.fallback.mode: retired",
    ),
    (
        "doneBy: [decide, ",
        "doneBy: [decide, ▸restore-drill, ",
        "it needs drills.restore, and desired.fallback.mode: retired or",
    ),
    ("doneBy: [decide, ", "doneBy: [decide, ▸burn, ", "burn only takes back a decision"),
    ("    - id: T02\n", "    - ▸{id: T0, title: x}\n    - id: T02\n", "nothing shows spec.tasks[1] to be done"),
    (
        "approvers: [ann@ops.example]",
        "approvers: [ann@ops.example, ▸ann@ops.example]",
        "has `ann@ops.example` a second time",
    ),
    (
        "quorum: 1",
        "quorum: ▸2",
        "spec.gates[0] needs 2 approvals and has 1 approvers; name more approvers or lower the quorum",
    ),
    (
        "appRoles: [app]  # every",
        "appRoles: [app, ▸app]  # every",
        "spec.endpoints.old-home.appRoles has `app` a second time",
    ),
    (
        GATE,
        RETIRE_GATE.replace("retire", "cutover").replace("guards: [cutover]", "guards: [copy]")
        + "    - name: ▸cutover\n",
        "spec.gates has `cutover` a second time",
    ),
    (
        GATE,
        RETIRE_GATE.replace("[retire]", "[decide]") + GATE,
        "decide is guarded by retire already; let one gate guard it",
    ),
    (
        GATE,
        RETIRE_GATE.replace("[retire]", "[▸redirect]") + GATE,
        "no gate stops redirect: it comes after the decision, when nothing but retire waits for anybody; take it out",
    ),
    (GATE, RETIRE_GATE.replace("[retire]", "[copy, ▸unfollow, ▸burn]") + GATE, "no gate stops unfollow"),
    ("env: NEW_HOME_DSN", "env: ▸OLD_HOME_DSN", "new-home and old-home have the same database"),
    ("env: NEW_HOME_APP_DSN", "env: ▸OLD_HOME_DSN", "so they are one place; give each endpoint its own"),
    ("baseUrl: http://new-home.internal:8000", "baseUrl: ▸http://127.0.0.1:8000/", "have the same api.baseUrl"),
    (
        "mode: frozen",
        "mode: ▸following",
        "following needs transfer.method: replication (or auto); with dump, choose frozen",
    ),
    (
        "  compare:\n",
        "  compare:\n    underHold: ▸changes\n",
        "choose stream or content, or desired.fallback.mode: following",
    ),
    ("lockTimeout: 5s ", "lockTimeout: ▸31m ", "spec.freeze.lockTimeout is longer than maxDuration"),
    ("writerWait: 5s ", "writerWait: ▸1h ", "spec.freeze.writerWait is longer than maxDuration"),
    ("switchTimeout: 5s ", "switchTimeout: ▸31m ", "spec.freeze.switchTimeout is longer than maxDuration"),
    (
        "mode: frozen",
        "mode: frozen, limits: {adviseLag: ▸2GB}",
        "limits.adviseLag is more than maxLag; lower adviseLag (2GB) or raise maxLag (unwritten, so 1GB)",
    ),
    (
        "mode: frozen",
        "mode: frozen, limits: {dropSlotAtRetained: ▸1GB}",
        "lower adviseRetained (unwritten, so 2GB) or raise dropSlotAtRetained (1GB)",
    ),
    (
        "mode: frozen",
        "mode: frozen, limits: {dropSlotAtDiskFree: ▸1TB}",
        "limits.dropSlotAtDiskFree is more than adviseDiskFree",
    ),
    ("mode: frozen", "mode: frozen, limits: {maxLag: ▸1GiB}", "a number and kB, MB, GB or TB"),
    ("mode: frozen", "mode: frozen, limits: {maxLag: ▸1024}", "a number and kB, MB, GB or TB"),
    ("interval: 1m", "interval: ▸2d", "spec.stabilization.interval is longer than duration"),
    ("decideWithin: 24h ", "decideWithin: ▸3d ", "spec.gates[0].decideWithin is longer than executeWithin"),
    (
        "decideWithin: 24h   # from the signature to the decision\n      executeWithin: 48h ",
        "executeWithin: ▸1h ",
        "shorten decideWithin (unwritten, so 24h) or lengthen executeWithin (1h)",
    ),
    ("mode: frozen", "mode: ▸retired", "without a restore drill"),
    ("lane: active  ", "lane: ▸deferred  ", "does not say until when; add entryCriteria, or make the lane active"),
    (
        BACKUP,
        f"{BACKUP}    encryption: {{recipients: [{AGE_KEY}], identityFile: ▸./backups/key}}\n",
        "the identity lies in the backup directory, so whoever has the backups can read them; keep it elsewhere",
    ),
    (
        BACKUP,
        f"{BACKUP}    encryption: {{recipientsFile: keys/age, identityFile: ▸keys//age}}\n",
        "the secret identity and the public recipients are one file",
    ),
    (
        BACKUP,
        f"{BACKUP}    encryption: {{recipients: [{AGE_KEY}, ▸{AGE_KEY}]}}\n",
        "spec.backup.encryption.recipients has",
    ),
    (BACKUP, f"{BACKUP}    ▸encryption: {{}}\n", "give exactly one of recipients, recipientsFile"),
    (
        BACKUP,
        f"{BACKUP}    ▸encryption: {{recipients: [{AGE_KEY}], recipientsFile: x}}\n",
        "give exactly one of recipients, recipientsFile",
    ),
    (BACKUP, f"{BACKUP}    encryption: {{recipients: [▸age1nobody]}}\n", "write a public key, age1… or ssh-ed25519 …"),
    (TRANSFER, "\n  drills: {▸beforeCutover: true}\n" + TRANSFER, "drills.restore is not there; add drills.restore"),
    ("lane: active  ", "supersededBy: ▸hub\n  lane: active  ", "the lane is superseded by itself"),
    (
        TRANSFER,
        "\n  entryCriteria:\n    - {name: c, lane: ▸hub, anyOf: [complete]}\n" + TRANSFER,
        "spec.entryCriteria[0] waits for this lane itself",
    ),
    (
        TRANSFER,
        "\n  entryCriteria:\n    - {name: c, lane: x, anyOf: [complete, ▸complete]}\n" + TRANSFER,
        "spec.entryCriteria[0].anyOf has `complete` a second time",
    ),
    (
        TRANSFER,
        "\n    - name: again\n      kind: env-file\n      file: ./clients.env\n      variable: API_BASE\n"
        "      values: {old-home: a, new-home: b}\n" + TRANSFER,
        "spec.access[1] changes the same place as the access path in line",
    ),
    (
        TRANSFER,
        "\n    - name: cmd\n      kind: command\n      get: [read, ▸'{value}']\n      ▸set: [write]\n"
        "      values: {old-home: a, new-home: b}\n" + TRANSFER,
        "spec.access[1].get only reads",
    ),
]


def _whats(text: str, what: str) -> tuple[str, ...]:
    return (what, *[""] * (text.count("▸") - 1))


@pytest.mark.parametrize(("old", "new", "what"), CONTRADICTIONS)
def test_a_contradiction_is_told_where_it_stands(old: str, new: str, what: str) -> None:
    """One contradiction in a valid plan is told at the word that is wrong, with what would make sense instead."""
    text = changed(old, new)
    if "with dump" in what or "transfer.method: replication" in what:
        text = changed("method: auto  ", "method: dump  ", text)
    if "guarded by retire already" in what:
        text = changed("[hold, freeze, decide]", "[hold, freeze, ▸decide]", text)
    if "changes the same place" in what:
        text = changed("- name: again", "- ▸name: again", text)
    if "without a restore drill" in what:
        text = changed("  gates:\n", "  ▸gates:\n", text)
    assert_marked(text, *_whats(text, what))


def test_a_dump_is_compared_whole_whatever_a_stream_would_be() -> None:
    """Then it does not matter that nobody tells which rows change."""
    text = changed("  compare:\n", "  compare:\n    underHold: changes\n", changed("method: auto  ", "method: dump  "))
    assert parse(text.encode(), FILE).document.metadata.name == "hub"


def test_a_primary_does_not_move_without_a_human() -> None:
    """A cutover needs a gate in front of the hold and of the decision."""
    assert_marked(
        changed("guards: [hold, freeze, decide]", "guards: [copy]", changed("  gates:\n", "  ▸gates:\n")),
        "no gate guards hold and decide, so the primary would move without a human; add a gate with guards",
    )


def test_a_fallback_is_not_retired_without_a_human_and_a_drill() -> None:
    """Retiring needs a gate of its own and a restore drill; with both it is a valid wish."""
    assert parse(retired().encode(), FILE).document.metadata.name == "hub"
    ungated = changed(RETIRE_GATE, "", retired())
    assert_marked(changed("  gates:\n", "  ▸gates:\n", ungated), "no gate guards retire")
    undrilled = changed(DRILLS, "", retired())
    assert_marked(changed("mode: retired", "mode: ▸retired", undrilled), "without a restore drill")


def test_one_approval_never_ends_the_way_back_as_well() -> None:
    """The gate in front of the cutover cannot be the gate in front of the retirement."""
    text = changed(RETIRE_GATE, "", retired())
    text = changed("guards: [hold, freeze, decide]", "▸guards: [hold, freeze, decide, retire]", text)
    assert_marked(text, "give retire a gate of its own")


def test_a_backup_is_guarded_only_where_it_is_done_only_before_the_decision() -> None:
    """The one that the retirement asks for comes after it, and would wait for nobody."""
    guarded = RETIRE_GATE.replace("guards: [retire]", "guards: [▸backup, ▸restore-drill]").replace("retire", "backup")
    kept = changed(GATE, guarded + GATE)
    assert parse(kept.replace("▸", "").encode(), FILE).document.kind == "CutoverPlan"
    before = "before the fallback is retired, when nothing but retire waits for anybody"
    assert_marked(changed(GATE, guarded + GATE, retired()), before, before)


@pytest.mark.parametrize("step", ["failover-drill", "restore-drill"])
def test_a_task_is_done_by_a_drill_only_where_a_run_drills(step: str) -> None:
    """A drill that is declared is taken on the way to the retirement, one of a backup also before the cutover."""
    failover = "    failover: {argv: ['true'], verify: [{kind: file, name: up, path: up}]}\n"
    drills = DRILLS + failover
    marked = changed("doneBy: [decide, ", f"doneBy: [decide, ▸{step}, ")
    kept = changed(TRANSFER, drills + TRANSFER, marked)
    assert_marked(kept, f"is done by {step}, which this plan never does")
    valid = changed(DRILLS, drills, changed("doneBy: [decide, ", f"doneBy: [decide, {step}, ", retired()))
    assert parse(valid.encode(), FILE).document.kind == "CutoverPlan"
    before = changed(DRILLS, DRILLS + "    beforeCutover: true\n", kept)
    if step == "restore-drill":
        assert parse(before.replace("▸", "").encode(), FILE).document.kind == "CutoverPlan"
    else:
        assert_marked(before, f"is done by {step}, which this plan never does")


def test_following_with_replication_is_a_valid_wish() -> None:
    """What replication leaves behind is a stream that the fallback can follow."""
    assert parse(following().encode(), FILE).document.kind == "CutoverPlan"


def test_a_deferred_lane_may_have_tasks_that_nothing_shows_yet() -> None:
    """Only an active lane must be able to become complete."""
    text = changed("    - id: T02\n", "    - {id: T0, title: x}\n    - id: T02\n")
    text = changed("lane: active  ", "lane: deferred  ", text)
    text = changed(TRANSFER, "\n  entryCriteria:\n    - {name: c, lane: other, anyOf: [complete]}\n" + TRANSFER, text)
    assert parse(text.encode(), FILE).document.metadata.lane == "deferred"


def test_an_observed_lane_takes_no_steps_and_has_no_endpoints() -> None:
    """A lane that is only watched cannot be done by steps, and asks no database."""
    assert parse(OBSERVED.encode(), FILE).document.kind == "ObservedLane"
    assert_marked(OBSERVED + "      ▸doneBy: [hold]\n", "an ObservedLane takes none; show it by probes")
    probe = "        - {name: rows, kind: sql, endpoint: ▸hub, query: SELECT 1, equals: 1}\n"
    assert_marked(OBSERVED + probe, "names an endpoint, and an ObservedLane has none")


def test_rules_are_judged_in_a_document_whose_shape_is_wrong() -> None:
    """A misspelled key does not hide a contradiction elsewhere."""
    text = changed("jobs: 2\n    targetContent", "▸job: 2\n    targetContent")
    text = changed("{endpoint: old-home", "{endpoint: ▸new-home", text)
    assert_marked(
        text, "the fallback is the primary itself", "unknown key `job` in spec.transfer; did you mean `jobs`?"
    )


def test_encrypted_backups_can_be_drilled() -> None:
    """A drill without the identity could only fail; with it, or without a drill, both are valid."""
    encrypted = changed(BACKUP, f"{BACKUP}    ▸encryption: {{recipients: [{AGE_KEY}]}}\n")
    drilled = changed(TRANSFER, DRILLS + TRANSFER, encrypted)
    assert_marked(
        drilled, "backups are encrypted, and drills.restore has nothing to decrypt them with; add identityFile"
    )
    for text in (encrypted, drilled.replace("]}\n", "], identityFile: ~/key}\n")):
        assert parse(text.replace("▸", "").encode(), FILE).document.kind == "CutoverPlan"
