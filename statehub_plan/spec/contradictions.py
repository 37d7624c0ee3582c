"""Wishes that cannot hold together, whatever the world is like."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import normpath
from pathlib import PurePath

from statehub_plan.model.spec import FollowLimits, duration_s, size_bytes
from statehub_plan.spec.node import Node
from statehub_plan.spec.problem import Position, Problem, shown
from statehub_plan.spec.references import probes

_NOT_LATER = (
    (("freeze",), "lockTimeout", "5s", "maxDuration", "30m"),
    (("freeze",), "writerWait", "5s", "maxDuration", "30m"),
    (("freeze",), "switchTimeout", "5s", "maxDuration", "30m"),
    (("stabilization",), "interval", "1m", "duration", "24h"),
)


_NOT_LARGER = (
    ("adviseLag", "maxLag"),
    ("adviseRetained", "dropSlotAtRetained"),
    ("dropSlotAtDiskFree", "adviseDiskFree"),
)
"""Limits of a stream in pairs: advice comes before the hard limit, and disks are counted from above."""


def endpoints(root: Node) -> Iterator[Problem]:
    """Primary and fallback are two endpoints, and two endpoints are two databases."""
    spec = root.child("spec")
    primary, fallback = spec.child("desired", "primary"), spec.child("desired", "fallback", "endpoint")
    if primary.text is not None and primary.text == fallback.text:
        others = [name for name in spec.child("endpoints").members if name != primary.text]
        remedy = f"name the other endpoint, {others[0]}" if len(others) == 1 else "name the other endpoint"
        yield Problem(fallback.at, "the fallback is the primary itself", remedy)
    seen: dict[tuple[str, ...], tuple[str, Position]] = {}
    for name, endpoint in spec.child("endpoints").members.items():
        for identity, path, at in _identities(endpoint):
            other, first_at = seen.setdefault(identity, (name, at))
            if other != name:
                what = f"{name} and {other} have the same {path} (line {first_at.line}), so they are one place"
                yield Problem(at, what, "give each endpoint its own")


def _identities(endpoint: Node) -> Iterator[tuple[tuple[str, ...], str, Position]]:
    for key in ("dsn", "appDsn"):
        source = endpoint.child("database", key)
        for kind, node in source.members.items():
            if node.text is not None:
                yield ("dsn", kind, node.text), "database", node.at
    base_url = endpoint.child("api", "baseUrl")
    if base_url.text is not None:
        yield ("url", base_url.text.rstrip("/")), "api.baseUrl", base_url.at


def transfer(root: Node) -> Iterator[Problem]:
    """A fallback can only follow by the stream that a dump does not leave behind, and only where it is to follow does
    the new side tell of what is written there (a dump is compared whole in any case)."""
    spec = root.child("spec")
    mode = spec.child("desired", "fallback", "mode")
    under_hold, dumps = spec.child("compare", "underHold"), spec.child("transfer", "method").text == "dump"
    if under_hold.text == "changes" and not dumps and mode.text not in (None, "following"):
        what = "nobody tells which rows change on the new side, unless the fallback is to follow it"
        yield Problem(under_hold.at, what, "choose stream or content, or desired.fallback.mode: following")
    if mode.text == "following" and dumps:
        what = "a fallback cannot follow after a dump"
        yield Problem(mode.at, what, "following needs transfer.method: replication (or auto); with dump, choose frozen")


def limits(root: Node) -> Iterator[Problem]:
    """No part lasts longer than the whole."""
    spec = root.child("spec")
    for keys, part, part_default, whole, whole_default in _NOT_LATER:
        yield from _longer(spec.child(*keys), ".".join(("spec", *keys)), (part, part_default), (whole, whole_default))
    for index, gate in enumerate(spec.child("gates").items):
        yield from _longer(gate, f"spec.gates[{index}]", ("decideWithin", "24h"), ("executeWithin", "48h"))


def stream_limits(root: Node) -> Iterator[Problem]:
    """Advice comes before the hard limit: afterwards there is nobody left to heed it."""
    node = root.child("spec", "desired", "fallback", "limits")
    defaults = FollowLimits().model_dump(by_alias=True)
    for small, large in _NOT_LARGER:
        try:
            smaller, larger = (size_bytes(node.child(key).text or defaults[key]) for key in (small, large))
        except ValueError:
            continue  # reported as a wrong value
        if node.members and smaller > larger:
            key = small if small in node.keys else large
            remedy = f"lower {_limit(node, small, defaults[small])} or raise {_limit(node, large, defaults[large])}"
            yield Problem(node.child(key).at, f"spec.desired.fallback.limits.{small} is more than {large}", remedy)


def _longer(node: Node, path: str, part: tuple[str, str], whole: tuple[str, str]) -> Iterator[Problem]:
    lengths = []
    for key, default in (part, whole):
        try:
            lengths.append(duration_s(node.child(key).text or default))
        except ValueError:
            return  # reported as a wrong value
    if node.members and lengths[0] > lengths[1]:
        key = part[0] if part[0] in node.keys else whole[0]
        remedy = f"shorten {_limit(node, *part)} or lengthen {_limit(node, *whole)}"
        yield Problem(node.child(key).at, f"{path}.{part[0]} is longer than {whole[0]}", remedy)


def _limit(node: Node, key: str, default: str) -> str:
    return f"{key} ({node.child(key).text})" if key in node.members else f"{key} (unwritten, so {default})"


_NEVER_STOPPED = {
    **dict.fromkeys(
        ("open", "redirect", "reverse-follow", "stabilize", "document", "failover-drill"),
        "it comes after the decision, when nothing but retire waits for anybody",
    ),
    "burn": "it only takes a decision back, for which nobody may have to be asked",
    "unfollow": "it clears away a stream that runs against a copy, or that nobody needs after the decision",
}
_DONE_AGAIN = dict.fromkeys(
    ("backup", "restore-drill"),
    "it is done after the decision as well, before the fallback is retired, when nothing but retire waits for anybody",
)
"""Steps that a run takes without waiting for their gate (`planning.gate_of`, `apply.loop`), and why: always, and where
the fallback is to be retired. A guard of theirs would be shown and signed, and stop nothing."""


def _unstoppable(spec: Node) -> dict[str, str]:
    retires = spec.child("desired", "fallback", "mode").text == "retired"
    return _NEVER_STOPPED | _DONE_AGAIN if retires else _NEVER_STOPPED


def gates(root: Node) -> Iterator[Problem]:
    """Humans stand in front of the cutover and of the retirement, can be enough, and are waited for."""
    spec = root.child("spec")
    guardians: dict[str, str] = {}
    unstoppable = _unstoppable(spec)
    for index, gate in enumerate(spec.child("gates").items):
        quorum, approvers = gate.child("quorum"), gate.child("approvers").items
        if isinstance(quorum.value, int) and approvers and quorum.value > len(approvers):
            what = f"spec.gates[{index}] needs {quorum.value} approvals and has {len(approvers)} approvers"
            yield Problem(quorum.at, what, "name more approvers or lower the quorum")
        name = gate.child("name").text or f"gate {index + 1}"
        for guard in gate.child("guards").items:
            step = guard.text
            if step in unstoppable:
                what = f"no gate stops {step}: {unstoppable[step]}"
                yield Problem(guard.at, what, "take it out; people are waited for before hold, decide and retire")
            if step is not None and guardians.setdefault(step, name) != name:
                what = f"{shown(step)} is guarded by {shown(guardians[step])} already"
                yield Problem(guard.at, what, "let one gate guard it")
    at = spec.key_at("gates")
    unguarded = [step for step in ("hold", "decide") if step not in guardians]
    if unguarded and spec.members:
        what = f"no gate guards {' and '.join(unguarded)}, so the primary would move without a human"
        yield Problem(at, what, "add a gate with guards: [hold, freeze, decide]")


def retirement(root: Node) -> Iterator[Problem]:
    """Retiring the last way back has its own gate and its own proof."""
    spec = root.child("spec")
    mode = spec.child("desired", "fallback", "mode")
    if mode.text == "retired":
        retiring = [gate for gate in spec.child("gates").items if "retire" in _guards(gate)]
        if not retiring:
            what = "no gate guards retire, so the fallback would be retired without a human"
            yield Problem(spec.key_at("gates"), what, "add a gate of its own with guards: [retire]")
        for gate in retiring:
            if _guards(gate) & {"hold", "freeze", "decide"}:
                what = "one gate guards both the cutover and retire, so one approval would end the way back as well"
                yield Problem(gate.key_at("guards"), what, "give retire a gate of its own")
        if "restore" not in spec.child("drills").members:
            what = "the fallback is to be retired without a restore drill"
            yield Problem(mode.at, what, "add drills.restore, so that a backup is proved before the way back ends")
    drills = spec.child("drills")
    if drills.child("beforeCutover").value is True and "restore" not in drills.members:
        what = "a drill is wanted before the cutover and drills.restore is not there"
        yield Problem(drills.key_at("beforeCutover"), what, "add drills.restore")


def encryption(root: Node) -> Iterator[Problem]:
    """Encrypted backups can be drilled, and their secret key is not kept with what it opens."""
    spec = root.child("spec")
    settings, directory = spec.child("backup", "encryption"), spec.child("backup", "directory")
    identity, recipients = settings.child("identityFile"), settings.child("recipientsFile")
    if settings.members and "identityFile" not in settings.members and "restore" in spec.child("drills").members:
        what = "backups are encrypted, and drills.restore has nothing to decrypt them with"
        yield Problem(spec.child("backup").key_at("encryption"), what, "add identityFile, or take drills.restore out")
    if identity.text is None:
        return
    if recipients.text is not None and _same_or_below(identity.text, recipients.text):
        what = "the secret identity and the public recipients are one file"
        yield Problem(identity.at, what, "keep the identity in a file of its own, which only its owner can read")
    if directory.text is not None and _same_or_below(identity.text, directory.text):
        what = "the identity lies in the backup directory, so whoever has the backups can read them"
        yield Problem(identity.at, what, "keep it elsewhere")


def _same_or_below(path: str, directory: str) -> bool:
    """By their spelling: whether links lead there is for the machine to tell."""
    return PurePath(normpath(path)).is_relative_to(normpath(directory))


def _guards(gate: Node) -> set[str]:
    return {guard.text or "" for guard in gate.child("guards").items}


def tasks(root: Node) -> Iterator[Problem]:
    """What shows a task to be done can happen in this plan."""
    spec = root.child("spec")
    never = _never_done(spec)
    active = root.child("metadata", "lane").text in (None, "active")
    for index, task in enumerate(spec.child("tasks").items):
        for step in task.child("doneBy").items:
            if step.text in never:
                what = f"spec.tasks[{index}] is done by {step.text}, which this plan never does"
                yield Problem(step.at, what, never[step.text])
        if active and task.members and not task.child("probes").items and not task.child("doneBy").items:
            what = f"nothing shows spec.tasks[{index}] to be done, so this active lane could never be complete"
            yield Problem(task.at, what, "give it probes, or doneBy with the steps that do it")


def _never_done(spec: Node) -> dict[str, str]:
    """Steps that no world can make this plan take, and what would make it."""
    mode = spec.child("desired", "fallback", "mode").text
    replicates = spec.child("transfer", "method").text != "dump"
    drills = spec.child("drills").members
    retires = mode in ("retired", None)
    restores = retires or spec.child("drills", "beforeCutover").value is True
    possible = {
        "burn": (False, "burn only takes back a decision; name another step"),
        "retire": (retires, "it needs desired.fallback.mode: retired"),
        "reverse-follow": (mode in ("following", None), "it needs desired.fallback.mode: following"),
        "prepare-reverse": (mode in ("following", None), "it needs desired.fallback.mode: following"),
        "follow": (replicates, "it needs transfer.method: replication"),
        "rehearse": (replicates, "it needs transfer.method: replication"),
        "drain": (replicates, "it needs transfer.method: replication"),
        "restore-drill": (
            "restore" in drills and restores,
            "it needs drills.restore, and desired.fallback.mode: retired or drills.beforeCutover: true",
        ),
        "failover-drill": (
            "failover" in drills and retires,
            "it needs drills.failover and desired.fallback.mode: retired",
        ),
        "redirect": (bool(spec.child("access").items), "it needs access"),
        "document": ("operatingModel" in spec.members, "it needs operatingModel"),
    }
    return {step: remedy for step, (holds, remedy) in possible.items() if not holds}


def observed_tasks(root: Node) -> Iterator[Problem]:
    """A lane that is only observed carries nothing out."""
    for index, task in enumerate(root.child("spec", "tasks").items):
        if task.child("doneBy").items:
            what = f"spec.tasks[{index}] is done by steps, and an ObservedLane takes none"
            yield Problem(task.key_at("doneBy"), what, "show it by probes, or make this a CutoverPlan")


def lanes(root: Node) -> Iterator[Problem]:
    """A lane waits for others, and a deferred plan for something."""
    name = root.child("metadata", "name").text
    superseded_by = root.child("metadata", "supersededBy")
    if name is not None and superseded_by.text == name:
        yield Problem(superseded_by.at, "the lane is superseded by itself", "name the other lane, or delete it")
    criteria = root.child("spec", "entryCriteria")
    for index, criterion in enumerate(criteria.items):
        lane = criterion.child("lane")
        if name is not None and lane.text == name:
            yield Problem(lane.at, f"spec.entryCriteria[{index}] waits for this lane itself", "name another lane")
    deferred = root.child("metadata", "lane")
    if deferred.text == "deferred" and root.child("kind").text == "CutoverPlan" and not criteria.items:
        what = "the plan is deferred and does not say until when"
        yield Problem(deferred.at, what, "add entryCriteria, or make the lane active")


def kubernetes_probes(root: Node) -> Iterator[Problem]:
    """A probe by kubectl knows which cluster to ask."""
    declared = root.child("spec", "endpoints").members
    for path, index, probe in probes(root):
        name = probe.child("endpoint")
        if probe.child("kind").text != "kubernetes" or {"context", "namespace"} & probe.members.keys():
            continue
        if name.text in declared and "platform" not in declared[name.text].members:
            what = f"{path}[{index}] asks the platform of {shown(name.text)}, which declares none"
            yield Problem(name.at, what, "declare endpoints.NAME.platform, or give the probe context and namespace")
