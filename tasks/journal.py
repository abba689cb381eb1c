"""The one way a running task changes: row, event and picture in one transaction, fenced, then published."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import update
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from tasks.database import Database
from tasks.errors import LostTaskError
from tasks.events import Change, TaskEvent, payload_of
from tasks.feed import Feed
from tasks.records import EventRecord, ImageRecord, TaskRecord, now
from tasks.status import TERMINAL


class Journal:
    """Writes the event log of tasks and keeps their rows in step with it."""

    def __init__(self, database: Database, feed: Feed) -> None:
        self._database = database
        self._feed = feed

    async def open(self, task: TaskRecord, change: Change, session: AsyncSession) -> TaskEvent:
        """Store a new task with its first event, inside the caller's transaction; `publish` it after the commit."""
        task.last_sequence = 1
        session.add(task)
        await session.flush()
        return await self._log(session, task, change, None)

    async def claim(self, task_id: str) -> TaskRecord | None:
        """Take over a task that has not ended: from now on earlier runs of it cannot write. None if it has ended."""
        async with self._database.write() as session:
            statement = (
                update(TaskRecord)
                .where(col(TaskRecord.id) == task_id, col(TaskRecord.status).not_in(TERMINAL))
                .values(run=TaskRecord.run + 1)
                .returning(TaskRecord)
            )
            claimed: TaskRecord | None = (await session.exec(statement)).scalars().one_or_none()
        return claimed

    async def append(
        self, task: TaskRecord, change: Change, *, image: ImageRecord | None = None, **values: Any
    ) -> TaskRecord:
        """Record a change of a claimed task: its row gets `values`, the log one more event, in one transaction.

        Returns the row as it is now. Raises `LostTaskError` when the claim has been lost or the task has ended. A
        caller that is cancelled meanwhile does not interrupt it: what has happened is recorded, then it is cancelled.
        """
        writing = asyncio.ensure_future(self._append(task, change, image, values))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise

    async def _append(
        self, task: TaskRecord, change: Change, image: ImageRecord | None, values: dict[str, Any]
    ) -> TaskRecord:
        async with self._database.write() as session:
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
            row: TaskRecord | None = (await session.exec(statement)).scalars().one_or_none()
            if row is None:
                raise LostTaskError(task.id, task.run)
            if image is not None:
                session.add(image)
            event = await self._log(session, row, change, image)
        self.publish(event)
        return row

    def publish(self, event: TaskEvent) -> None:
        """Tell the live subscribers about an event that has been committed."""
        self._feed.publish(event)

    async def _log(
        self, session: AsyncSession, task: TaskRecord, change: Change, image: ImageRecord | None
    ) -> TaskEvent:
        record = EventRecord(
            task_id=task.id,
            project=task.project,
            sequence=task.last_sequence,
            kind=change.kind,
            payload=payload_of(change),
            at=now(),
        )
        session.add(record)
        await session.flush()
        return TaskEvent(task=task, sequence=record.sequence, at=record.at, change=change, image=image)
