"""Loading files and folders: what is read, what is refused before it is read, lanes that are judged together."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.base import digest
from statehub_plan.model.spec import CutoverPlan, ObservedLane
from statehub_plan.spec import LoadedDocument, load, load_folder, parse, starter
from tests.unit.spec_marks import OBSERVED, changed

PLANS = Path(__file__).parents[2] / "plans"


def refusal(path: Path) -> StatehubError:
    """What loading `path` is refused with."""
    with pytest.raises(StatehubError) as caught:
        load_folder(path) if path.is_dir() else load(path)
    return caught.value


def lane(name: str, *waits_for: str) -> str:
    """An observed lane that waits for others."""
    criteria = "".join(
        f"    - {{name: c{index}, lane: {one}, anyOf: [complete]}}\n" for index, one in enumerate(waits_for)
    )
    return OBSERVED.replace("name: lane", f"name: {name}") + (f"  entryCriteria:\n{criteria}" if criteria else "")


def test_a_loaded_document_knows_its_bytes_and_its_folder(tmp_path: Path) -> None:
    """The digest is that of the file, and relative paths start from its folder."""
    path = tmp_path / "hub.yaml"
    path.write_text(starter("hub"), encoding="utf-8")
    loaded = load(path)
    assert LoadedDocument(path, f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}", loaded.document) == loaded
    assert tmp_path == loaded.base_dir
    assert isinstance(loaded.document, CutoverPlan)
    assert "./backups" == loaded.document.spec.backup.directory


def test_the_document_means_the_same_on_every_machine(tmp_path: Path) -> None:
    """Paths are kept as written, so the digest of the document does not depend on where it lies."""
    documents = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "hub.yaml").write_text(starter("hub"), encoding="utf-8")
        documents.append(load(tmp_path / folder / "hub.yaml").document)
    assert digest(documents[0]) == digest(documents[1])


def test_a_document_survives_the_way_through_a_saved_plan() -> None:
    """What is stored as JSON is read back as the same model."""
    document = load(PLANS / "cust-wp-0011.yaml").document
    assert isinstance(document, CutoverPlan)
    assert document == CutoverPlan.model_validate_json(document.model_dump_json(by_alias=True))


@pytest.mark.parametrize("name", ["missing.yaml", "folder", "pipe", "loop", "nul\0.yaml"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, name: str) -> None:
    """A missing file, a folder, a pipe that nobody writes to and a circular link end at once, with a remedy."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StatehubError) as caught:
        load(tmp_path / name)
    assert ("spec-unreadable", Exit.ERROR) == (caught.value.code, caught.value.exit_status)
    assert "statehub-plan init" in caught.value.hint


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    """One byte more than allowed is enough to refuse ten gigabytes (a sparse file here)."""
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)
    error = refusal(path)
    assert (
        f"{path}:1:1: the file is larger than 1048576 bytes; a plan is a few kilobytes; is this the right file?",
    ) == (error.details)


def test_every_problem_names_its_file(tmp_path: Path) -> None:
    """The lines of a refusal are what an editor or a CI annotation understands: file:line:column."""
    path = tmp_path / "hub.yaml"
    path.write_text(changed("mode: frozen", "mode: froze"), encoding="utf-8")
    error = refusal(path)
    assert ("spec-invalid", Exit.ERROR, f"{path} is not a valid plan: 1 problem") == (
        error.code,
        error.exit_status,
        error.what,
    )
    assert (f"{path}:42:42: spec.desired.fallback.mode cannot be `froze`; did you mean `frozen`?",) == error.details


def test_at_most_a_hundred_problems_are_told() -> None:
    """A wrong file does not scroll the message away."""
    text = "kind: CutoverPlan\n" + "".join(f"key{index}: no\n" for index in range(200))
    with pytest.raises(StatehubError) as caught:
        parse(text.encode(), Path("x.yaml"))
    assert 101 == len(caught.value.details)
    assert "more problems; correct these first" in caught.value.details[-1]


def test_a_secret_is_neither_accepted_nor_repeated(tmp_path: Path) -> None:
    """A DSN with its password in a plan is refused, and no message, remedy or detail repeats it."""
    path = tmp_path / "hub.yaml"
    dsn = "postgresql://hub:c4nary-Qz7@db/hub"
    text = changed("{env: OLD_HOME_DSN}", f"{{env: '{dsn}', c4nary-Qz7: 1}}")
    path.write_text(changed("mode: frozen", "mode: c4nary-Qz7", text), encoding="utf-8")
    error = refusal(path)
    assert "there is a secret in the document" in str(error)
    assert "c4nary" not in str(error)
    assert 4 == len(error.details)


def test_a_folder_is_loaded_in_order_of_names(tmp_path: Path) -> None:
    """Both suffixes count; hidden and other files do not; an empty folder has no documents."""
    assert () == load_folder(tmp_path)
    for name in ("b.yaml", "a.yml", ".hidden.yaml", "allowed_signers"):
        (tmp_path / name).write_text(lane(name.strip(".")[0]), encoding="utf-8")
    assert ["a.yml", "b.yaml"] == [one.path.name for one in load_folder(tmp_path)]


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    """A folder that is not there is not an empty one."""
    with pytest.raises(StatehubError) as caught:
        load_folder(tmp_path / "missing")
    assert "spec-unreadable" == caught.value.code


def test_problems_of_all_files_are_told_together(tmp_path: Path) -> None:
    """One run over a folder tells everything that is wrong in it."""
    (tmp_path / "a.yaml").write_text(lane("a").replace("title: Nodes", "title: 1"), encoding="utf-8")
    (tmp_path / "b.yaml").write_text("a: [", encoding="utf-8")
    (tmp_path / "c.yaml").write_text(lane("c").replace("id: P1", "id: 'P 1'"), encoding="utf-8")
    error = refusal(tmp_path)
    assert ["a.yaml", "b.yaml", "c.yaml"] == [Path(line.split(":")[0]).name for line in error.details]


def test_lanes_of_a_folder_are_judged_together(tmp_path: Path) -> None:
    """The same name twice, a lane that is not there, lanes that wait for each other."""
    (tmp_path / "a.yaml").write_text(lane("a", "b"), encoding="utf-8")
    (tmp_path / "b.yaml").write_text(lane("b", "c"), encoding="utf-8")
    (tmp_path / "c.yaml").write_text(lane("c", "a", "dd"), encoding="utf-8")
    (tmp_path / "d.yaml").write_text(lane("ddd"), encoding="utf-8")
    (tmp_path / "e.yaml").write_text(
        lane("a").replace("service: hub", "service: hub, supersededBy: zzz"), encoding="utf-8"
    )
    assert [
        "a.yaml:11:24: this lane and c wait for each other, so neither can begin; take one of the entry criteria out",
        "b.yaml:11:24: this lane and a wait for each other, so neither can begin; take one of the entry criteria out",
        "c.yaml:11:24: this lane and b wait for each other, so neither can begin; take one of the entry criteria out",
        "c.yaml:12:24: there is no lane `dd` in this folder; did you mean `ddd`?",
        "e.yaml:3:18: another document is named `a` as well; give each lane its own name",
        "e.yaml:3:64: there is no lane `zzz` in this folder; write one of a, b, c, ddd",
    ] == [line.removeprefix(f"{tmp_path}/") for line in refusal(tmp_path).details]


def test_a_lane_may_be_in_the_file_that_could_not_be_read(tmp_path: Path) -> None:
    """No second problem follows from the first."""
    (tmp_path / "a.yaml").write_text(lane("a", "b"), encoding="utf-8")
    (tmp_path / "b.yaml").write_text("metadata: {name: b", encoding="utf-8")
    assert 1 == len(refusal(tmp_path).details)


def test_the_shipped_lanes_are_valid_together() -> None:
    """The three lanes of the migration strategy, with the gates that it names."""
    documents = {one.document.metadata.name: one.document for one in load_folder(PLANS)}
    assert ["cust-wp-0011", "cust-wp-0038", "rail-bs-wp-0007"] == sorted(documents)
    pragmatic, full_ha, substrate = (documents[name] for name in sorted(documents))
    assert isinstance(pragmatic, CutoverPlan)
    assert isinstance(full_ha, CutoverPlan)
    assert isinstance(substrate, ObservedLane)
    assert ["CUST-WP-0011-T07"] == [gate.name for gate in pragmatic.spec.gates]
    assert "CUST-WP-0038-T08" in [gate.name for gate in full_ha.spec.gates]
    assert ["active", "deferred", "deferred"] == [one.metadata.lane for one in (pragmatic, full_ha, substrate)]
    assert {"http", "sql", "command", "file", "kubernetes"} == {
        probe.kind for task in pragmatic.spec.tasks for probe in task.probes
    }


@given(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True, alphabet="abno019-"))
@example("no")
@example("1e5")
@example("0123")
@example("2026-06-27")
@example("x" * 63)
def test_the_starter_is_valid_whatever_it_is_called(name: str) -> None:
    """`init` writes a plan that validates as it is, also for names that YAML would take for something else."""
    assert name == parse(starter(name).encode(), Path("x.yaml")).document.metadata.name


@pytest.mark.parametrize("name", ["", "Hub", "a b", "-a", "a-", "x" * 64, "a\n", "../a"])
def test_a_name_that_no_lane_can_have_is_a_usage_error(name: str) -> None:
    """The starter is not written under a name that it would then refuse."""
    with pytest.raises(StatehubError) as caught:
        starter(name)
    assert ("name-invalid", Exit.USAGE) == (caught.value.code, caught.value.exit_status)


_LINES = [
    *starter("hub").splitlines(),
    "? a",
    "- x",
    "*a",
    "a: &b",
    "kind: ObservedLane",
    "  null: ~",
    "\t",
    "x: [",
    "é: '",
]


@given(st.lists(st.sampled_from(_LINES), max_size=40).map("\n".join).map(str.encode) | st.binary(max_size=200))
def test_any_bytes_are_a_plan_or_a_refusal(data: bytes) -> None:
    """Nothing but StatehubError ever comes out of the loader."""
    try:
        assert isinstance(parse(data, Path("x.yaml")), LoadedDocument)
    except StatehubError as error:
        assert error.details  # noqa: PT017


@given(st.data())
def test_a_plan_with_lines_cut_out_or_moved_is_a_plan_or_a_refusal(data: st.DataObject) -> None:
    """Near-valid documents reach every rule with something missing."""
    lines = starter("hub").splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(lines) - 1))
        length = data.draw(st.integers(1, 8))
        cut = lines[index : index + length]
        del lines[index : index + length]
        if data.draw(st.booleans()):
            at = data.draw(st.integers(0, len(lines)))
            lines[at:at] = cut
        lines = lines or ["\n"]
    try:
        parse("".join(lines).encode(), Path("x.yaml"))
    except StatehubError as error:
        assert error.details  # noqa: PT017
