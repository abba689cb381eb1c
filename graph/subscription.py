"""The subscriptions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import aclosing
from typing import Annotated, cast

import strawberry

import resolvers.events
from graph.activity import ActivityEvents
from graph.context import Info
from graph.errors import RequestError
from graph.ids import key
from graph.inputs import TaskFilterInput
from graph.live.source import LiveEvent, Source
from graph.query import unknown
from graph.types.activity import ActivityEvent
from graph.types.events import TaskEvent, event_of, skipped
from resolvers.events import Watched
from tasks import events
from tasks.darkroom import Darkroom
from tasks.errors import InvalidCursorError
from tasks.history import TaskFilter


@strawberry.type(description="Watching. Leaving never cancels anything; coming back misses nothing.")
class Subscription:
    """Root of all subscriptions."""

    @strawberry.subscription(
        description="The events of one task: first the stored ones after `after`, then live ones as they happen. Ends "
        "after the terminal event (`TaskSucceeded`, `TaskFailed`, `TaskCanceled` or `TaskHandedOff`). A failure of the "
        "task is an event, never an error."
    )
    async def task_events(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The task's id.")],
        after: Annotated[
            int,
            strawberry.argument(description="The sequence of the last event already seen; 0 for all of them."),
        ] = 0,
    ) -> AsyncIterable[TaskEvent]:
        """Replay, then live."""
        darkroom = info.context.darkroom
        try:
            watched = await resolvers.events.watched(darkroom, key(id, "Task"), max(after, 0))
        except resolvers.events.UnknownTaskError as exc:
            raise unknown(id, "task") from exc
        return cast(AsyncIterable[TaskEvent], TaskEvents(darkroom, watched, max(after, 0)))

    @strawberry.subscription(
        description="What happens to all tasks that match, for dashboards: first `ActivityStarted`, then changes and "
        "counts. It has no end. Changes of one task are collected, so that you get as much as you asked for; changes "
        "of state are never left out."
    )
    async def activity(
        self,
        info: Info,
        filter: Annotated[
            TaskFilterInput | None,
            strawberry.argument(
                description="Which tasks; all of them without it. One that leaves the states of the filter is told "
                "once more."
            ),
        ] = None,
        after: Annotated[
            str | None,
            strawberry.argument(description="The newest cursor you have, to get what has happened since then."),
        ] = None,
        max_per_second: Annotated[
            float, strawberry.argument(description="How often at most the same task is told again, from 0.1 to 20.")
        ] = 2.0,
    ) -> AsyncIterable[ActivityEvent]:
        """Everything at once."""
        if not 0.1 <= max_per_second <= 20:
            raise RequestError("INVALID_RATE", f"`maxPerSecond` is {max_per_second:g}; it must be from 0.1 to 20.")
        conditions = TaskFilter() if filter is None else await filter.conditions(info.context.darkroom)
        try:
            source = ActivityEvents(info.context.darkroom, conditions, after, max_per_second)
        except InvalidCursorError as exc:
            raise RequestError("INVALID_CURSOR", str(exc)) from exc
        return cast(AsyncIterable[ActivityEvent], source)


class TaskEvents(Source):
    """The events of one task."""

    __slots__ = ("_darkroom", "_first", "_read_at", "_task_id")

    def __init__(self, darkroom: Darkroom, watched: Watched, after: int) -> None:
        task = watched.task
        super().__init__(("taskEvents", task.id), after=after, newest=task.last_sequence, ended=task.status.terminal)
        self._darkroom = darkroom
        self._task_id = task.id
        self._first = watched.events
        self._read_at = watched.read_at

    def resume(self, cursor: str) -> None:
        """A sequence."""
        if cursor.isascii() and cursor.isdecimal() and len(cursor) < 16:
            self.after = int(cursor)
            self._first = ()

    def first(self) -> Sequence[LiveEvent]:
        """What was read together with the task."""
        events, self._first = self._first, ()
        return [_typed(event) for event in events]

    async def live(self, after: int) -> AsyncGenerator[LiveEvent, None]:
        """As they are committed."""
        async with aclosing(self._darkroom.watch(self._task_id, after, read_at=self._read_at)) as found:
            async for event in found:
                yield _typed(event)

    async def stored(self, after: int) -> Sequence[LiveEvent]:
        """From the log."""
        return [_typed(event) for event in await resolvers.events.stored(self._darkroom, self._task_id, after)]

    def skipped(self, last: LiveEvent, missed: int, resume_after: int) -> LiveEvent:
        """An `EventsSkipped`."""
        return LiveEvent(last.sequence, skipped(cast(TaskEvent, last.value), missed, resume_after))


def _typed(event: events.TaskEvent) -> LiveEvent:
    return LiveEvent(
        event.sequence,
        event_of(event),
        picture=isinstance(event.change, events.PartialImageReady | events.ImageReady),
        # Whether the row is the one of that moment or of now: a task that has ended gets no more events.
        last=event.task.status.terminal and event.sequence == event.task.last_sequence,
    )
