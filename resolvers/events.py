"""`taskEvents`: watching one task."""

from __future__ import annotations

from functools import partial

from tasks.darkroom import Darkroom
from tasks.events import TaskEvent
from tasks.patience import patiently
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
    """The events of a task in the log with a sequence above `after`; none when the task is gone.

    While the database is away it just takes longer.
    """
    _, events = await patiently(partial(darkroom.history.events, task_id, after))
    return events
