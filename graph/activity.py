"""What `activity` watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from itertools import count

import resolvers.activity
from graph.live.source import LiveEvent, Prelude, Source
from graph.types.activity import activity_of
from tasks.activity import Activity, Counted, Started
from tasks.activity_log import Position, position_of
from tasks.counts import TaskCounts
from tasks.darkroom import Darkroom
from tasks.errors import InvalidCursorError
from tasks.history import TaskFilter


class ActivityEvents(Source):
    """What happens to all tasks that match. Raises `InvalidCursorError`.

    All share the same events. Whoever comes back from further behind is told first, by itself, what it has missed.
    Sequences count from the beginning of a stream, by twos: whoever begins in the middle of it gets two events that the
    others do not.
    """

    __slots__ = ("_begun", "_counts", "_darkroom", "_filter", "_from", "_per_second", "_told", "_told_at")

    rereadable = False

    def __init__(self, darkroom: Darkroom, filter: TaskFilter, after: str | None, per_second: float) -> None:
        self._darkroom = darkroom
        self._filter = filter
        self._per_second = per_second
        self._from = None if after is None else position_of(after)
        self._told = 0
        self._told_at: Position | None = None
        self._counts: TaskCounts | None = None
        self._begun = asyncio.Event()
        super().__init__(("activity", filter.key, per_second), after=0, newest=0, ended=False)

    @property
    def place(self) -> str | None:
        """A position in the log of all tasks."""
        return None if self._from is None else self._from.cursor

    def resume(self, cursor: str) -> None:
        """A position in the log of all tasks."""
        with suppress(InvalidCursorError):
            self._from = position_of(cursor)

    async def begun(self) -> None:
        """There is something to go on with."""
        await self._begun.wait()

    async def prelude(self, shared: Source) -> Prelude:
        """What was missed, with the newest counts behind the first change."""
        assert isinstance(shared, ActivityEvents)
        assert self._from is not None
        # These are what the others know at the moment up to which is looked for what was missed.
        then, counts = shared._told, shared._counts
        found: list[Activity] = [*await resolvers.activity.missed(self._darkroom, self._filter, self._from)]
        if counts is not None:
            found.insert(2, Counted(found[:2][-1].position, counts))
        return Prelude([_live(number, activity) for number, activity in enumerate(found, 1)], then)

    async def live(self, after: int) -> AsyncGenerator[LiveEvent, None]:
        """As they are committed, collected."""
        numbers = count(after + 1, 2)
        found = resolvers.activity.activity(self._darkroom, self._filter, None, self._per_second)
        async with aclosing(found) as activities:
            async for activity in activities:
                # Known before anybody gets it: whoever comes in between begins behind it, and not before it.
                self._told, self._told_at = next(numbers), activity.position
                if isinstance(activity, Counted):
                    self._counts = activity.counts
                self._begun.set()
                yield _live(self._told, activity)

    async def stored(self, after: int) -> Sequence[LiveEvent]:
        """For whoever comes later, a beginning of its own; for whoever was too slow, a new one. Both with the newest
        counts, because on a quiet server the next may be hours away."""
        if self._told_at is None or self._told <= after:
            return []
        started = Started(self._told_at, complete=after == 0)
        if self._counts is None:
            return [_live(self._told, started)]
        return [_live(self._told - 1, started), _live(self._told, Counted(self._told_at, self._counts))]

    async def __aiter__(self) -> AsyncIterator[object]:
        """The values alone, with what was missed."""
        found = resolvers.activity.activity(self._darkroom, self._filter, self._from, self._per_second)
        async with aclosing(found) as activities:
            async for activity in activities:
                yield activity_of(activity)

    def skipped(self, last: LiveEvent, missed: int, resume_after: int) -> LiveEvent:
        """Never asked for: what is told here has been collected already."""
        raise NotImplementedError("only pictures are skipped, and none of these events is one")


def _live(number: int, activity: Activity) -> LiveEvent:
    return LiveEvent(number, activity_of(activity), cursor=activity.position.cursor)
