"""JSON Schemas (draft 2020-12) of the plan documents and of everything that is stored or printed as JSON.

`python -m statehub_plan.schemas` writes them to schemas/; with `--check` it only tells whether they are what the models
say, and ends with 1 where they are not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, create_model

DIRECTORY = Path(__file__).resolve().parent.parent / "schemas"
DOCUMENT = "cutover-plan"
COMMAND = "python -m statehub_plan.schemas"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SUFFIX = ".schema.json"
_NAMES_TO_SCHEMAS = frozenset({"properties", "patternProperties", "$defs"})
_DATA = frozenset({"default", "const", "enum", "examples", "required", "dependentRequired", "discriminator"})

Schema = dict[str, Any]


def schemas() -> dict[str, Schema]:
    """Every published schema by name, `cutover-plan` (what people write) first."""
    return {DOCUMENT: _document_schema(), **{name: _artefact_schema(name, model) for name, model in _models().items()}}


def problems(name: str, value: Any) -> tuple[str, ...]:
    """What a published schema has against a JSON value, by the jsonschema library: the second opinion about the models
    that tests ask for. Regular expressions end where JSON Schema says (ECMA-262), not before a last line break as in
    Python, and 1.0 is not an integer, as in YAML."""
    found = sorted(_validator(name).iter_errors(value), key=lambda error: [str(step) for step in error.absolute_path])
    return tuple(f"{error.json_path}: {error.message}" for error in found)


def _models() -> dict[str, type[BaseModel]]:
    from statehub_plan.model import facts, output, plan, record
    from statehub_plan.policy import PolicyExplanation, PolicySummary
    from statehub_plan.postgres import backup_check, comparison, evidence, manifest
    from statehub_plan.status import Status

    return {
        "approval": record.SignedStatement,
        "approval-statement": record.Statement,
        "backup-manifest": manifest.Manifest,
        "drill-evidence": evidence.DrillEvidence,
        "journal-record": record.Record,
        "observation": facts.Observation,
        "output-approvals": output.ApprovalsOutput,
        "output-backup": evidence.BackupOutput,
        "output-backup-verify": backup_check.BackupCheck,
        "output-checks": output.ChecksOutput,
        "output-compare": comparison.Comparison,
        "output-demo": output.DemoOutput,
        "output-doctor": output.DoctorOutput,
        "output-drill": evidence.DrillOutput,
        "output-drill-failover": output.FailoverDrillOutput,
        "output-drill-verify": evidence.VerifiedEvidence,
        "output-failure": output.FailureOutput,
        "output-guard": output.GuardOutput,
        "output-history": output.HistoryOutput,
        "output-observe": output.ObserveOutput,
        "output-refresh": output.RefreshOutput,
        "output-rehearse": output.RehearseOutput,
        "output-policy-check": output.PolicyCheckOutput,
        "output-policy-explain": PolicyExplanation,
        "output-policy-list": create_model(
            "PolicyListOutput",
            __doc__="`policy list`: every policy of a bundle with its rules.",
            policies=(tuple[PolicySummary, ...], ...),
        ),
        "output-policy-test": output.PolicyTestOutput,
        "output-run": output.RunOutput,
        "output-sign": output.SignOutput,
        "output-status": Status,
        "output-validate": output.ValidateOutput,
        "plan-file": plan.PlanFile,
        "verdict": plan.Verdict,
    }


def _document_schema() -> Schema:
    from statehub_plan.model.spec import Document

    made = _transformed(_written(TypeAdapter(Document).json_schema()))
    head = _head(DOCUMENT, "statehub-plan document")
    head["description"] = "A plan to move a primary (CutoverPlan), or a lane that is only watched (ObservedLane)."
    return {**head, **made}


def _artefact_schema(name: str, model: type[BaseModel]) -> Schema:
    made = _transformed(model.model_json_schema(mode="serialization"))
    return {**_head(name, made.get("title", name)), **made}


def _head(name: str, title: str) -> Schema:
    return {"$schema": _DIALECT, "$id": f"urn:statehub-plan:schema:{name}:v1", "title": title}


def _mapped(schema: Any, change: Callable[[Schema], Schema]) -> Any:
    """`schema` with every schema in it changed, the innermost first. A property may be called like a keyword
    (`anyOf` is one), so names are told from keywords by where they stand."""
    if isinstance(schema, list):
        return [_mapped(one, change) for one in schema]
    if not isinstance(schema, dict):
        return schema
    changed: Schema = {}
    for key, value in schema.items():
        if key in _NAMES_TO_SCHEMAS:
            changed[key] = {name: _mapped(one, change) for name, one in value.items()}
        else:
            changed[key] = value if key in _DATA else _mapped(value, change)
    return change(changed)


def _transformed(schema: Schema) -> Schema:
    made: Schema = _mapped(schema, _change)
    return made


def _change(schema: Schema) -> Schema:
    """What pydantic's schemas leave open or say in OpenAPI's words."""
    if "patternProperties" in schema:
        schema = {**schema, "additionalProperties": False}
    properties = schema.get("properties")
    if isinstance(properties, dict) and "type" in schema:
        schema = {**schema, "properties": {key: _described(one, schema) for key, one in properties.items()}}
    if "discriminator" in schema:
        # A chain of ifs instead of oneOf: editors and validators then report what is wrong with the kind that was
        # written, rather than that none of the kinds fits.
        kinds: dict[str, str] = schema["discriminator"]["mapping"]
        rest = {key: value for key, value in schema.items() if key not in ("discriminator", "oneOf")}
        cases = [{"if": _is_kind(kind), "then": {"$ref": reference}} for kind, reference in kinds.items()]
        kind_is_known = {"type": "object", "required": ["kind"], "properties": {"kind": {"enum": sorted(kinds)}}}
        schema = {**rest, **kind_is_known, "allOf": cases}
    return schema


def _is_kind(kind: str) -> Schema:
    return {"required": ["kind"], "properties": {"kind": {"const": kind}}}


def _described(member: Any, owner: Schema) -> Any:
    """A property without pydantic's made-up title, and with its owner's words where it has none of its own."""
    if not isinstance(member, dict) or "properties" in member:
        return member
    plain = {key: value for key, value in member.items() if key != "title" or isinstance(value, dict)}
    scalar = plain.keys() & {"type", "enum", "const"} and plain.get("type") not in ("array", "object")
    if "description" in plain or "description" not in owner or not scalar:
        return plain
    return {**plain, "description": owner["description"]}


def _written(schema: Schema) -> Schema:
    """The schema of what a person writes: null, which is what a forgotten value looks like in YAML, is nowhere."""
    made: Schema = _mapped(schema, _without_null)
    return made


def _without_null(schema: Schema) -> Schema:
    if "anyOf" in schema:
        branches = [one for one in schema["anyOf"] if one.get("type") != "null"]
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        schema = {**rest, **branches[0]} if len(branches) == 1 else {**rest, "anyOf": branches}
    if isinstance(schema.get("default"), dict):
        schema = {**schema, "default": {key: one for key, one in schema["default"].items() if one is not None}}
    return {key: value for key, value in schema.items() if not (key == "default" and value is None)}


@cache
def _validator(name: str) -> Any:
    import re

    from jsonschema import Draft202012Validator, ValidationError, validators

    def pattern(_validator: Any, expression: str, instance: Any, _schema: Any) -> Any:
        if isinstance(instance, str) and not re.search(expression.replace("$", r"\Z"), instance):
            yield ValidationError(f"{instance!r} does not match {expression!r}")

    integer = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _checker, value: isinstance(value, int) and not isinstance(value, bool)
    )
    strict = validators.extend(  # type: ignore[no-untyped-call]
        Draft202012Validator, {"pattern": pattern}, type_checker=integer
    )
    schema = schemas()[name]
    strict.check_schema(schema)
    return strict(schema)


def _texts() -> dict[str, str]:
    return {
        f"{name}{_SUFFIX}": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas().items()
    }


def _drift(directory: Path) -> list[str]:
    """The files that are not what the models say, with what is wrong with each."""
    wanted = _texts()
    there = {path.name: path.read_text(encoding="utf-8") for path in sorted(directory.glob(f"*{_SUFFIX}"))}
    missing = [f"{directory / name} is missing" for name in wanted if name not in there]
    stale = [f"{directory / name} is not what the models say" for name in wanted if there.get(name, "") != wanted[name]]
    extra = [f"{directory / name} belongs to no model" for name in there if name not in wanted]
    return sorted({*missing, *(line for line in stale if line.split(" is ")[0] + " is missing" not in missing), *extra})


def main(arguments: list[str] | None = None) -> int:
    """Write or check the schemas; the exit status."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Write the JSON Schemas, or check them against the models."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where a file is not up to date")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where they are [default: schemas/]")
    chosen = parser.parse_args(arguments)
    drift = _drift(chosen.directory)
    if chosen.check:
        for line in drift:
            print(f"{line}; run: {COMMAND}", file=sys.stderr)
        return 1 if drift else 0
    chosen.directory.mkdir(parents=True, exist_ok=True)
    wanted = _texts()
    for path in chosen.directory.glob(f"*{_SUFFIX}"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (chosen.directory / name).write_text(text, encoding="utf-8")
    print(f"{len(wanted)} schemas in {chosen.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
