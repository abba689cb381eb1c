"""The rows of the crash matrix, and their cells: what a test file lists in `ROWS`, and its tests ask about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.databases import DATABASES, Databases
from tests.crash.evidence import Vendor
from tests.crash.matrix import Aftermath
from tests.crash.points import Point
from tests.crash.variants import Case, Variant

Story = Callable[[Sequence[Case], Vendor, Path, Mapping[str, str]], Awaitable[Aftermath]]
"""What is done to a server on a database, with a task for each case."""


@dataclass(frozen=True)
class Row:
    """What happens, on one database, with a task at every place. One server has them all, to be quick."""

    story: Story = field(repr=False)
    database: str
    cases: Sequence[Case] = field(repr=False)

    def __str__(self) -> str:
        return self.database


@dataclass(frozen=True)
class Cell:
    """One task at one place."""

    row: Row
    case: Case

    def __str__(self) -> str:
        return f"{self.row}-{self.case}"


def rows(
    story: Story,
    variants: Iterable[Variant],
    *,
    databases: Sequence[str] = DATABASES,
    among: Callable[[Point], bool] = lambda point: True,
) -> list[Row]:
    """A row on each database, with those places of the variants that are `among` those it is about."""
    cases = [Case(variant, point) for variant in variants for point in variant.points if among(point)]
    return [Row(story, database, cases) for database in databases]


class Aftermaths:
    """What the rows have shown; each is gone through when it is first asked for."""

    def __init__(self, asked: Sequence[Cell], vendor: Vendor, databases: Databases) -> None:
        self._asked = asked
        self._vendor = vendor
        self._databases = databases
        self._stack = ExitStack()
        self._known: dict[int, Aftermath | AssertionError] = {}

    async def of(self, row: Row) -> Aftermath:
        """What a row has shown. Only the places that this run has tests for are visited, so that one can be looked
        at alone."""
        if id(row) not in self._known:
            self._known[id(row)] = await self._go_through(row)
        known = self._known[id(row)]
        if isinstance(known, AssertionError):
            raise known
        return known

    async def _go_through(self, row: Row) -> Aftermath | AssertionError:
        cases = [cell.case for cell in self._asked if cell.row is row] or row.cases
        home, settings = self._stack.enter_context(self._databases.of(row.database))
        try:
            return await row.story(cases, self._vendor, home, settings)
        except AssertionError as exc:
            return exc  # not to be tried again for every cell

    def close(self) -> None:
        """Throw the databases away."""
        self._stack.close()
