"""Waiting for a result that the vendor sends to a callback URL. Asks the vendor nothing, and never posts.

Only what the vendor says about the task itself ends the waiting before the deadline. A report that cannot be read, or
whose picture cannot be had, is told and passed over; a link that does not work is tried again while no other comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from providers.contract import Callback, Delivery, FinalImage, Progress, ProgressOrigin, ProviderEvent
from providers.errors import ProviderError, ResultUnavailableError, Transport
from providers.placewise.channel import PushChannel
from providers.placewise.errors import FailedError, Speaker
from providers.placewise.reports import NoPictureYetError, PictureSource, Report, UnreadableReportError, read_report
from providers.placewise.rules import PREFIX
from providers.placewise.watching import LONGEST_WAIT, Complaints, timed_out

FIRST_WAIT = 5.0
"""Seconds before a link that did not work is tried again; doubles up to `LONGEST_WAIT`."""


class _PassedOverError(Exception):
    """A report that brings nothing; the text says why."""


class Push:
    """The life of one accepted task, by what the vendor sends to `callback` until `end` (in the event loop's time).

    Reports may repeat and overtake each other.
    """

    def __init__(self, channel: PushChannel, source: PictureSource, callback: Callback, *, end: float) -> None:
        self._channel = channel
        self._source = source
        self._speaker = source.speaker
        self._callback = callback
        self._end = end
        self._failure: ProviderError | None = None
        self._dead: Report | None = None
        self._pause = 0.0
        self._again = end

    async def events(self) -> AsyncGenerator[ProviderEvent, None]:
        """Progress whenever the state changes, what was passed over, and the picture."""
        status: str | None = None
        complaints = Complaints(self._speaker)
        async with aclosing(_Inbox(self._callback.deliveries())) as inbox:
            while True:
                try:
                    report = await self._next(inbox)
                    if report is None:
                        raise self._failure or timed_out(self._channel.deadline, status, None, self._speaker)
                    data = await self._picture_of(report)
                except _PassedOverError as exc:
                    complaint = complaints.about(f"{exc}")
                    if complaint is not None:
                        yield complaint
                    continue
                if report.status is not None and report.status != status:
                    status = report.status
                    yield Progress(None, ProgressOrigin.REPORTED, self._speaker.clean(status, limit=200))
                if data is not None:
                    yield FinalImage(0, data)
                    return

    async def _next(self, inbox: _Inbox) -> Report | None:
        """The next report, or the one whose link is to be tried again; None at the end."""
        until = min(self._end, self._again)
        try:
            delivery = await inbox.next(until)
        except TimeoutError:
            return self._dead if until < self._end else None
        if delivery is None:
            raise not_reachable(self._speaker)
        try:
            return await read_report(delivery.media_type, delivery.body, self._channel.shape)
        except UnreadableReportError as exc:
            raise self._passed_over(f"{exc}") from exc

    async def _picture_of(self, report: Report) -> bytes | None:
        if not report.finished and not report.failed:
            return None
        try:
            return await self._source.picture_of(report)
        except NoPictureYetError as exc:
            raise self._passed_over(f"has no picture at {PREFIX}IMAGE_POINTER") from exc
        except FailedError:
            raise
        except ProviderError as exc:
            self._failure = exc
            if isinstance(report.picture, str):
                self._pause = FIRST_WAIT if report is not self._dead else min(LONGEST_WAIT, 2 * self._pause)
                self._dead, self._again = report, asyncio.get_running_loop().time() + self._pause
            raise _PassedOverError(exc.message) from exc

    def _passed_over(self, what: str) -> _PassedOverError:
        return _PassedOverError(f"A report of {self._speaker.host} {self._speaker.clean(what, limit=300)}")


class _Inbox:
    """What is sent to a callback, one delivery after the other. To stop waiting for the next one loses none."""

    def __init__(self, deliveries: AsyncGenerator[Delivery, None]) -> None:
        self._deliveries = deliveries
        self._coming: asyncio.Future[Delivery | None] | None = None

    async def next(self, until: float) -> Delivery | None:
        """The next one; None where no more can come. Raises TimeoutError at `until` (in the event loop's time)."""
        if self._coming is None:
            self._coming = asyncio.ensure_future(anext(self._deliveries, None))
        left = until - asyncio.get_running_loop().time()
        come, _ = await asyncio.wait({self._coming}, timeout=max(0.0, left))
        if not come:
            raise TimeoutError
        coming, self._coming = self._coming, None
        return coming.result()

    async def aclose(self) -> None:
        """Wait no more."""
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.gather(self._coming, return_exceptions=True)
        await self._deliveries.aclose()


def not_reachable(speaker: Speaker) -> ResultUnavailableError:
    """The error for a result that would be pushed to a server that nobody can reach."""
    return ResultUnavailableError(
        f"{speaker.host} accepted the task and would send the result to a callback URL, but this server has none that "
        f"can be reached from outside ({PREFIX}RESULTS=push).",
        transport=Transport.ACCEPTED,
    )
