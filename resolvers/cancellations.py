"""`cancelTask`: nobody waits for it any more."""

from __future__ import annotations

from tasks.darkroom import Darkroom
from tasks.records import TaskRecord


async def cancel_task(darkroom: Darkroom, task_id: str) -> TaskRecord | None:
    """The task as it is when canceling has had its effect; None when there is no task with this id."""
    return await darkroom.cancel(task_id)
