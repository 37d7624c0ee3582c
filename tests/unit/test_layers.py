"""Imports go downward only: pure rooms never touch the world, steps never reach the applier."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import statehub_plan

PACKAGE = Path(statehub_plan.__file__).parent
GROUND = {"errors", "model", "moments", "world", "__init__"}
PURE = {
    "transitions",
    "planner",
    "planning",
    "history",
    "abstraction",
    "registers",
    "status",
    "render",
    "jsonpointer",
    "reporter",
    "streams",
}
WORLD = {
    "redact",
    "components",
    "processes",
    "spec",
    "access",
    "observe",
    "policy",
    "journal",
    "postgres",
    "signatures",
    "approvals",
    "steps",
}
FORBIDDEN_IN_PURE = {"psycopg", "socket", "subprocess", "urllib", "http", "sqlite3", "requests", "opa_client"}


def room_of(path: Path) -> str:
    """The room that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Top-level names of everything a module imports, `statehub_plan.x` as `.x`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            own = parts[0] == "statehub_plan"
            found.add("." + (parts[1] if len(parts) > 1 else "__init__") if own else parts[0])
    return found


def modules(*rooms: str) -> list[Path]:
    """All modules of some rooms."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if room_of(path) in rooms]


ALLOWED = {
    **dict.fromkeys(GROUND, GROUND),
    **dict.fromkeys(PURE, GROUND | PURE),
    **dict.fromkeys(WORLD, GROUND | PURE | WORLD),
    "apply": GROUND | PURE | WORLD | {"apply"},
}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_from_rooms_below(room: str) -> None:
    """The order of the house, as written in the design."""
    for path in modules(room):
        own = {name.removeprefix(".") for name in imported(path) if name.startswith(".")}
        assert set() == own - ALLOWED[room] - {room}, path


def test_pure_rooms_import_nothing_that_touches_the_world() -> None:
    """Planning and rendering can be tested, replayed and model-checked because they cannot do anything."""
    for path in modules(*GROUND, *PURE):
        assert set() == imported(path) & FORBIDDEN_IN_PURE, path


def test_only_the_applier_and_the_cli_reach_step_effects() -> None:
    """Whoever can call a step can change the world; that is one room and the wiring."""
    for path in PACKAGE.rglob("*.py"):
        if ".steps" in imported(path):
            assert room_of(path) in {"steps", "apply", "cli"}, path
