"""What may interrupt a run, while it waits and while it works: somebody who cancels the task, and the task's clocks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TypeVar

from pydantic import BaseModel

from providers.contract import CancelOutcome, Provider
from providers.errors import Transport
from tasks.cancellation import NEVER_SENT, abandoned, stopped
from tasks.clocks import Clocks, ExpiredError
from tasks.ending import EndedError, Ending
from tasks.errors import LostTaskError
from tasks.keeper import SUBMISSION, Keeper

ACCEPTANCE_SECONDS = 5.0
"""How long canceling waits for the provider to accept what it shall stop."""

T = TypeVar("T")


class Interruption:
    """Watches over one run of a task. Raises `EndedError` when it was canceled, `ExpiredError` when a clock ran out."""

    def __init__(
        self, keeper: Keeper, provider: Provider[BaseModel], clocks: Clocks, ending: Ending, *, title: str
    ) -> None:
        self._keeper = keeper
        self._provider = provider
        self._clocks = clocks
        self._ending = ending
        self._title = title

    async def wait(self, seconds: float, news: asyncio.Event | None = None) -> None:
        """Wait so long, or until there is `news`, with a task that has not been sent."""
        events = [self._ending.wish] if news is None else [self._ending.wish, news]
        waiting = [asyncio.create_task(event.wait()) for event in events]
        try:
            left = max(min(seconds, self._clocks.left(self._keeper.task)), 0.0)
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        await self.look()

    async def look(self) -> None:
        """End a task that has not been sent, if somebody has canceled it or its time is up."""
        if self._ending.wish.is_set():
            with suppress(LostTaskError):  # whoever canceled it has mostly recorded that already
                await self._ending.cancel(NEVER_SENT)
            raise EndedError
        if self._clocks.left(self._keeper.task) <= 0:
            raise ExpiredError(self._clocks.failure(self._keeper.task))

    async def watch_over(self, doing: asyncio.Task[T], *, least: float) -> T:
        """Wait for the end of what is being done, or end it: when somebody cancels the task, or when a clock runs out,
        but not within the first `least` seconds."""
        enough = asyncio.get_running_loop().time() + least
        wishing = asyncio.create_task(self._ending.wish.wait())
        waiting: set[asyncio.Task[T] | asyncio.Task[bool]] = {doing}
        if not self._keeper.late:
            waiting.add(wishing)
        try:
            while True:
                left = max(self._clocks.left(self._keeper.task), enough - asyncio.get_running_loop().time())
                done, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if doing in done:
                    return await doing
                if not done:
                    raise ExpiredError(self._clocks.failure(self._keeper.task))
                waiting.discard(wishing)
                await self._cancel(doing)
        finally:
            doing.cancel()
            wishing.cancel()
            await asyncio.gather(doing, wishing, return_exceptions=True)

    async def _cancel(self, doing: asyncio.Task[T]) -> None:
        """Do what can be done to stop a generation that is on its way, and record what that achieved."""
        outcome = await self._ask_to_stop(doing)
        if outcome is CancelOutcome.STOPPED and not self._ending.complete():
            doing.cancel()
            await asyncio.wait([doing])
            await self._ending.cancel(stopped(self._title))
            raise EndedError
        if doing.done():
            return
        if outcome in (CancelOutcome.TOO_LATE, CancelOutcome.STOPPED):
            self._ending.cancel_too_late()
        else:
            transport = Transport(self._keeper.task.transport or Transport.PERHAPS_SENT)
            await self._ending.cancel(abandoned(self._title, transport), listening=True)
            self._keeper.late = True

    async def _ask_to_stop(self, doing: asyncio.Task[T]) -> CancelOutcome:
        if self._provider.capabilities.cancellable and self._keeper.task.submission is None:
            accepted = asyncio.create_task(self._keeper.accepted.wait())
            await asyncio.wait([accepted, doing], timeout=ACCEPTANCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            accepted.cancel()
        if self._keeper.task.submission is None:
            return CancelOutcome.ABANDONED
        return await self._provider.cancel(SUBMISSION.validate_python(self._keeper.task.submission))
