"""The tests of the crash matrix. A test file imports them, and says in `VARIANTS` which rows it is about.

The rows are spread over files because a file is the least that one test process takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.crash.databases import DATABASES, Databases
from tests.crash.evidence import Vendor
from tests.crash.matrix import Aftermath, Variant, die_and_recover
from tests.crash.oracle import assert_sound
from tests.crash.points import Point


@dataclass(frozen=True)
class Row:
    """All the places that one way to ask passes, on one database."""

    database: str
    variant: Variant

    def __str__(self) -> str:
        return f"{self.database}-{self.variant}"


@dataclass(frozen=True)
class Cell:
    """One place."""

    row: Row
    point: Point

    def __str__(self) -> str:
        return f"{self.row}-{self.point}"


class Aftermaths:
    """What the rows have shown; each is gone through when it is first asked for."""

    def __init__(self, asked: list[Cell], vendor: Vendor, databases: Databases) -> None:
        self._asked = asked
        self._vendor = vendor
        self._databases = databases
        self._stack = ExitStack()
        self._known: dict[str, Aftermath | AssertionError] = {}

    async def of(self, row: Row) -> Aftermath:
        """What a row has shown. Only the places that this run has tests for are visited, so that one can be looked
        at alone."""
        if str(row) not in self._known:
            self._known[str(row)] = await self._go_through(row)
        known = self._known[str(row)]
        if isinstance(known, AssertionError):
            raise known
        return known

    async def _go_through(self, row: Row) -> Aftermath | AssertionError:
        points = [cell.point for cell in self._asked if str(cell.row) == str(row)] or row.variant.points
        home, settings = self._stack.enter_context(self._databases.of(row.database))
        try:
            return await die_and_recover(row.variant, points, self._vendor, home, settings)
        except AssertionError as exc:
            return exc  # not to be tried again for every cell

    def close(self) -> None:
        """Throw the databases away."""
        self._stack.close()


@pytest.fixture(scope="module")
def aftermaths(request: pytest.FixtureRequest, vendor: Vendor, databases: Databases) -> Iterator[Aftermaths]:
    """What the rows have shown."""
    asked = [item.callspec.params.get("cell") for item in request.session.items if hasattr(item, "callspec")]
    found = Aftermaths([cell for cell in asked if isinstance(cell, Cell)], vendor, databases)
    yield found
    found.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each row, or for each of its cells."""
    rows = [Row(database, variant) for database in DATABASES for variant in metafunc.module.VARIANTS]
    if "row" in metafunc.fixturenames:
        metafunc.parametrize("row", rows, ids=str)
    if "cell" in metafunc.fixturenames:
        metafunc.parametrize("cell", [Cell(row, point) for row in rows for point in row.variant.points], ids=str)


@pytest.mark.anyio
async def test_a_task_killed_there_ends_with_the_truth(aftermaths: Aftermaths, cell: Cell) -> None:
    aftermath = await aftermaths.of(cell.row)
    found = aftermath.evidence[cell.point]

    assert_sound(found)
    assert aftermath.answered[cell.point] in (None, aftermath.repeated[cell.point])
    if cell.point.passage not in cell.row.variant.losing:
        assert found.task["status"] == "SUCCEEDED", str(found)


@pytest.mark.anyio
async def test_a_click_that_is_repeated_after_a_crash_makes_no_second_task(aftermaths: Aftermaths, row: Row) -> None:
    aftermath = await aftermaths.of(row)

    assert sorted(task["id"] for task in aftermath.tasks) == sorted(aftermath.repeated.values())


@pytest.mark.anyio
async def test_nothing_is_left_undone_and_nothing_is_complained_about(aftermaths: Aftermaths, row: Row) -> None:
    aftermath = await aftermaths.of(row)

    assert not aftermath.pending
    assert "Traceback" not in aftermath.log, aftermath.log
