"""The subscriptions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import aclosing
from typing import Annotated, cast

import strawberry

import resolvers.events
from graph.context import Info
from graph.ids import key
from graph.live.source import LiveEvent, Source
from graph.query import unknown
from graph.types.events import TaskEvent, event_of, skipped
from tasks import events
from tasks.darkroom import Darkroom
from tasks.records import TaskRecord


@strawberry.type(description="Watching. Leaving never cancels anything; coming back misses nothing.")
class Subscription:
    """Root of all subscriptions."""

    @strawberry.subscription(
        description="The events of one task: first the stored ones after `after`, then live ones as they happen. Ends "
        "after the terminal event (`TaskSucceeded`, `TaskFailed` or `TaskHandedOff`). A failure of the "
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
            task = await resolvers.events.watched(darkroom, key(id, "Task"))
        except resolvers.events.UnknownTaskError as exc:
            raise unknown(id, "task") from exc
        return cast(AsyncIterable[TaskEvent], TaskEvents(darkroom, task, after))


class TaskEvents(Source):
    """The events of one task."""

    __slots__ = ("_darkroom", "_task_id")

    def __init__(self, darkroom: Darkroom, task: TaskRecord, after: int) -> None:
        super().__init__(
            ("taskEvents", task.id), after=max(after, 0), newest=task.last_sequence, ended=task.status.terminal
        )
        self._darkroom = darkroom
        self._task_id = task.id

    async def live(self, after: int) -> AsyncGenerator[LiveEvent, None]:
        """As they are committed."""
        async with aclosing(self._darkroom.watch(self._task_id, after)) as found:
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
