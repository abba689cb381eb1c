"""`retryTask`: the same again, as a new task that asks for what is missing."""

from __future__ import annotations

from tasks.darkroom import Darkroom
from tasks.records import TaskRecord


async def retry_task(darkroom: Darkroom, task_id: str, idempotency_key: str | None) -> TaskRecord | None:
    """The new task; None when there is no task with this id.

    Raises `tasks.errors.NotRetryableError`, or `tasks.errors.IdempotencyConflictError`.
    """
    return await darkroom.retry(task_id, idempotency_key=idempotency_key)
