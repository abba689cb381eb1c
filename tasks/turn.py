"""Whose turn it is: a place in the queue of a provider, so that one project cannot keep the others waiting.

Start-time fair queueing: every task gets a number; a project's next task gets the next number, and a project that has
waited for nothing starts where the queue stands now. So ten tasks of one project and ten of another alternate, however
they arrived.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, func, select

from tasks.database import Database
from tasks.status import TaskStatus
from tasks.tables import TASKS

_OF_PROVIDER = TASKS.c.provider == bindparam("provider")
_OWN = (
    select(TASKS.c.turn)
    .where(_OF_PROVIDER, TASKS.c.project == bindparam("project"))
    .order_by(TASKS.c.number.desc())
    .limit(1)
)
_WAITING = select(func.min(TASKS.c.turn)).where(_OF_PROVIDER, TASKS.c.status == TaskStatus.QUEUED)
_NEWEST = select(func.max(TASKS.c.turn)).where(_OF_PROVIDER)
_STAND = select(_OWN.scalar_subquery(), _WAITING.scalar_subquery(), _NEWEST.scalar_subquery())
"""Where the queue stands: the turn of the project's newest task, of the first one that waits, and of the last."""


def next_turn(connection: Connection, project: str, provider: str) -> int:
    """The turn of a new task, inside the transaction that stores it."""
    last, first_waiting, highest = connection.execute(_STAND, {"provider": provider, "project": project}).one()
    now = first_waiting if first_waiting is not None else highest or 0
    return max(now, 0 if last is None else last + 1)


async def queue_positions(database: Database, task_ids: Iterable[str]) -> dict[str, int]:
    """The place of each task in the queue of its provider, from 1; tasks that are not waiting are missing."""
    task, before = TASKS.alias(), TASKS.alias()
    ahead = (
        select(func.count())
        .select_from(before)
        .where(
            before.c.provider == task.c.provider,
            before.c.status == TaskStatus.QUEUED,
            (before.c.turn < task.c.turn) | ((before.c.turn == task.c.turn) & (before.c.number < task.c.number)),
        )
        .correlate(task)
        .scalar_subquery()
    )
    statement = select(task.c.id, ahead).where(task.c.id.in_(list(task_ids)), task.c.status == TaskStatus.QUEUED)
    rows = await database.read(lambda connection: connection.execute(statement).all())
    return {task_id: count + 1 for task_id, count in rows}
