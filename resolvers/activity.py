"""`activity`: watching all tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence

from tasks.activity import Activity, Started, TaskChanged
from tasks.activity_log import Position
from tasks.darkroom import Darkroom
from tasks.history import TaskFilter


def activity(
    darkroom: Darkroom, filter: TaskFilter, after: Position | None, per_second: float
) -> AsyncGenerator[Activity, None]:
    """What happens to the tasks that match, after a position or from now on; see `tasks.activity`. Close it with
    `aclosing`."""
    return darkroom.activities.follow(filter, after, per_second)


def missed(darkroom: Darkroom, filter: TaskFilter, after: Position) -> Awaitable[Sequence[Started | TaskChanged]]:
    """What somebody has missed who comes back from a position, and goes on with the others; see `tasks.activity`."""
    return darkroom.activities.missed(filter, after)
