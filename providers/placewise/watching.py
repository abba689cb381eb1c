"""Waiting for a result: asking again and again, or listening at a callback URL. Neither ever posts anything.

Reading a report costs nothing, so whatever may mend is tried again with back-off until the deadline: lost
connections, 408, 425, 429 and everything from 500 on. A 404 and a finished task without a picture get a few more looks,
because what reads may lag behind what writes; after that they are what they look like.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from providers.contract import Callback, FinalImage, Notice, Progress, ProgressOrigin, ProviderEvent
from providers.errors import (
    BadResponseError,
    ProviderError,
    ResultUnavailableError,
    TimedOutError,
    Transport,
)
from providers.placewise.channel import PollChannel, PushChannel
from providers.placewise.errors import Speaker, refusal
from providers.placewise.reports import NoPictureYetError, PictureSource, Report, UnreadableReportError, read_report
from providers.placewise.rules import PREFIX
from providers.retry_after import retry_after

PATIENT_LOOKS = 6
"""How many times a task may be looked for in vain, or be finished without its picture, before that is believed."""

_TRANSIENT = frozenset({408, 425, 429})
LONGEST_WAIT = 60.0
"""Longest pause in seconds, whatever the vendor asks for: the picture is paid for, and asking for it costs nothing."""
_MOST_NOTICES = 5


class _TransientError(Exception):
    """Failed in a way that another question may mend."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _LaggingError(_TransientError):
    """Looks final, but may only be early. `final` is what it is if it stays so."""

    def __init__(self, final: ProviderError) -> None:
        super().__init__(final.message)
        self.final = final


class Poll:
    """The life of one accepted task, by asking `url` every so often until `end` (in the event loop's time)."""

    def __init__(
        self,
        channel: PollChannel,
        source: PictureSource,
        client: httpx.AsyncClient,
        *,
        url: str,
        headers: dict[str, str],
        end: float,
        max_bytes: int,
    ) -> None:
        self._channel = channel
        self._source = source
        self._speaker = source.speaker
        self._client = client
        self._url = url
        self._headers = headers
        self._end = end
        self._max_bytes = max_bytes
        self._looked = False
        self._looks_in_vain = 0
        self._last_problem: str | None = None

    async def events(self) -> AsyncGenerator[ProviderEvent, None]:
        """Progress whenever the state changes, and the picture."""
        status: str | None = None
        while True:
            try:
                async with asyncio.timeout_at(self._end):
                    report = await self._next(status)
            except TimeoutError as exc:
                raise timed_out(self._channel.deadline, status, self._last_problem, self._speaker) from exc
            if report.status is not None and report.status != status:
                yield Progress(None, ProgressOrigin.REPORTED, self._speaker.clean(report.status, limit=200))
            if isinstance(report.picture, bytes):
                yield FinalImage(0, report.picture)
                return
            status = report.status

    async def _next(self, status: str | None) -> Report:
        """The next report with another state than `status`, or with the picture's file in it."""
        retrying = AsyncRetrying(retry=retry_if_exception_type(_TransientError), wait=self._wait, reraise=True)
        while True:
            if self._looked:
                await asyncio.sleep(self._channel.interval)
            self._looked = True
            report: Report = await retrying(self._look)
            if report.picture is not None or report.status != status:
                return report

    async def _look(self) -> Report:
        try:
            report = await self._ask()
            if report.finished or report.failed:
                report = await self._with_file(report)
        except _LaggingError as exc:
            self._looks_in_vain += 1
            self._last_problem = str(exc)
            if self._looks_in_vain >= PATIENT_LOOKS:
                raise exc.final from exc
            raise
        except _TransientError as exc:
            self._last_problem = str(exc)
            raise
        self._looks_in_vain, self._last_problem = 0, None
        return report

    async def _ask(self) -> Report:
        try:
            async with self._client.stream("GET", self._url, headers=self._headers) as response:
                body = await self._read(response)
        except (httpx.TransportError, httpx.DecodingError) as exc:
            reason = self._speaker.clean(str(exc), limit=300)
            raise _TransientError(f"the last question failed ({type(exc).__name__} {reason})") from exc
        self._check(response, body)
        try:
            return await read_report(response.headers.get("Content-Type", ""), body, self._channel.shape)
        except UnreadableReportError as exc:
            raise self._bad(f"{exc}") from exc

    async def _read(self, response: httpx.Response) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self._max_bytes:
                raise self._bad(f"is larger than {self._max_bytes:,} bytes; see {PREFIX}LINK_MAX_BYTES")
            parts.append(part)
        return b"".join(parts)

    def _check(self, response: httpx.Response, body: bytes) -> None:
        status = response.status_code
        if status in _TRANSIENT or status >= 500:
            raise _TransientError(f"the last answer was {status}", wait=retry_after(response.headers, None))
        if response.is_success:
            return
        error = refusal(status, response.headers, body, self._speaker)
        error.billed = None  # what is refused here is the question; the order had been accepted
        error.counts_against_account = False
        error.message = f"The task was accepted, but asking for its result failed ({PREFIX}POLL_URL_TEMPLATE): {error}"
        error.args = (error.message,)
        if status == httpx.codes.NOT_FOUND:
            raise _LaggingError(error)
        raise error

    async def _with_file(self, report: Report) -> Report:
        try:
            data = await self._source.picture_of(report)
        except NoPictureYetError as exc:
            raise _LaggingError(
                self._bad(f"says {report.status}, but has no picture at {PREFIX}IMAGE_POINTER")
            ) from exc
        return Report(report.status, data, finished=True)

    def _wait(self, state: RetryCallState) -> float:
        """Doubles from the interval on, and is not shorter than the vendor asks for, up to `LONGEST_WAIT`."""
        longest = max(LONGEST_WAIT, self._channel.interval)
        wait = wait_exponential(multiplier=self._channel.interval, max=longest)(state)
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, _LaggingError):
            return self._channel.interval
        asked = error.wait if isinstance(error, _TransientError) else None
        return wait if asked is None else max(wait, min(asked, LONGEST_WAIT))

    def _bad(self, what: str) -> BadResponseError:
        return BadResponseError(f"The report of {self._speaker.host} {what}.", transport=Transport.ACCEPTED)


async def listen(
    channel: PushChannel, source: PictureSource, callback: Callback, *, end: float
) -> AsyncGenerator[ProviderEvent, None]:
    """What the vendor sends to `callback`, until the picture has come or it is `end` (in the event loop's time).

    Reports may repeat and overtake each other. One that cannot be read is told and passed over.
    """
    speaker = source.speaker
    status: str | None = None
    complaints: set[str] = set()
    async with aclosing(callback.deliveries()) as deliveries:
        while True:
            try:
                async with asyncio.timeout_at(end):
                    delivery = await anext(deliveries, None)
            except TimeoutError as exc:
                raise timed_out(channel.deadline, status, None, speaker) from exc
            if delivery is None:
                raise not_reachable(speaker)
            try:
                report = await read_report(delivery.media_type, delivery.body, channel.shape)
                data = await source.picture_of(report) if report.finished or report.failed else None
            except (UnreadableReportError, NoPictureYetError) as exc:
                complaint = str(exc) or f"has no picture at {PREFIX}IMAGE_POINTER"
                if complaint not in complaints and len(complaints) < _MOST_NOTICES:
                    complaints.add(complaint)
                    yield Notice(f"A report of {speaker.host} {speaker.clean(complaint, limit=300)}; still waiting.")
                continue
            if report.status is not None and report.status != status:
                status = report.status
                yield Progress(None, ProgressOrigin.REPORTED, speaker.clean(status, limit=200))
            if data is not None:
                yield FinalImage(0, data)
                return


def timed_out(deadline: float, status: str | None, problem: str | None, speaker: Speaker) -> TimedOutError:
    """The error for a result that did not come in time."""
    known = [f"the last known state was {speaker.clean(status, limit=200)}"] if status is not None else []
    known += [problem] if problem is not None else []
    said = f"; {'; '.join(known)}" if known else ""
    return TimedOutError(
        f"{speaker.host} accepted the task, but its result did not come within {deadline:g} seconds "
        f"({PREFIX}DEADLINE_SECONDS){said}. The picture may have been made and billed.",
        transport=Transport.ACCEPTED,
    )


def not_reachable(speaker: Speaker) -> ResultUnavailableError:
    """The error for a result that would be pushed to a server that nobody can reach."""
    return ResultUnavailableError(
        f"{speaker.host} accepted the task and would send the result to a callback URL, but this server has none that "
        f"can be reached from outside ({PREFIX}RESULTS=push).",
        transport=Transport.ACCEPTED,
    )
