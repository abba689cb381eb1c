"""`taskEvents`: watching one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from tasks.darkroom import Darkroom
from tasks.events import TaskEvent
from tasks.patience import patiently
from tasks.records import TaskRecord


class UnknownTaskError(LookupError):
    """There is no task with this id."""


FIRST = 64
"""Most events that are read at once with the task itself; whoever needs more reads on."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A task that somebody wants to watch, as it is now, and its next events; `read_at` is what the feed's mark was
    before they were read."""

    task: TaskRecord
    events: Sequence[TaskEvent]
    read_at: int


async def watched(darkroom: Darkroom, task_id: str, after: int) -> Watched:
    """The task that somebody wants to watch. Raises `UnknownTaskError`."""
    read_at = darkroom.feed.mark
    task, events = await darkroom.history.events(task_id, after, FIRST)
    if task is None:
        raise UnknownTaskError(task_id)
    return Watched(task, events, read_at)


async def stored(darkroom: Darkroom, task_id: str, after: int) -> list[TaskEvent]:
    """The events of a task in the log with a sequence above `after`; none when the task is gone.

    While the database is away it just takes longer.
    """
    _, events = await patiently(partial(darkroom.history.events, task_id, after))
    return events
