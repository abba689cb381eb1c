"""How a task ends: with its pictures, with a failure, or canceled. Where several of these are true at once, what was
paid for decides: pictures that are here make a success, whoever wanted to cancel it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from pydantic import BaseModel

from providers.contract import ProviderDefinition
from providers.errors import FailureCode, Transport
from tasks.cancel import canceled, stored
from tasks.cancellation import NEVER_SENT, Cancellation, abandoned, too_late
from tasks.events import Canceled, Failed, HandedOff, Succeeded
from tasks.failure import Failure, failed
from tasks.journal import Journal
from tasks.keeper import Keeper
from tasks.records import now
from tasks.request import request_of
from tasks.status import TaskStatus

log = logging.getLogger(__name__)


class EndedError(Exception):
    """The task has ended meanwhile, and its last event is recorded."""


class Ending:
    """Records the last event of one run of a task. Of a task that had ended before, only that it is over."""

    def __init__(
        self, keeper: Keeper, journal: Journal, definition: ProviderDefinition[BaseModel], *, delivers_images: bool
    ) -> None:
        self.wish = asyncio.Event()
        """Set once somebody wants the task to be canceled."""
        self._keeper = keeper
        self._journal = journal
        self._definition = definition
        self._delivers_images = delivers_images
        self._too_late: Cancellation | None = None

    def complete(self) -> bool:
        """Whether every picture that was asked for is here."""
        expected = self._definition.expected_images
        return 0 < len(self._keeper.finished) >= expected(request_of(self._keeper.task, self._definition))

    async def finish(self) -> None:
        """The provider has said everything."""
        if self._keeper.late:
            await self._journal.settle(self._keeper.task, listening=False)
        elif self._keeper.finished:
            if self.wish.is_set():
                self.cancel_too_late()
            values: dict[str, Any] = {} if self._too_late is None else {"cancellation": stored(self._too_late)}
            await self._keeper.record(Succeeded(), status=TaskStatus.SUCCEEDED, finished_at=now(), **values)
        elif not self._delivers_images:
            await self._keeper.record(HandedOff(), status=TaskStatus.HANDED_OFF, finished_at=now())
        else:
            message = f"{self._definition.title} reported success, but delivered no picture."
            await self.fail(self.own_failure(FailureCode.BAD_RESPONSE, message))

    async def fail(self, failure: Failure, *, listening: bool = False) -> None:
        """It went wrong; for a task that somebody wants to be canceled that is mostly how canceling worked. `listening`
        when a picture may still come."""
        if self._keeper.late:
            log.info("Task %s had ended, and brought nothing more: %s", self._keeper.task.id, failure.message)
            await self._journal.settle(self._keeper.task, listening=False)
        elif self.wish.is_set() and self._too_late is None and failure.code is not FailureCode.STORAGE_FAILED:
            nothing = failure.billed is False
            await self.cancel(NEVER_SENT if nothing else abandoned(self._definition.title, failure.transport))
        else:
            values = failed(failure) | ({"listening": True} if listening else {})
            await self._keeper.record(Failed(failure), **values)

    async def cancel(self, cancellation: Cancellation, *, listening: bool = False) -> None:
        """It was canceled; `listening` when a picture may still come."""
        await self._keeper.record(Canceled(cancellation), **canceled(cancellation), listening=listening)

    def cancel_too_late(self) -> None:
        """Whoever wants it to be canceled came too late: it ends as it would have."""
        self._too_late = too_late(self._definition.title)

    def own_failure(self, code: FailureCode, message: str) -> Failure:
        """A failure that is not the provider's: what is billed follows from how far the request got."""
        transport = Transport(self._keeper.task.transport or Transport.NOT_SENT)
        billed = {Transport.NOT_SENT: False, Transport.PERHAPS_SENT: None, Transport.ACCEPTED: True}[transport]
        return Failure(code=code, message=message, retryable=False, billed=billed, transport=transport)
