"""The folder a plan lives in: its document, the other lanes, the journal, the approvals, and a look at the world."""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from statehub_plan import __version__
from statehub_plan.cli.elsewhere import document_of
from statehub_plan.cli.output import print_note
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.history import gates_passed, history_of, journal_facts, with_record
from statehub_plan.journal import Journal, file_of, open_journal
from statehub_plan.model.facts import Evidence, Fact, Observation
from statehub_plan.model.plan import Direction, Plan, PlanFile
from statehub_plan.model.record import GateState, History, Record
from statehub_plan.model.spec import CutoverPlan, ObservedLane, Probe
from statehub_plan.planning import make_plan, probe_digests, read_plan_file
from statehub_plan.registers import observed_decision, read_register
from statehub_plan.render.words import plain

AUTHOR_ENV = "STATEHUB_PLAN_AUTHOR"
HOME_ENV = "STATEHUB_PLAN_HOME"
JOURNAL_ENV = "STATEHUB_PLAN_JOURNAL"

_GIT_TIMEOUT_S = 5.0
_PORTS = {"http": 80, "https": 443}


def utc_now() -> datetime:
    """This moment; the one clock of the command line."""
    return datetime.now(UTC)


def author() -> str:
    """Who plans and applies: $STATEHUB_PLAN_AUTHOR, else git's user.email, else user@host, else uid-1000@host where
    nothing on this machine knows a name. Waits for git at most 5 s."""
    return os.environ.get(AUTHOR_ENV) or _email_of_git() or f"{_user()}@{socket.gethostname()}"


def _email_of_git() -> str:
    """Empty where git is not there, knows none, or does not answer (a home on a drive that is away)."""
    command = ["git", "config", "user.email"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no passwd entry, as in a container with any uid; OSError since Python 3.13
        return f"uid-{os.getuid()}"


class Workspace:
    """Everything around one plan document. Opens the journal on first use; use as a context manager."""

    def __init__(self, document: CutoverPlan, path: Path, digest: str) -> None:
        self.document = document
        self.path = path.absolute()
        self.digest = digest
        self.base_dir = self.path.parent
        self.home = Path(os.environ.get(HOME_ENV) or self.base_dir / ".statehub-plan")
        self._journal: Journal | None = None
        self._read_last: tuple[Record, ...] = ()
        self._lanes: dict[str, CutoverPlan | ObservedLane] | None = None

    @classmethod
    def load(cls, path: Path) -> Workspace:
        """The workspace of a plan document; a refusal for a lane that is only observed."""
        from statehub_plan.spec import load

        loaded = load(path)
        if not isinstance(loaded.document, CutoverPlan):
            raise StatehubError(
                code="observed-lane",
                what=f"{path} describes a lane that is observed and never carried out",
                hint="`statehub-plan status` shows it; plan one of the CutoverPlan documents instead",
            )
        return cls(loaded.document, loaded.path, loaded.text_digest)

    @classmethod
    def of_plan(cls, plan: Plan, named: Path | None = None) -> Workspace:
        """The workspace that a saved plan was made in, or the same in this checkout (`document_of` finds it); its
        document is the one inside the plan."""
        return cls(plan.spec, document_of(plan, named, Path.cwd()), plan.spec_digest)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._journal is not None:
            self._journal.close()

    @property
    def service(self) -> str:
        """The service whose lanes share one lease and one journal."""
        return self.document.metadata.service

    @property
    def approvals_dir(self) -> Path:
        """Where signed statements are kept, one file each."""
        return self.home / "approvals"

    @property
    def bundle_dir(self) -> Path:
        """The Rego bundle that judges this plan."""
        return self.base_dir / self.document.spec.policy.bundle

    @property
    def journal(self) -> Journal:
        """The journal: $STATEHUB_PLAN_JOURNAL (path or PostgreSQL URL), else a SQLite file in the home folder, which is
        made if it is not there."""
        if self._journal is None:
            named = os.environ.get(JOURNAL_ENV)
            if not named:
                self.home.mkdir(mode=0o700, exist_ok=True)
            self._journal = open_journal(named or self.home / "journal.db")
        return self._journal

    @property
    def journal_file(self) -> Path | None:
        """Where the journal is, or would be, as a file; None where it is in PostgreSQL."""
        return file_of(os.environ.get(JOURNAL_ENV) or self.home / "journal.db")

    def records(self) -> tuple[Record, ...]:
        """Every record of the service, oldest first; nothing when there is no journal yet."""
        self._read_last = self.journal.records(service=self.service) if self._journal_exists() else ()
        return self._read_last

    def verify_journal(self) -> int:
        """The number of records of the whole journal, all services', after checking their chain; 0 when there is no
        journal yet. A service without records may be one whose records were taken away: this is what tells."""
        return self.journal.verify() if self._journal_exists() else 0

    def _journal_exists(self) -> bool:
        """Or may: a database that is named is asked. Looking makes neither journal nor home folder."""
        return self._journal is not None or bool(os.environ.get(JOURNAL_ENV)) or (self.home / "journal.db").exists()

    def lanes(self) -> dict[str, CutoverPlan | ObservedLane]:
        """The documents of the folder by lane name. One that does not load is left out: its lane is then unknown."""
        if self._lanes is None:
            from statehub_plan.spec import load

            found: dict[str, CutoverPlan | ObservedLane] = {}
            wanted = {one.lane for one in self.document.spec.entry_criteria}
            for path in sorted(self.base_dir.glob("*.yaml")) if wanted else ():
                try:
                    document = load(path).document
                except StatehubError:
                    continue
                found[document.metadata.name] = document
            self._lanes = found
        return self._lanes

    def history(self, observation: Observation, run: str = "") -> History:
        """What the journal says about this plan's past and, held against what is observed, its entry criteria."""
        seen = observed_decision(self.document, observation)
        return history_of(self.document, self.lanes(), self.records(), run, seen=seen, believed=False)

    def observe(
        self, document: CutoverPlan | None = None, *, deep: bool = True, unrecorded: bool = False
    ) -> tuple[Observation, tuple[Evidence, ...]]:
        """All facts, with those that only the journal knows, and the evidence of every task. `unrecorded`: by what was
        last read of the journal, which is not asked again."""
        from statehub_plan.observe import observe, observe_evidence

        document = document or self.document
        records = self._read_last if unrecorded else self.records()
        extra: tuple[Fact, ...] = journal_facts(records, utc_now())
        observation = observe(document, self.base_dir, now=utc_now, deep=deep, extra=extra)
        evidence = observe_evidence(document.spec.tasks, document, self.base_dir, utc_now) if deep else ()
        return observation, self._with_record(document, observation, evidence, records)

    def _with_record(
        self,
        document: CutoverPlan,
        observation: Observation,
        evidence: tuple[Evidence, ...],
        records: tuple[Record, ...],
    ) -> tuple[Evidence, ...]:
        new = document.spec.desired.primary
        transfer = observation.value(f"{new}.transfer")
        register = read_register(document, observation)
        term = transfer.get("term") if isinstance(transfer, dict) else None
        if register.primary in (None, new) or not isinstance(term, int) or term <= register.decided:
            return evidence
        about = {
            f"{task.id}/{probe.name}"
            for task in document.spec.tasks
            for probe in task.probes
            if _looks_at(document, probe, new)
        }
        definitions = {key: value for key, value in probe_digests(document).items() if key in about}
        own = tuple(record for record in records if record.plan_name == document.metadata.name)
        return with_record(evidence, definitions, own, utc_now())

    def plan(
        self,
        document: CutoverPlan,
        observation: Observation,
        evidence: tuple[Evidence, ...],
        direction: Direction = Direction.FORWARD,
    ) -> Plan:
        """A plan for `document` (this one, or this one turned around), not yet judged."""
        return make_plan(
            document,
            observation=observation,
            evidence=evidence,
            now=utc_now(),
            author=author(),
            tool_version=__version__,
            spec_digest=self.digest,
            spec_path=str(self.path),
            direction=direction,
        )

    def gates(self, plan: Plan, run: str = "") -> tuple[GateState, ...]:
        """Every gate of the plan with the approvals that count for it now. With a `run`, whoever asks carries the plan
        out, and is then an author too."""
        from statehub_plan.approvals.collect import collect

        return collect(
            plan,
            self.base_dir,
            self.approvals_dir,
            utc_now(),
            authors=(author(),) if run else (),
            gates_passed=gates_passed(self.records(), run) if run else (),
        )


def _looks_at(document: CutoverPlan, probe: Probe, endpoint: str) -> bool:
    """Whether a probe names this endpoint; files and commands say nothing about what they look at."""
    if probe.kind in ("sql", "kubernetes"):
        return probe.endpoint == endpoint
    api = document.spec.endpoints[endpoint].api
    return probe.kind == "http" and api is not None and _is_under(probe.url, api.base_url)


def _is_under(url: str, base_url: str) -> bool:
    """Same scheme, host and port, and the same path or one below it; never for an address that is none."""
    one, base = _address(url), _address(base_url)
    if one is None or base is None or one[:-1] != base[:-1]:
        return False
    path = base[-1].rstrip("/")
    return one[-1].rstrip("/") == path or one[-1].startswith(f"{path}/")


def _address(url: str) -> tuple[str, str | None, int | None, str] | None:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme), parts.path
    except ValueError:  # no such port, half of an IPv6 address
        return None


def load_plan(path: Path) -> Plan:
    """A saved plan; a refusal when it cannot be read, is no plan, or was changed since it was saved."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise StatehubError(
            code="plan-unreadable",
            what=f"the plan file {path} cannot be read: {error.strerror or error}",
            hint="make one with `statehub-plan plan DOCUMENT -out FILE`",
        ) from None
    if not text.lstrip().startswith(b"{") and re.search(rb"^apiVersion: *[\"']?statehub-plan/", text, re.MULTILINE):
        raise StatehubError(
            code="plan-is-document",
            what=f"{path} is a plan document, and what is approved and applied is a saved plan of it",
            hint=f"plan it first: `statehub-plan plan {path} -out FILE`",
        )
    return read_plan_file(text, str(path), _parse)


def _parse(text: bytes) -> PlanFile:
    try:
        return PlanFile.model_validate_json(text)
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise StatehubError(
            code="plan-tampered",
            what=f"this is not a saved plan of this version: {first}",
            hint="make the plan again with `plan -out`; a plan file is never edited",
            exit_status=Exit.STALE_PLAN,
        ) from None


def opened(planfile: Path, named: Path | None) -> tuple[Plan, Workspace]:
    """A saved plan and its workspace. Says on stderr which folder that is where nobody would expect it: the folder
    decides who may approve and which policies are asked, and the plan file is whoever's word it is."""
    plan = load_plan(planfile)
    workspace = Workspace.of_plan(plan, named)
    near = (Path.cwd(), planfile.absolute().parent)
    expected = any(workspace.base_dir.is_relative_to(one) or one.is_relative_to(workspace.base_dir) for one in near)
    made_here = workspace.path == Path(plan.spec_path)
    if named is None and not (expected and made_here):
        where = "where this plan was made" if made_here else "and so is the journal unless another is named"
        folder = plain(str(workspace.base_dir))
        print_note(f"note: policies, signers and approvals are those of {folder}, {where}")
    return plan, workspace


def save_plan(plan: Plan, path: Path) -> None:
    """The plan as canonical JSON with its digest, written whole or not at all."""
    from statehub_plan.model.base import canonical

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(canonical(PlanFile.seal(plan)) + b"\n")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StatehubError(
            code="plan-unwritable",
            what=f"the plan could not be written to {path}: {error.strerror or error}",
            hint="choose a path in a writable folder with free space",
        ) from None
