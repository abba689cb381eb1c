"""Waiting for a result by asking again and again. Never posts anything.

The task is accepted and paid for, and reading a report costs nothing. So what the vendor says about the task itself
ends the waiting, and nothing else before the deadline: whatever failed is tried again with back-off, also a question
that is refused, because a wrong token may be put right meanwhile. A 404 and a finished task without a picture that
can be had are believed when they stay so for minutes: what reads may lag behind what writes, links are renewed, and a
vendor that is just being updated answers oddly.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import httpx

from providers.contract import FinalImage, Notice, Progress, ProgressOrigin, ProviderEvent
from providers.errors import (
    BadResponseError,
    ProviderError,
    TimedOutError,
    Transport,
)
from providers.placewise.channel import PollChannel
from providers.placewise.errors import FailedError, Speaker, refusal
from providers.placewise.reports import NoPictureYetError, PictureSource, Report, UnreadableReportError, read_report
from providers.placewise.rules import PREFIX

PATIENT_LOOKS = 6
"""How many times at least a task is looked for in vain, or finished without its picture, before that is believed."""

_TRANSIENT = frozenset({408, 425, 429})
LONGEST_WAIT = 60.0
"""Longest pause in seconds, whatever the vendor asks for: the picture is paid for, and asking for it costs nothing."""
_MOST_NOTICES = 5


class _TransientError(Exception):
    """Failed in a way that another question may mend. `said` are the vendor's own words."""

    def __init__(self, reason: str, *, wait: float | None = None, said: str | None = None) -> None:
        super().__init__(reason)
        self.wait = wait
        self.said = said


class _RefusedError(_TransientError):
    """Is not likely to mend by itself, but somebody may mend it."""


class _LaggingError(_TransientError):
    """Looks final, but may only be early or odd. `final` is what it is if it stays so."""

    def __init__(self, final: ProviderError) -> None:
        super().__init__(final.message, said=final.vendor_message)
        self.final = final


class Complaints:
    """What somebody should know, each thing once, and not too many."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._made: set[str] = set()

    def about(self, what: str) -> Notice | None:
        """The notice to give; None where it has been given."""
        if what in self._made or len(self._made) >= _MOST_NOTICES:
            return None
        self._made.add(what)
        return Notice(f"{self._speaker.clean(what.rstrip('.'))}; still waiting.")


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
        self._pause = 0.0
        self._failures = 0
        self._looks_in_vain = 0
        self._in_vain_since = 0.0
        self._last: _TransientError | None = None
        self._complaints = Complaints(self._speaker)

    async def events(self) -> AsyncGenerator[ProviderEvent, None]:
        """Progress whenever the state changes, what somebody may have to mend, and the picture."""
        status: str | None = None
        while True:
            try:
                async with asyncio.timeout_at(self._end):
                    report = await self._next(status)
            except TimeoutError as exc:
                raise self._too_late(status) from exc
            if isinstance(report, Notice):
                yield report
                continue
            if report.status is not None and report.status != status:
                yield Progress(None, ProgressOrigin.REPORTED, self._speaker.clean(report.status, limit=200))
            if isinstance(report.picture, bytes):
                yield FinalImage(0, report.picture)
                return
            status = report.status

    async def _next(self, status: str | None) -> Report | Notice:
        """The next report with another state than `status`, or with the picture's file in it; or a complaint."""
        while True:
            await asyncio.sleep(self._pause)
            try:
                report = await self._look()
            except _TransientError as exc:
                self._last = exc
                self._failures += 1
                self._pause = self._wait(exc)
                complaint = self._complaints.about(f"{exc}") if isinstance(exc, _RefusedError) else None
                if complaint is not None:
                    return complaint
                continue
            self._last, self._failures, self._looks_in_vain = None, 0, 0
            self._pause = self._channel.interval
            if report.picture is not None or report.status != status:
                return report

    async def _look(self) -> Report:
        try:
            report = await self._ask()
            return await self._with_file(report) if report.finished or report.failed else report
        except _LaggingError as exc:
            now = asyncio.get_running_loop().time()
            if self._looks_in_vain == 0:
                self._in_vain_since = now
            self._looks_in_vain += 1
            if self._looks_in_vain >= PATIENT_LOOKS and now >= self._in_vain_since + self._channel.doubt:
                raise exc.final from exc
            raise

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
            raise self._odd(f"{exc}") from exc

    async def _read(self, response: httpx.Response) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self._max_bytes:
                raise self._odd(f"is larger than {self._max_bytes:,} bytes; see {PREFIX}LINK_MAX_BYTES")
            parts.append(part)
        return b"".join(parts)

    def _check(self, response: httpx.Response, body: bytes) -> None:
        status = response.status_code
        if response.is_success:
            return
        error = refusal(status, response.headers, body, self._speaker)
        if status in _TRANSIENT or status >= 500:
            reason = f"the last question failed: {error}"
            raise _TransientError(reason, wait=error.retry_after, said=error.vendor_message)
        error.billed = None  # what is refused here is the question; the order had been accepted
        error.counts_against_account = False
        error.message = f"The task was accepted, but asking for its result failed ({PREFIX}POLL_URL_TEMPLATE): {error}"
        error.args = (error.message,)
        if status == httpx.codes.NOT_FOUND:
            raise _LaggingError(error)
        raise _RefusedError(error.message, wait=error.retry_after, said=error.vendor_message)

    async def _with_file(self, report: Report) -> Report:
        """The report with its picture. One that cannot be had may be behind another link in the next report."""
        try:
            data = await self._source.picture_of(report)
        except NoPictureYetError as exc:
            raise _LaggingError(
                BadResponseError(
                    f"The report of {self._speaker.host} says {report.status}, but has no picture at "
                    f"{PREFIX}IMAGE_POINTER.",
                    transport=Transport.ACCEPTED,
                )
            ) from exc
        except FailedError:
            raise
        except ProviderError as exc:
            raise _LaggingError(exc) from exc
        return Report(report.status, data, finished=True)

    def _wait(self, error: _TransientError) -> float:
        """Doubles from the interval on, and is not shorter than the vendor asks for, up to `LONGEST_WAIT`. The first
        looks at what may only be early come as quickly as any.
        """
        interval = self._channel.interval
        if isinstance(error, _LaggingError) and self._looks_in_vain < PATIENT_LOOKS:
            return interval
        longest = max(LONGEST_WAIT, interval)
        wait: float = min(longest, interval * 2 ** min(self._failures - 1, 16))
        return wait if error.wait is None else max(wait, min(error.wait, LONGEST_WAIT))

    def _too_late(self, status: str | None) -> ProviderError:
        last = self._last
        if isinstance(last, _LaggingError) and self._looks_in_vain >= PATIENT_LOOKS:
            return last.final
        return timed_out(
            self._channel.deadline,
            status,
            None if last is None else f"{last}",
            self._speaker,
            said=None if last is None else last.said,
        )

    def _odd(self, what: str) -> _RefusedError:
        return _RefusedError(f"The report of {self._speaker.host} {what}")


def timed_out(
    deadline: float, status: str | None, problem: str | None, speaker: Speaker, *, said: str | None = None
) -> TimedOutError:
    """The error for a result that did not come in time. `problem` went wrong last, `said` are the vendor's words."""
    known = [f"the last known state was {speaker.clean(status, limit=200)}"] if status is not None else []
    known += [speaker.clean(problem.rstrip("."))] if problem is not None else []
    what = f"; {'; '.join(known)}" if known else ""
    return TimedOutError(
        f"{speaker.host} accepted the task, but its result did not come within {deadline:g} seconds "
        f"({PREFIX}DEADLINE_SECONDS){what}. The picture may have been made and billed.",
        transport=Transport.ACCEPTED,
        vendor_message=said,
    )
