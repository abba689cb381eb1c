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
        end, _ = self._end(task)
        return max((end - now()).total_seconds(), 0.0)

    def failure(self, task: TaskRecord) -> Failure:
        """Why a task whose time is up has failed."""
        _, code = self._end(task)
        if task.status is TaskStatus.QUEUED:
            waited = (now() - task.created_at).total_seconds()
            return Failure(
                code=code,
                message=f"It waited {waited:.0f} seconds in the queue, and {self._allowed(code)}. Nothing was billed; "
                "start it again when there is less to do.",
                retryable=True,
                billed=False,
                transport=Transport.NOT_SENT,
            )
        return Failure(
            code=code,
            message=f"It was given up, because {self._allowed(code)}. The provider may go on and bill it; look at its "
            "usage page before you start it again.",
            retryable=True,
            billed=None,
            transport=Transport(task.transport or Transport.PERHAPS_SENT),
        )

    def _end(self, task: TaskRecord) -> tuple[datetime, FailureCode]:
        """When the first clock of the task runs out, and which one that is."""
        ends = [(task.created_at + timedelta(seconds=self.total), FailureCode.TOTAL_TIMED_OUT)]
        if task.status is TaskStatus.QUEUED:
            ends.append((task.created_at + timedelta(seconds=self.queue), FailureCode.QUEUE_TIMED_OUT))
        elif task.submitted_at is not None:
            ends.append((task.submitted_at + timedelta(seconds=self.generation), FailureCode.GENERATION_TIMED_OUT))
        return min(ends, key=lambda end: end[0])

    def _allowed(self, code: FailureCode) -> str:
        setting, seconds = {
            FailureCode.QUEUE_TIMED_OUT: ("QUEUE", self.queue),
            FailureCode.GENERATION_TIMED_OUT: ("GENERATION", self.generation),
            FailureCode.TOTAL_TIMED_OUT: ("TOTAL", self.total),
        }[code]
        return f"DARKROOM_{setting}_SECONDS allows {seconds:g}"
