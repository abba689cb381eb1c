"""The one way a running task changes: row, event and picture in one transaction, fenced, then published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col

from tasks.database import Database
from tasks.errors import LostTaskError
from tasks.events import Change, TaskEvent, payload_of
from tasks.feed import Feed
from tasks.records import EventRecord, ImageRecord, TaskRecord, now
from tasks.status import TERMINAL
from tasks.uninterrupted import uninterrupted


class Journal:
    """Writes the event log of tasks and keeps their rows in step with it."""

    def __init__(self, database: Database, feed: Feed) -> None:
        self._database = database
        self._feed = feed

    def open(self, task: TaskRecord, change: Change, session: Session) -> TaskEvent:
        """Store a new task with its first event, inside the caller's transaction; `publish` it after the commit."""
        task.last_sequence = 1
        session.add(task)
        session.flush()
        return _log(session, task, change, None)

    async def claim(self, task_id: str) -> TaskRecord | None:
        """Take over a task that has not ended: from now on earlier runs of it cannot write. None if it has ended."""

        def claim(session: Session) -> TaskRecord | None:
            statement = (
                update(TaskRecord)
                .where(col(TaskRecord.id) == task_id, col(TaskRecord.status).not_in(TERMINAL))
                .values(run=TaskRecord.run + 1)
                .returning(TaskRecord)
            )
            claimed: TaskRecord | None = session.exec(statement).scalars().one_or_none()
            return claimed

        return await self._database.write(claim)

    async def append(
        self, task: TaskRecord, change: Change, *, image: ImageRecord | None = None, **values: Any
    ) -> TaskRecord:
        """Record a change of a claimed task: its row gets `values`, the log one more event, in one transaction.

        Returns the row as it is now. Raises `LostTaskError` when the claim has been lost or the task has ended. A
        caller that is cancelled meanwhile does not interrupt it: what has happened is recorded and published.
        """

        def append(session: Session) -> TaskEvent:
            statement = (
                update(TaskRecord)
                .where(
                    col(TaskRecord.id) == task.id,
                    col(TaskRecord.run) == task.run,
                    col(TaskRecord.status).not_in(TERMINAL),
                )
                .values(last_sequence=TaskRecord.last_sequence + 1, **values)
                .returning(TaskRecord)
            )
            row: TaskRecord | None = session.exec(statement).scalars().one_or_none()
            if row is None:
                raise LostTaskError(task.id, task.run)
            if image is not None:
                session.add(image)
            return _log(session, row, change, image)

        return await uninterrupted(self._write_and_publish(append))

    def publish(self, event: TaskEvent) -> None:
        """Tell the live subscribers about an event that has been committed."""
        self._feed.publish(event)

    async def _write_and_publish(self, append: Callable[[Session], TaskEvent]) -> TaskRecord:
        event = await self._database.write(append)
        self.publish(event)
        return event.task


def _log(session: Session, task: TaskRecord, change: Change, image: ImageRecord | None) -> TaskEvent:
    record = EventRecord(
        task_id=task.id,
        project=task.project,
        sequence=task.last_sequence,
        kind=change.kind,
        payload=payload_of(change),
        at=now(),
    )
    session.add(record)
    session.flush()
    return TaskEvent(task=task, sequence=record.sequence, at=record.at, change=change, image=image)
