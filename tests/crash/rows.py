"""The rows of the crash matrix, and their cells: what a test file lists in `ROWS`, and its tests ask about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.databases import DATABASES, Databases
from tests.crash.evidence import Vendor
from tests.crash.matrix import Aftermath
from tests.crash.points import Point
from tests.crash.variants import Variant

Story = Callable[[Variant, Sequence[Point], Vendor, Path, Mapping[str, str]], Awaitable[Aftermath]]
"""What is done to a server on a database, with a task of that variant at each of the points."""


@dataclass(frozen=True)
class Row:
    """What happens, on one database, with a task at every place that one way to ask passes."""

    story: Story = field(repr=False)
    database: str
    variant: Variant
    points: Sequence[Point] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.database}-{self.variant}"


@dataclass(frozen=True)
class Cell:
    """One place."""

    row: Row
    point: Point

    def __str__(self) -> str:
        return f"{self.row}-{self.point}"


def rows(
    story: Story,
    variants: Iterable[Variant],
    *,
    databases: Sequence[str] = DATABASES,
    without: Collection[str] = (),
) -> list[Row]:
    """A row for each variant on each database, with all places but those with the titles in `without`."""
    return [
        Row(story, database, variant, [point for point in variant.points if point.title not in without])
        for database in databases
        for variant in variants
    ]


class Aftermaths:
    """What the rows have shown; each is gone through when it is first asked for."""

    def __init__(self, asked: Sequence[Cell], vendor: Vendor, databases: Databases) -> None:
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
        points = [cell.point for cell in self._asked if str(cell.row) == str(row)] or row.points
        home, settings = self._stack.enter_context(self._databases.of(row.database))
        try:
            return await row.story(row.variant, points, self._vendor, home, settings)
        except AssertionError as exc:
            return exc  # not to be tried again for every cell

    def close(self) -> None:
        """Throw the databases away."""
        self._stack.close()
