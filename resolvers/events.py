"""`taskEvents`: watching one task."""

from __future__ import annotations

from tasks.darkroom import Darkroom
from tasks.events import TaskEvent
from tasks.records import TaskRecord


class UnknownTaskError(LookupError):
    """There is no task with this id."""


async def watched(darkroom: Darkroom, task_id: str) -> TaskRecord:
    """The task that somebody wants to watch, as it is now. Raises `UnknownTaskError`."""
    task = await darkroom.history.task(task_id)
    if task is None:
        raise UnknownTaskError(task_id)
    return task


async def stored(darkroom: Darkroom, task_id: str, after: int) -> list[TaskEvent]:
    """The events of a task in the log with a sequence above `after`; none when the task is gone."""
    _, events = await darkroom.history.events(task_id, after)
    return events
