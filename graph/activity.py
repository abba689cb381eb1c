"""What `activity` watches."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable, Sequence
from contextlib import aclosing
from itertools import count

import resolvers.activity
from graph.live.source import LiveEvent, Source
from graph.types.activity import activity_of
from tasks.activity import Activity, Counted, Started
from tasks.activity_log import Position, position_of
from tasks.counts import TaskCounts
from tasks.darkroom import Darkroom
from tasks.errors import InvalidCursorError
from tasks.history import TaskFilter


class ActivityEvents(Source):
    """What happens to all tasks that match. Raises `InvalidCursorError`.

    Whoever begins where the others are shares their events; whoever comes back from further behind has a stream of its
    own, because what is collected for it is different. Sequences count from the beginning of a stream, by twos: whoever
    begins in the middle of it gets two events that the others do not.
    """

    __slots__ = ("_counts", "_darkroom", "_filter", "_from", "_per_second", "_told", "_told_at")

    rereadable = False

    def __init__(self, darkroom: Darkroom, filter: TaskFilter, after: str | None, per_second: float) -> None:
        self._darkroom = darkroom
        self._filter = filter
        self._per_second = per_second
        self._from = None if after is None else position_of(after)
        self._told = 0
        self._told_at: Position | None = None
        self._counts: TaskCounts | None = None
        super().__init__(self._key(), after=0, newest=0, ended=False)

    def _key(self) -> Hashable:
        alone = None if self._from is None else object()
        return "activity", self._filter.key, self._per_second, alone

    def resume(self, cursor: str) -> None:
        """A position in the log of all tasks."""
        try:
            self._from = position_of(cursor)
        except InvalidCursorError:
            return
        self.key = self._key()

    async def live(self, after: int) -> AsyncGenerator[LiveEvent, None]:
        """As they are committed, collected."""
        numbers = count(after + 1, 2)
        found = resolvers.activity.activity(self._darkroom, self._filter, self._from, self._per_second)
        async with aclosing(found) as activities:
            async for activity in activities:
                # Known before anybody gets it: whoever comes in between begins behind it, and not before it.
                self._told, self._told_at = next(numbers), activity.position
                if isinstance(activity, Counted):
                    self._counts = activity.counts
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

    def skipped(self, last: LiveEvent, missed: int, resume_after: int) -> LiveEvent:
        """Never asked for: what is told here has been collected already."""
        raise NotImplementedError("only pictures are skipped, and none of these events is one")


def _live(number: int, activity: Activity) -> LiveEvent:
    return LiveEvent(number, activity_of(activity), cursor=activity.position.cursor)
