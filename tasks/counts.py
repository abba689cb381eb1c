"""How many tasks there are in each state: those that have not ended, and what became of the others lately."""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, extract, func, or_, select

from tasks.database import Database
from tasks.history import TaskFilter, chosen
from tasks.records import DEFAULT_PROJECT, now
from tasks.status import TERMINAL, TaskStatus
from tasks.tables import TASKS

RECENTLY = timedelta(hours=1)
"""How long a task is counted after it has ended."""
COUNT_SECONDS = 2.0
"""The shortest time between two counts for somebody who watches."""
RECOUNT_SECONDS = 60.0
"""How long a count is good for when nothing happens, while there are tasks in it that have ended."""
TOGETHER_SECONDS = 0.1
"""How long those who want to know the same are waited for."""


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """Tasks by state, and how long they waited in the queue, in seconds: the median, None where none has been sent."""

    by_status: Counter[TaskStatus]
    median_wait: float | None

    @property
    def lasting(self) -> bool:
        """Whether they stay as they are until something happens."""
        return not any(self.by_status[status] for status in TERMINAL)


class Recount:
    """When somebody who watches counts again: at `due`, in the time of the event loop; never, if that is None."""

    def __init__(self) -> None:
        self.due: float | None = -COUNT_SECONDS
        self._at = -COUNT_SECONDS
        self._known: TaskCounts | None = None
        self._changed = True

    def change(self) -> None:
        """Something has happened to the tasks."""
        self._changed = True
        self.due = self._at + COUNT_SECONDS

    def counted(self, at: float, counts: TaskCounts) -> bool:
        """Take what was counted; whether it is worth telling. `at` is when that was begun."""
        tell = self._changed or counts != self._known
        self._at, self._known, self._changed = at, counts, False
        self.due = None if counts.lasting else at + RECOUNT_SECONDS
        return tell


class Counts:
    """Counts the tasks of one project."""

    def __init__(self, database: Database, project: str = DEFAULT_PROJECT) -> None:
        self._database = database
        self._project = project
        self._counting: dict[Hashable, asyncio.Task[TaskCounts]] = {}
        created, submitted = TASKS.c.created_at, TASKS.c.submitted_at
        self._wait: ColumnElement[Any] = (
            (func.julianday(submitted) - func.julianday(created)) * 86400
            if database.sqlite
            else extract("epoch", submitted - created)
        )

    async def of(self, filter: TaskFilter) -> TaskCounts:
        """The tasks that match and have not ended, and those that match and have ended in the last hour.

        Whoever asks for the same at about the same moment gets the same answer, which is looked for after all of them
        have asked: a thousand dashboards cost as much as one.
        """
        counting = self._counting.get(filter.key)
        if counting is None:
            counting = self._counting[filter.key] = asyncio.create_task(self._count(filter), name="counts")
            counting.add_done_callback(_seen)
        return await asyncio.shield(counting)

    async def _count(self, filter: TaskFilter) -> TaskCounts:
        try:
            await asyncio.sleep(TOGETHER_SECONDS)
        finally:
            del self._counting[filter.key]
        recent = (
            # Only with the project out of its sight does SQLite take the indexes that lead to these few tasks.
            TASKS.c.project.concat("") == self._project,
            *chosen(filter),
            or_(
                TASKS.c.status.in_(set(TaskStatus) - TERMINAL),
                and_(TASKS.c.status.in_(TERMINAL), TASKS.c.finished_at >= now() - RECENTLY),
            ),
        )
        return await self._database.read(lambda connection: self._of(connection, recent))

    def _of(self, connection: Connection, recent: Sequence[ColumnElement[bool]]) -> TaskCounts:
        by_status = select(TASKS.c.status, func.count(), func.count(TASKS.c.submitted_at))
        found = connection.execute(by_status.where(*recent).group_by(TASKS.c.status)).all()
        counts = Counter({status: count for status, count, _ in found})
        sent = sum(sent for _, _, sent in found)
        if not sent:
            return TaskCounts(counts, None)
        # The one in the middle, or the two: the database sorts them, and nothing else leaves it.
        waits = select(self._wait).where(*recent, TASKS.c.submitted_at.is_not(None)).order_by(self._wait)
        middle = connection.execute(waits.offset((sent - 1) // 2).limit(2 - sent % 2)).scalars()
        return TaskCounts(counts, round(statistics.mean(map(float, middle)), 3))


def _seen(counting: asyncio.Task[TaskCounts]) -> None:
    """Whoever waits for it is told what went wrong; when all have left, nobody needs to know."""
    if not counting.cancelled():
        counting.exception()
