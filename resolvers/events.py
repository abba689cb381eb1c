"""`taskEvents`: watching one task."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from tasks.darkroom import Darkroom
from tasks.events import TaskEvent


class UnknownTaskError(LookupError):
    """There is no task with this id."""


async def task_events(darkroom: Darkroom, task_id: str, after: int) -> AsyncGenerator[TaskEvent, None]:
    """The events of a task: stored ones with a sequence above `after`, then live ones, until the terminal one.

    Raises `UnknownTaskError` before the first event.
    """
    if await darkroom.history.task(task_id) is None:
        raise UnknownTaskError(task_id)
    return darkroom.watch(task_id, after)
