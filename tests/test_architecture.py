"""The shape of the house: who may import whom, and how big a room may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("graph", "resolvers", "tasks", "providers")
"""From the typed face down; each may import only itself and those after it."""
ONLY_IN = {
    "strawberry": ("graph",),
    "graphql": ("graph",),
    "dbos": ("tasks/engine.py",),
    "sqlmodel": ("tasks",),
    "sqlalchemy": ("tasks",),
    "starlette": ("graph", "providers/contract.py", "providers/sandbox", "providers/*/simulator*"),
    "uvicorn": ("graph",),
}
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}


def sources(*folders: str) -> Iterator[Path]:
    """The Python files of these folders."""
    for folder in folders:
        yield from (ROOT / folder).rglob("*.py")


def imports(path: Path) -> set[str]:
    """The modules a file imports, wherever in it that happens."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down_the_house_and_never_back(room: str) -> None:
    above = set(ROOMS[: ROOMS.index(room)]) | {"tests", "bench"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources(room)
        for module in imports(path)
        if module.split(".")[0] in above
    ]
    assert not wrong


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_known_only_in_its_room(library: str) -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in sources(*ROOMS)
        if any(module.split(".")[0] == library for module in imports(path))
        and not any(path.relative_to(ROOT).match(f"{place}*") or _inside(path, place) for place in ONLY_IN[library])
    ]
    assert not wrong


def _inside(path: Path, place: str) -> bool:
    return "*" not in place and path.is_relative_to(ROOT / place)


def test_no_file_is_longer_than_five_hundred_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources(*ROOMS, "tests", "bench")
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert not long


def test_every_file_is_named_after_what_it_holds() -> None:
    assert not [path for path in sources(*ROOMS, "tests", "bench") if {path.stem, *path.parts} & NAMELESS]


def test_every_module_of_the_product_says_what_it_is_for() -> None:
    product = [path for path in sources(*ROOMS) if "versions" not in path.parts]
    assert not [str(path) for path in product if not ast.get_docstring(ast.parse(path.read_text()))]
