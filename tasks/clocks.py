"""The three clocks of a task: how long it may wait, how long it may be generated, and how long both may take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from providers.errors import FailureCode, Transport
from tasks.failure import Failure
from tasks.records import TaskRecord, now
from tasks.status import TaskStatus


class ExpiredError(Exception):
    """A clock of the task has run out."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Clocks:
    """How long each may run, in seconds."""

    queue: float
    generation: float
    total: float

    def queue_began_before(self) -> datetime:
        """What was started before this time and still waits has waited too long."""
        return now() - timedelta(seconds=min(self.queue, self.total))

    def left(self, task: TaskRecord) -> float:
        """Seconds until the first clock of the task runs out; not negative."""
        ends = [task.created_at + timedelta(seconds=self.total)]
        if task.status is TaskStatus.QUEUED:
            ends.append(task.created_at + timedelta(seconds=self.queue))
        elif task.submitted_at is not None:
            ends.append(task.submitted_at + timedelta(seconds=self.generation))
        return max((min(ends) - now()).total_seconds(), 0.0)

    def failure(self, task: TaskRecord) -> Failure:
        """Why a task whose time is up has failed."""
        waited = (now() - task.created_at).total_seconds()
        if task.status is TaskStatus.QUEUED:
            return Failure(
                code=FailureCode.QUEUE_TIMED_OUT,
                message=f"It waited {waited:.0f} seconds in the queue, and DARKROOM_QUEUE_SECONDS allows "
                f"{min(self.queue, self.total):g}. Nothing was billed; start it again when there is less to do.",
                retryable=True,
                billed=False,
                transport=Transport.NOT_SENT,
            )
        total = waited >= self.total
        allowed, setting = (self.total, "TOTAL") if total else (self.generation, "GENERATION")
        return Failure(
            code=FailureCode.TOTAL_TIMED_OUT if total else FailureCode.GENERATION_TIMED_OUT,
            message=f"It was given up after {allowed:g} seconds (DARKROOM_{setting}_SECONDS). The provider may go on "
            "and bill it; look at its usage page before you start it again.",
            retryable=True,
            billed=None,
            transport=Transport(task.transport or Transport.PERHAPS_SENT),
        )
