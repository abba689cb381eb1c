"""`activity`: watching all tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from tasks.activity import Activity
from tasks.activity_log import Position
from tasks.darkroom import Darkroom
from tasks.history import TaskFilter


def activity(
    darkroom: Darkroom, filter: TaskFilter, after: Position | None, per_second: float
) -> AsyncGenerator[Activity, None]:
    """What happens to the tasks that match, after a position or from now on; see `tasks.activity`. Close it with
    `aclosing`."""
    return darkroom.activities.follow(filter, after, per_second)
