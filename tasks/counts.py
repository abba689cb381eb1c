"""How many tasks there are in each state: those that have not ended, and what became of the others lately."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import or_, select

from tasks.database import Database
from tasks.history import TaskFilter, conditions
from tasks.records import DEFAULT_PROJECT, now
from tasks.status import TERMINAL, TaskStatus
from tasks.tables import TASKS

RECENTLY = timedelta(hours=1)
"""How far back the tasks that have ended are counted."""


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """Tasks by state, and how long they waited in the queue, in seconds: the median, None where none has been sent."""

    by_status: Counter[TaskStatus]
    median_wait: float | None


class Counts:
    """Counts the tasks of one project."""

    def __init__(self, database: Database, project: str = DEFAULT_PROJECT) -> None:
        self._database = database
        self._project = project

    async def of(self, filter: TaskFilter) -> TaskCounts:
        """The tasks that match and have not ended, and those that match and were started in the last hour."""
        status, created_at = TASKS.c.status, TASKS.c.created_at
        statement = select(status, created_at, TASKS.c.submitted_at).where(
            *conditions(filter, self._project),
            or_(status.not_in(TERMINAL), created_at >= now() - RECENTLY),
        )
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        waits = [(submitted - created).total_seconds() for _, created, submitted in rows if submitted is not None]
        return TaskCounts(Counter(status for status, _, _ in rows), _median(waits))


def _median(waits: Sequence[float]) -> float | None:
    return statistics.median(waits) if waits else None
