"""Speaks Placewise's `generate_image` over httpx, to an account or to the sandbox.

The order is sent exactly once; the answer to it is only a task id (contract placewise §3). What happens then depends
on the configured result channel: nothing, asking for it (`watching`), or being told (`listening`). Both start from the
task id alone, so any process can go on with them, and they never post.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import orjson
from pydantic import JsonValue

from providers.contract import (
    Accepted,
    Callback,
    CancelOutcome,
    Capabilities,
    Health,
    Notice,
    ProviderEvent,
    Submission,
)
from providers.errors import OutcomeUnknownError, ProviderError, Transport, UnavailableError
from providers.http import async_client, is_loopback
from providers.links import LinkFetcher, LinkLimits
from providers.placewise.channel import NoChannel, PollChannel, PushChannel
from providers.placewise.errors import FailedError, Speaker, not_answered, refusal
from providers.placewise.listening import Push, not_reachable
from providers.placewise.reports import PictureSource
from providers.placewise.request import PlacewiseRequest
from providers.placewise.rules import PREFIX
from providers.placewise.settings import CREATE_PATH, Encoding, PlacewiseSettings
from providers.placewise.watching import Poll

DOCUMENTED = Capabilities(
    max_images=1,
    max_partial_images=0,
    resumable=True,
    findable=False,
    cancellable=False,
    delivers_images=False,
    reports_usage=False,
    reports_cost=False,
)
"""What the API documents. It is resumable in any case: all there is to know about a task is its id."""

_SANDBOX_HEADERS = {"X-Loyalty-Club-Slug": "sandbox", "X-Client-Authorization": "sandbox"}
_ANSWER_BYTES = 1024 * 1024
_ANSWER_SECONDS = 30.0


class Placewise:
    """An account at Placewise, or the sandbox. See `providers.contract.Provider`."""

    def __init__(self, settings: PlacewiseSettings, *, base_url: str, sandbox: bool) -> None:
        self.sandbox = sandbox
        self.limits = settings.limits
        self._settings = settings
        self._channel = settings.channel()
        self._base = httpx.URL(base_url.rstrip("/"))
        self._headers = {**(_SANDBOX_HEADERS if sandbox else {}), **settings.headers()}
        self._client = async_client(
            connect_seconds=settings.connect_timeout_seconds, read_seconds=settings.read_timeout_seconds
        )
        links = LinkFetcher(
            LinkLimits(max_bytes=settings.link_max_bytes, seconds=settings.link_timeout_seconds),
            allow_private=settings.allow_private_links,
            allow_loopback=sandbox or is_loopback(self._base.host),
            private_setting=f"{PREFIX}ALLOW_PRIVATE_LINKS",
        )
        self._speaker = Speaker(self._base.netloc.decode("ascii"), settings.secrets())
        self._source = PictureSource(links, self._speaker)

    @property
    def capabilities(self) -> Capabilities:
        """What this account can do: with a result channel it delivers pictures, which the API itself does not."""
        return replace(
            DOCUMENTED,
            delivers_images=not isinstance(self._channel, NoChannel),
            reports_result=isinstance(self._channel, PushChannel),
        )

    async def run(
        self,
        request: PlacewiseRequest,
        *,
        reference: str,
        resume: Submission | None = None,
        callback: Callback | None = None,
        known: Mapping[str, int] | None = None,
    ) -> AsyncGenerator[ProviderEvent, None]:
        """Posts once, then waits for the result as configured; without a result channel it ends after `Accepted`,
        with no picture. With `resume` it only waits. The picture has no id, so nothing is ever `known`.
        """
        if resume is None:
            submission = await self._order(request, reference, callback)
            yield Accepted(submission)
            for parameter, reason in {**request.dropped(), **request.doubtful(self._settings)}.items():
                yield Notice(reason, parameter)
        else:
            submission = resume
        async with aclosing(self._watch(submission, callback)) as events:
            async for event in events:
                yield event

    async def find(self, reference: str) -> Submission | None:
        """Nobody can tell: the API has no way to look for a task."""
        return None

    async def cancel(self, submission: Submission) -> CancelOutcome:
        """The API has no way to stop a task, and none to see that it is over."""
        return CancelOutcome.ABANDONED

    async def health(self) -> Health | None:
        """None: the API has no question about the account that costs nothing."""
        return None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _order(self, request: PlacewiseRequest, reference: str, callback: Callback | None) -> Submission:
        """Post, and read the task id out of the answer."""
        response = await self._post(self._post_request(request, reference, callback))
        try:
            body, whole = await _read(response)
        finally:
            await response.aclose()
        if not response.is_success:
            raise refusal(response.status_code, response.headers, body, self._speaker)
        request_id = response.headers.get("x-request-id")
        task_id = _task_id(body) if whole else None
        if task_id is None:
            start = self._speaker.clean(body[:60].decode(errors="replace"))
            what = f"has no task id in it (it starts with {start!r})" if whole else "was cut off"
            raise OutcomeUnknownError(
                f"{self._speaker.host} accepted the order (HTTP {response.status_code}), but its answer {what}. The "
                "picture is probably being made and billed, and without its id nobody can follow it.",
                transport=Transport.ACCEPTED,
                request_id=request_id,
            )
        return Submission(task_id, request_id, {"accepted_at": datetime.now(UTC).isoformat()})

    def _post_request(self, request: PlacewiseRequest, reference: str, callback: Callback | None) -> httpx.Request:
        headers = dict(self._headers)
        fields = request.fields()
        if self.sandbox:
            headers["X-Client-Request-Id"] = reference  # for its ledger; the vendor has no such header
        if isinstance(self._channel, PushChannel):
            if callback is None:
                raise _no_callback()
            if self._channel.header is not None:
                headers[self._channel.header] = callback.url
            if self._channel.field is not None:
                fields[self._channel.field] = callback.url
        url = self._base.copy_with(path=f"{self._base.path.rstrip('/')}{CREATE_PATH}")
        if self._settings.encoding is Encoding.JSON:
            headers["Content-Type"] = "application/json"
            return self._client.build_request("POST", url, content=orjson.dumps(fields), headers=headers)
        parts = [(name, (None, _as_text(value))) for name, value in fields.items()]
        return self._client.build_request("POST", url, files=parts, headers=headers)

    async def _post(self, post: httpx.Request) -> httpx.Response:
        sent = False

        async def trace(event: str, _info: object) -> None:
            nonlocal sent
            sent = sent or event.endswith("send_request_headers.started")

        post.extensions["trace"] = trace
        seconds = self._settings.connect_timeout_seconds + self._settings.read_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._client.send(post, stream=True)
        except (httpx.TransportError, TimeoutError) as exc:
            raise not_answered(exc, self._speaker, sent=sent) from exc

    def _watch(self, submission: Submission, callback: Callback | None) -> AsyncGenerator[ProviderEvent, None]:
        match self._channel:
            case PollChannel() as channel if submission.id is not None:
                return self._poll(channel, submission.id, self._end(submission, channel.deadline))
            case PushChannel() as channel:
                if callback is None:
                    raise not_reachable(self._speaker)
                return Push(channel, self._source, callback, end=self._end(submission, channel.deadline)).events()
            case _:
                return _nothing()

    def _poll(self, channel: PollChannel, task_id: str, end: float) -> AsyncGenerator[ProviderEvent, None]:
        url = httpx.URL(channel.url_of(task_id, str(self._base)))
        headers = dict(self._headers) if _origin(url) == _origin(self._base) else {}
        return Poll(
            channel,
            self._source,
            self._client,
            url=str(url),
            headers=headers,
            end=end,
            max_bytes=self._settings.link_max_bytes * 2,  # base64 and a few words around it
        ).events()

    def _end(self, submission: Submission, deadline: float) -> float:
        """When waiting is over, in the event loop's time. Counted from acceptance, also over a restart, but long
        enough for a task that waited for this server to be looked at once.
        """
        try:
            accepted = datetime.fromisoformat(str(submission.state.get("accepted_at")))
            waited = max(0.0, (datetime.now(UTC) - accepted).total_seconds())
        except (ValueError, TypeError):
            waited = 0.0
        left = deadline - waited
        once = min(deadline, self._settings.read_timeout_seconds)
        return asyncio.get_running_loop().time() + max(left, once)


async def _read(response: httpx.Response) -> tuple[bytes, bool]:
    """The answer, and whether it is all there. The status decides already; the rest has to do as far as it came."""
    body = b""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _ANSWER_BYTES:
                    return body, False
    except (httpx.TransportError, httpx.DecodingError, TimeoutError):
        return body, False
    return body, True


def _task_id(body: bytes) -> str | None:
    try:
        answer: JsonValue = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    task = answer.get("image_generation_task") if isinstance(answer, dict) else None
    found = task.get("id") if isinstance(task, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | str):
        return None
    return str(found) or None


def _as_text(value: JsonValue) -> bytes:
    """A value as a form field: everything travels as text."""
    return value.encode() if isinstance(value, str) else orjson.dumps(value)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, port


async def _nothing() -> AsyncGenerator[ProviderEvent, None]:
    """No result channel: nothing more will be known."""
    nothing: tuple[ProviderEvent, ...] = ()
    for event in nothing:
        yield event


def _no_callback() -> ProviderError:
    error: UnavailableError = FailedError(
        "Nothing was sent: the result would be sent to a callback URL, but this server has none that can be reached "
        f"from outside. Give it a public address, or change {PREFIX}RESULTS.",
        transport=Transport.NOT_SENT,
        billed=False,
        counts_against_account=False,
    )
    return error
