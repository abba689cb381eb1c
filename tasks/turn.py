"""Whose turn it is: a place in the queue of a provider, so that one project cannot keep the others waiting.

Start-time fair queueing: every task gets a number; a project's next task gets the next number, and a project that has
waited for nothing starts where the queue stands now. So ten tasks of one project and ten of another alternate, however
they arrived.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from tasks.database import Database
from tasks.records import TaskRecord
from tasks.status import TaskStatus

_OF_PROVIDER = col(TaskRecord.provider) == bindparam("provider")
_OWN = (
    select(col(TaskRecord.turn))
    .where(_OF_PROVIDER, col(TaskRecord.project) == bindparam("project"))
    .order_by(col(TaskRecord.number).desc())
    .limit(1)
)
_WAITING = select(func.min(col(TaskRecord.turn))).where(_OF_PROVIDER, col(TaskRecord.status) == TaskStatus.QUEUED)
_NEWEST = select(func.max(col(TaskRecord.turn))).where(_OF_PROVIDER)
_STAND = select(_OWN.scalar_subquery(), _WAITING.scalar_subquery(), _NEWEST.scalar_subquery())
"""Where the queue stands: the turn of the project's newest task, of the first one that waits, and of the last."""


def next_turn(session: Session, project: str, provider: str) -> int:
    """The turn of a new task, inside the transaction that stores it."""
    connection = session.connection()
    last, first_waiting, highest = connection.execute(_STAND, {"provider": provider, "project": project}).one()
    now = first_waiting if first_waiting is not None else highest or 0
    return max(now, 0 if last is None else last + 1)


async def queue_positions(database: Database, task_ids: Iterable[str]) -> dict[str, int]:
    """The place of each task in the queue of its provider, from 1; tasks that are not waiting are missing."""
    task, before = aliased(TaskRecord), aliased(TaskRecord)
    ahead = (
        select(func.count())
        .select_from(before)
        .where(
            col(before.provider) == col(task.provider),
            col(before.status) == TaskStatus.QUEUED,
            (col(before.turn) < col(task.turn))
            | ((col(before.turn) == col(task.turn)) & (col(before.number) < col(task.number))),
        )
        .correlate(task)
        .scalar_subquery()
    )
    statement = select(col(task.id), ahead).where(
        col(task.id).in_(list(task_ids)), col(task.status) == TaskStatus.QUEUED
    )
    rows = await database.read(lambda session: session.connection().execute(statement).all())
    return {task_id: count + 1 for task_id, count in rows}
