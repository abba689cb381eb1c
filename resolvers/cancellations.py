"""`cancelTask`: nobody waits for it any more."""

from __future__ import annotations

from providers.contract import CancelOutcome
from providers.errors import Transport
from tasks.cancellation import CANCELLATION, Cancellation
from tasks.darkroom import Darkroom
from tasks.failure import FAILURE
from tasks.records import TaskRecord
from tasks.status import TaskStatus


async def cancel_task(darkroom: Darkroom, task_id: str) -> TaskRecord | None:
    """The task as it is when canceling has had its effect; None when there is no task with this id."""
    return await darkroom.cancel(task_id)


def achieved(task: TaskRecord) -> Cancellation | None:
    """What a wish to cancel has achieved; None while it is only recorded.

    A task that had ended by itself keeps nothing about that: it was not canceled, and its row does not change any more.
    """
    if task.cancellation is not None:
        return CANCELLATION.validate_python(task.cancellation)
    if not task.status.terminal:
        return None
    failure = None if task.failure is None else FAILURE.validate_python(task.failure)
    return Cancellation(
        outcome=CancelOutcome.TOO_LATE,
        billed=task.status is TaskStatus.SUCCEEDED or (None if failure is None else failure.billed),
        transport=Transport(task.transport or Transport.NOT_SENT),
        message=f"It had ended before ({task.status.name}), so nothing was left to cancel. It stays as it is.",
    )
