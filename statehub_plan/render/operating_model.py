"""The operating model: how the service is run now, written from observed facts and the journal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import PurePath

from pydantic import JsonValue

from statehub_plan.abstraction import BEGUN, stabilization_for
from statehub_plan.history import journal_facts
from statehub_plan.model.facts import Fact, Observation
from statehub_plan.model.plan import Plan
from statehub_plan.model.record import Record, RecordKind, drill_outdated
from statehub_plan.model.spec import AccessPath, FallbackMode, SecretRef
from statehub_plan.model.steps import StepKind
from statehub_plan.model.stream import StreamState
from statehub_plan.registers import Register, identity_of_primary, read_register
from statehub_plan.render.markdown import code, document, md, table
from statehub_plan.render.unknowns import gather_unknown
from statehub_plan.render.words import approvals_needed, counted, identity_text, moment, moment_of, shown
from statehub_plan.streams import stream_between

_UNSEEN = "could not be observed"
_DOES = {
    StreamState.NOBODY: "is not there",
    StreamState.COPYING: "is being set up",
    StreamState.READY: "is not started",
    StreamState.STREAMING: "runs",
    StreamState.BROKEN: "does not run",
    StreamState.LOST: "is lost",
}
_BASIS = ("identity", "version_num", "writes", "register", "fence", "tables", "schema_revision", "api.health")


def operating_model_markdown(plan: Plan, observation: Observation, records: tuple[Record, ...], now: datetime) -> str:
    """The document. `records` are all of the service; a fact that was not observed is said to be unknown."""
    register = read_register(plan.spec, observation)
    primary = register.primary
    fallback = next((name for name in plan.spec.spec.endpoints if name != primary), plan.old)
    title = plan.spec.metadata.service_title or plan.spec.metadata.title
    return document(
        [
            [f"# {md(title)}: operating model"],
            [f"Written {moment(now)} by statehub-plan from what was observed and recorded; each run writes it anew."],
            _primary(plan, observation, register, records),
            _access(plan, observation),
            _fallback(plan, observation, primary, fallback),
            _back(plan, primary, fallback),
            _backups(plan, observation),
            _stabilization(plan, observation, records, now),
            _gates(plan),
            _looking(plan),
            _basis(plan, observation),
        ]
    )


def _file(plan: Plan) -> str:
    """The document as people name it: its folder and file, without the path of one machine."""
    path = PurePath(plan.spec_path)
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name


def _mapping(observation: Observation, fact_id: str) -> dict[str, JsonValue]:
    value = observation.value(fact_id)
    return value if isinstance(value, dict) else {}


def _primary(plan: Plan, observation: Observation, register: Register, records: tuple[Record, ...]) -> list[str]:
    name = register.primary
    if name is None:
        return ["## Primary", "", f"Which endpoint is primary could not be observed: {md(register.basis)}."]
    endpoint = plan.spec.spec.endpoints[name]
    since = f"since decision term {register.decided}" if register.decided else "by declaration, before any decision"
    decided = next((one for one in reversed(records) if _decides(one, register.decided)), None)
    when = f", recorded {moment(decided.at)} by run {code(decided.run)}" if decided is not None else ""
    health = _mapping(observation, f"{name}.api.health")
    lines = [
        "## Primary",
        "",
        f"**{md(name)}** ({md(endpoint.title)}) is primary {since}{when}.",
        "",
        f"- database: {md(identity_text(plan.identities.get(name)))}",
        f"- accepts writes: {md(shown(observation.value(f'{name}.writes', 'unknown')))}",
        f"- connection for the tool: {_reference(endpoint.database.dsn)}",
    ]
    if endpoint.api is not None:
        said = {True: "healthy", False: "NOT healthy"}.get(health.get("healthy"), "unknown")  # type: ignore[call-overload]
        lines.append(f"- API: {code(endpoint.api.base_url + endpoint.api.health_path)}, {said} when this was written")
    return lines


def _decides(record: Record, term: int) -> bool:
    decision = record.kind is RecordKind.FACT and record.payload.get("kind") == StepKind.DECIDE.value
    return decision and record.payload.get("term") == term


def _reference(ref: SecretRef) -> str:
    if ref.env is not None:
        return f"environment variable {code(ref.env)}"
    return f"file {code(ref.file)}" if ref.file is not None else f"libpq service {code(str(ref.service))}"


def _access(plan: Plan, observation: Observation) -> list[str]:
    if not plan.spec.spec.access:
        return ["## How clients reach it", "", "No access path is declared."]
    rows = [_access_row(path, _mapping(observation, f"access.{path.name}")) for path in plan.spec.spec.access]
    titles = ("Path", "Where it is set", "Value now", "Leads to", "Answers")
    return ["## How clients reach it", "", *table(titles, rows)]


def _access_row(path: AccessPath, seen: dict[str, JsonValue]) -> tuple[str, ...]:
    place = getattr(path, "file", None) or "command"
    detail = getattr(path, "pointer", None) or getattr(path, "variable", None) or getattr(path, "tunnel", None) or ""
    answers = {True: "yes", False: "NO"}.get(seen.get("answers"), "not asked")  # type: ignore[call-overload]
    return (
        md(path.title or path.name),
        f"{code(place)} {code(detail)}".strip(),
        code(shown(seen.get("value", "unknown"))),
        md(shown(seen.get("endpoint") or "unknown")),
        answers,
    )


def _fallback(plan: Plan, observation: Observation, primary: str | None, name: str) -> list[str]:
    if primary is None:
        return [
            "## Fallback",
            "",
            "Which endpoint is the fallback is as unknown as which one is primary: write to neither.",
        ]
    wished = plan.spec.spec.desired.fallback.mode.value
    fence = _mapping(observation, f"{name}.fence")
    writes = shown(observation.value(f"{name}.writes", "unknown"))
    state = "retired" if fence.get("retired") is True else _observed(plan, observation, primary, name, writes)
    lines = [
        "## Fallback",
        "",
        f"**{md(name)}** ({md(plan.spec.spec.endpoints[name].title)}) is the fallback; the plan wishes it {wished}, "
        f"observed: {md(state)}.",
        "",
        *_held(plan, primary, name),
    ]
    if writes == "frozen":
        lines.append("- Its fence refuses every write, also of owners and superusers. Only the tool removes it.")
    else:
        lines.append("- It is NOT proved frozen: let nobody write to it, and run the tool again.")
    return lines


def _observed(plan: Plan, observation: Observation, primary: str, name: str, writes: str) -> str:
    """A following side is frozen too, but for its stream: alone, either word would read like a fault."""
    if not _follows(plan, name) or writes != "frozen":
        return writes
    stream = stream_between(observation, name, primary)
    return f"frozen but for the stream into it, which {_DOES[stream.state] if stream.observed else _UNSEEN}"


def _held(plan: Plan, primary: str, name: str) -> list[str]:
    if not _follows(plan, name):
        return [
            "- It holds what there was at the cutover; nothing written since is there until somebody switches back."
        ]
    return [
        f"- It follows {md(primary)}: what is written there arrives here, as long as the stream runs. Whether going "
        "back loses nothing is what `observe` and `status` say.",
        f"- While it is away {md(primary)} keeps what it misses: {code(f'statehub-plan guard {_file(plan)}')} belongs "
        "into a timer, and gives the way back up before that fills the disk.",
    ]


def _follows(plan: Plan, name: str) -> bool:
    fallback = plan.spec.spec.desired.fallback
    return fallback.mode is FallbackMode.FOLLOWING and fallback.endpoint == name


def _back(plan: Plan, primary: str | None, fallback: str) -> list[str]:
    gates = dict.fromkeys(step.gate for step in plan.steps if step.gate is not None)
    names = list(gates) or [gate.name for gate in plan.spec.spec.gates]
    approve = [f"statehub-plan approve back.plan --gate {name} --key YOUR_SSH_KEY --reason WHY" for name in names]
    arrives, otherwise = f"its content is copied to {md(fallback)}", []
    if _follows(plan, fallback):
        arrives = "what is on its way arrives"
        otherwise = [
            "",
            f"Where {code('status')} says NOT LOSSLESS, {md(fallback)} lacks rows: going back refuses until that is "
            "mended, or copies everything anew; its plan says which.",
        ]
    return [
        "## How to go back",
        "",
        f"Going back is an ordinary plan with the roles exchanged: {md(primary or 'the primary')} is held, {arrives}, "
        f"both are proved equal, and only then does {md(fallback)} open. Nothing acknowledged is lost.",
        *otherwise,
        "",
        "```console",
        f"$ statehub-plan switchback {_file(plan)} -out back.plan",
        *(f"$ {line}" for line in approve),
        "$ statehub-plan apply back.plan",
        "```",
    ]


def _backups(plan: Plan, observation: Observation) -> list[str]:
    backup, spec = _mapping(observation, "backup"), plan.spec.spec
    newest = "none was found, or it could not be looked at"
    if "taken_at" in backup:
        sound = "checksums good" if backup.get("checksum_ok") is True else "CHECKSUMS NOT GOOD"
        of = shown(backup.get("endpoint") or "an unknown endpoint")
        newest = f"of {of}, taken {moment_of(backup.get('taken_at'))}, {sound}"
    passed_over = backup.get("passed_over")
    if isinstance(passed_over, list) and passed_over:
        newest += f"; passed over, because dated in the future: {', '.join(map(str, passed_over))}"
    outdated = backup.get("outdated")
    if isinstance(outdated, list) and outdated:
        newest += f"; of an earlier release, restorable by hand, but not counted: {', '.join(map(str, outdated))}"
    return [
        "## Backups and drills",
        "",
        f"- kept in {code(spec.backup.directory)}; one older than {spec.backup.max_age} does not count for a cutover",
        f"- newest: {md(newest)}",
        f"- take one: {code(f'statehub-plan backup {_file(plan)}')}",
        f"- prove that it restores: {code(f'statehub-plan drill restore {_file(plan)}')}",
        f"- restore drill: {_drill(observation, 'restore')}",
        f"- failover drill: {_drill(observation, 'failover')}",
    ]


def _drill(observation: Observation, name: str) -> str:
    value = _mapping(observation, f"drill.{name}")
    if not value:
        return "none on record"
    if value.get("state") == "unsigned":
        return f"could not be signed and does not count, {moment_of(value.get('at'))}"
    if value.get("state") == BEGUN:
        return f"begun, and no outcome is on record, {moment_of(value.get('at'))}"
    if value.get("passed") is True and drill_outdated(value):
        return f"of an earlier release and does not count, {moment_of(value.get('at'))}"
    return f"{'passed' if value.get('passed') is True else 'FAILED'} {moment_of(value.get('at'))}"


def _stabilization(plan: Plan, observation: Observation, records: tuple[Record, ...], now: datetime) -> list[str]:
    """What speaks for this plan, else whatever is on record."""
    found = {fact.id: fact.value for fact in journal_facts(records, now)} | {"": None}
    newest = found.get("stabilization") or observation.value("stabilization")
    decided, primary = read_register(plan.spec, observation).decided, identity_of_primary(plan.spec, observation)
    value = stabilization_for(plan.spec.spec.stabilization, newest, decided, primary) or newest
    if not isinstance(value, Mapping):
        return ["## Stabilization", "", "None is on record."]
    looks = value.get("looks")
    told = f"{shown(value.get('state'))}, since {moment_of(value.get('since'))}, until {moment_of(value.get('until'))}"
    count = counted(looks, "look") if isinstance(looks, int) else "looks unknown"
    bad = f"{shown(value.get('failures', 'unknown'))} bad"
    return ["## Stabilization", "", f"{md(told)}: {count}, {bad}; last: {md(shown(value.get('last')))}."]


def _gates(plan: Plan) -> list[str]:
    rows = [
        (
            md(gate.name),
            md(gate.title),
            ", ".join(kind.value for kind in gate.guards),
            md(approvals_needed(gate)),
            f"decide within {gate.decide_within}, execute within {gate.execute_within}",
        )
        for gate in plan.spec.spec.gates
    ]
    titles = ("Gate", "What it is about", "Guards", "Who approves", "Clocks")
    return ["## Gates and approvers", "", *(table(titles, rows) if rows else ["No gate is declared."])]


def _looking(plan: Plan) -> list[str]:
    file = _file(plan)
    folder = file.rpartition("/")[0] or "."
    return [
        "## How to see how it is",
        "",
        "```console",
        f"$ statehub-plan status {folder}",
        f"$ statehub-plan observe {file}",
        f"$ statehub-plan doctor {file}",
        f"$ statehub-plan history {file}",
        "```",
    ]


def _basis(plan: Plan, observation: Observation) -> list[str]:
    wanted = {f"{name}.{fact}" for name in plan.spec.spec.endpoints for fact in _BASIS}
    wanted |= {f"access.{path.name}" for path in plan.spec.spec.access} | {"backup", "stabilization"}
    rows = [_fact_row(fact) for fact in observation if fact.id in wanted and fact.reason is None]
    told = table(("Fact", "Value", "Seen", "How"), rows) if rows else ["No fact could be observed."]
    lines = ["## Written from", "", *told]
    return [*lines, *_unknown(observation)]


def _fact_row(fact: Fact) -> tuple[str, ...]:
    return code(fact.id), code(shown(fact.value, 120)), moment(fact.observed_at), md(shown(fact.how, 80))


def _unknown(observation: Observation) -> Iterator[str]:
    groups = gather_unknown(observation)
    if groups:
        yield ""
        yield "Could not be observed:"
        yield ""
        yield from (f"- {md(group.text(most=8))}" for group in groups)
