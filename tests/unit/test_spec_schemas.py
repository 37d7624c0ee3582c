"""The published JSON Schemas: the same verdicts as the models, and up to date."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from statehub_plan import schemas
from statehub_plan.cli import run
from statehub_plan.spec import starter
from statehub_plan.spec.shape import shape
from statehub_plan.spec.tree import read
from tests.unit.spec_marks import OBSERVED

PLANS = Path(__file__).parents[2] / "plans"


def plain(text: str) -> Any:
    """A document as JSON."""
    root = read(text.encode()).root
    assert root is not None
    return root.plain()


def document(name: str) -> Any:
    """One of the shipped plans, the starter, or an observed lane, as JSON."""
    if name.endswith(".yaml"):
        return plain((PLANS / name).read_text(encoding="utf-8"))
    return plain(starter("hub") if name == "starter" else OBSERVED)


NAMES = ["starter", "observed", *sorted(path.name for path in PLANS.glob("*.yaml"))]
EVERYTHING = [document(name) for name in NAMES]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 64, 65, 2.0, 0.5, "", "x", "x\n", "X y", "5s", "5s\n", "0s", "é" * 300, "x" * 4001),
    *("http://x", "http://${u}@x/", "ftp://x", "/a/b", "/a~2", "hold", "dump", "dumpp", "http", "sql", "*@ops", "T01"),
    *("CutoverPlan", "ObservedLane", "2026-06-27", "a.b", [], ["x"], [1], {}, {"x": 1}, {"env": "A"}),
    *({"kind": "file", "name": "f", "path": "p"}, [{"kind": "file"}], {"env": "A", "file": "b"}),
]
KEYS = ["kind", "name", "title", "equals", "atLeast", "pointer", "file", "env", "quorum", "x", "A B", "anyOf", "doneBy"]


def accepted_by_models(value: Any) -> bool:
    """The loader's verdict about the shape (not about what names and wishes mean together)."""
    seen = read(json.dumps(value).encode())
    return seen.root is not None and not seen.problems and not shape(seen.root)[1]


def agree(value: Any) -> bool:
    """Whether models and schema say the same about one JSON document, and what that is."""
    by_schema = schemas.problems(schemas.DOCUMENT, value)
    by_models = accepted_by_models(value)
    assert (by_schema == ()) == by_models, (by_schema, value)
    return by_models


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a document."""
    yield path
    for key, member in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from paths(member, (*path, key))


def parent(value: Any, path: tuple[Any, ...]) -> Any:
    """What holds the value that `path` leads to."""
    for step in path[:-1]:
        value = value[step]
    return value


@pytest.mark.parametrize("name", NAMES)
def test_schema_and_models_accept_what_is_shipped(name: str) -> None:
    """The three lanes, the starter and an observed lane are valid to both."""
    assert agree(document(name))


@pytest.mark.parametrize(("name", "stride"), [("starter", 13), ("observed", 1)])
def test_schema_and_models_agree_on_every_single_change(name: str, stride: int) -> None:
    """Every value deleted, and every value replaced by many others (by every thirteenth, another each time, in the long
    document): the verdicts are the same."""
    whole = document(name)
    verdicts = []
    for number, path in enumerate(path for path in paths(whole) if path):
        without = deepcopy(whole)
        del parent(without, path)[path[-1]]
        verdicts.append(agree(without))
        for value in VALUES[number % stride :: stride]:
            change = deepcopy(whole)
            parent(change, path)[path[-1]] = deepcopy(value)
            verdicts.append(agree(change))
    assert sum(verdicts) > 50
    assert len(verdicts) - sum(verdicts) > 50


@given(st.data())
def test_schema_and_models_agree_on_any_change(data: st.DataObject) -> None:
    """Several changes at once, to any of the documents: keys added, values taken from elsewhere."""
    value = deepcopy(data.draw(st.sampled_from(EVERYTHING)))
    donor = data.draw(st.sampled_from(EVERYTHING))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([path for path in paths(value) if path] or [("kind",)]))
        donated = data.draw(st.sampled_from(list(paths(donor))[1:]))
        new = data.draw(st.sampled_from(VALUES) | st.just(parent(donor, donated)[donated[-1]]))
        owner = parent(value, path)
        key = data.draw(st.sampled_from(KEYS)) if isinstance(owner, dict) and data.draw(st.booleans()) else path[-1]
        owner[key] = deepcopy(new)
    agree(value)


@pytest.mark.parametrize("name", sorted(schemas.schemas()))
def test_every_schema_is_one(name: str) -> None:
    """Each is valid draft 2020-12, has an id and a title of its own, and describes itself."""
    schema = schemas.schemas()[name]
    Draft202012Validator.check_schema(schema)
    assert f"urn:statehub-plan:schema:{name}:v1" == schema["$id"]
    assert schema["title"]
    assert schema["description"]


def test_editors_get_an_explanation_of_every_key() -> None:
    """Each key of a plan document is explained by itself or by what it refers to."""
    schema = schemas.schemas()[schemas.DOCUMENT]
    unexplained = [
        f"{name}.{key}"
        for name, part in schema["$defs"].items()
        for key, member in part.get("properties", {}).items()
        if not member.keys() & {"description", "$ref", "allOf", "items", "patternProperties"}
    ]
    assert [] == unexplained
    assert [] == [name for name, part in schema["$defs"].items() if "description" not in part]


def test_the_shipped_plans_tell_editors_their_schema() -> None:
    """The first line of each plan leads to the published schema."""
    for path in sorted(PLANS.glob("*.yaml")):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        reference = first.removeprefix("# yaml-language-server: $schema=")
        assert reference != first
        assert (schemas.DIRECTORY / "cutover-plan.schema.json").resolve() == (path.parent / reference).resolve()


def test_what_is_published_is_what_the_models_say() -> None:
    """`make check` fails on drift; so does this."""
    assert 0 == schemas.main(["--check"])


def test_drift_is_told_by_file_with_the_command_that_ends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A changed, a missing and a left-over schema are each named; writing them again is all it takes."""
    assert 0 == schemas.main(["--directory", str(tmp_path)])
    assert 0 == schemas.main(["--check", "--directory", str(tmp_path)])
    (tmp_path / "verdict.schema.json").write_text("{}", encoding="utf-8")
    (tmp_path / "journal-record.schema.json").unlink()
    (tmp_path / "old.schema.json").write_text("{}", encoding="utf-8")
    capsys.readouterr()
    assert 1 == schemas.main(["--check", "--directory", str(tmp_path)])
    assert [
        f"{tmp_path}/journal-record.schema.json is missing; run: python -m statehub_plan.schemas",
        f"{tmp_path}/old.schema.json belongs to no model; run: python -m statehub_plan.schemas",
        f"{tmp_path}/verdict.schema.json is not what the models say; run: python -m statehub_plan.schemas",
    ] == capsys.readouterr().err.splitlines()
    assert 0 == schemas.main(["--directory", str(tmp_path)])
    assert 0 == schemas.main(["--check", "--directory", str(tmp_path)])


@pytest.mark.parametrize(
    ("schema", "status", "arguments"),
    [
        ("output-validate", 0, ["validate", str(PLANS)]),
        ("output-validate", 1, ["validate", str(PLANS / "allowed_signers"), str(PLANS / "missing.yaml")]),
        ("output-failure", 1, ["history", str(PLANS / "missing.yaml")]),
        ("output-failure", 1, ["show", str(PLANS / "missing.json")]),
    ],
)
def test_what_json_prints_is_what_its_schema_says(
    schema: str, status: int, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--json` is a contract: the command line's output against the published schema, by the second opinion."""
    assert status == run([*arguments, "--json"])
    assert () == schemas.problems(schema, json.loads(capsys.readouterr().out))
