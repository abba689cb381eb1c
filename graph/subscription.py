"""The subscriptions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry

import resolvers.events
from graph.context import Info
from graph.ids import key
from graph.query import unknown
from graph.types.events import TaskEvent, event_of
from tasks import events


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
    ) -> AsyncGenerator[TaskEvent, None]:
        """Replay, then live."""
        try:
            found = await resolvers.events.task_events(info.context.darkroom, key(id, "Task"), after)
        except resolvers.events.UnknownTaskError as exc:
            raise unknown(id, "task") from exc
        return _typed(found)


async def _typed(found: AsyncGenerator[events.TaskEvent, None]) -> AsyncGenerator[TaskEvent, None]:
    async with aclosing(found):
        async for event in found:
            yield event_of(event)
