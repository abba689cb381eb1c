"""Speaks `POST …/images/generations` over httpx: OpenAI itself, a gateway in front of it, or the sandbox.

The request is sent exactly once. No redirect is followed with it and no proxy is taken from the environment (see
`providers.http`). The answer is read by what it is, not by what was asked for: an event stream or a JSON body
(contract openai-images §3.2). There is no job behind it: whoever loses the connection loses the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

import httpx
import orjson
from pydantic import JsonValue
from pydantic_core import from_json

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
from providers.errors import OutcomeUnknownError, ProviderError, TimedOutError, Transport
from providers.http import async_client, is_loopback
from providers.links import LinkFetcher, LinkLimits
from providers.openai_images.answer import Answer
from providers.openai_images.errors import not_answered, refusal
from providers.openai_images.families import FAMILIES
from providers.openai_images.request import OpenAIImagesRequest
from providers.openai_images.settings import PREFIX, OpenAIImagesSettings
from providers.openai_images.stream import LARGE, stream_events
from providers.speaker import Speaker

_LAST_WORDS_SECONDS = 1.0
"""How long to go on listening after the last picture. Only repeats can follow, but hanging up looks like a fault."""

_ERROR_BODY_BYTES = 1024 * 1024
_ERROR_BODY_SECONDS = 10.0


@dataclass(slots=True)
class _Clock:
    """When the answer has to be over, in the event loop's time; moved forward once every picture is here."""

    at: float


class OpenAIImages:
    """An account at an OpenAI-style images API, or the sandbox. See `providers.contract.Provider`."""

    capabilities = Capabilities(
        max_images=max(family.max_images for family in FAMILIES),
        max_partial_images=max(family.max_partial_images for family in FAMILIES),
        resumable=False,
        findable=False,
        cancellable=False,
        delivers_images=True,
        reports_usage=True,
        reports_cost=False,
    )

    def __init__(self, settings: OpenAIImagesSettings, *, base_url: str, sandbox: bool) -> None:
        self.sandbox = sandbox
        self.limits = settings.limits
        self._settings = settings
        base = httpx.URL(base_url)
        self._url = base.copy_with(path=f"{base.path.rstrip('/')}/images/generations")
        token = settings.token.get_secret_value() if settings.token is not None else None
        self._speaker = Speaker(base.netloc.decode("ascii"), token)
        self._client = async_client(
            connect_seconds=settings.connect_timeout_seconds, read_seconds=settings.read_timeout_seconds
        )
        self._links = LinkFetcher(
            LinkLimits(
                max_bytes=settings.link_max_bytes,
                seconds=settings.link_timeout_seconds,
                appear_seconds=settings.link_timeout_seconds / 4,  # the link is seconds old: see `LinkLimits`
            ),
            allow_private=settings.allow_private_links,
            allow_loopback=sandbox or is_loopback(base.host),
            private_setting=f"{PREFIX}ALLOW_PRIVATE_LINKS",
            seconds_setting=f"{PREFIX}LINK_TIMEOUT_SECONDS",
        )

    async def run(
        self,
        request: OpenAIImagesRequest,
        *,
        reference: str,
        resume: Submission | None = None,
        callback: Callback | None = None,
        known: Mapping[str, int] | None = None,
    ) -> AsyncGenerator[ProviderEvent, None]:
        """Posts once and reads the answer to its end; `resume` is not possible here and raises OutcomeUnknownError,
        nobody reports to a `callback`, and no picture has an id to be `known` by.
        """
        if resume is not None:
            raise OutcomeUnknownError(
                f"The answer of {self._speaker.host} was lost with the connection, and this API has no way to open it "
                "again. The picture may have been made and billed.",
                transport=Transport.ACCEPTED,
                request_id=resume.request_id,
            )
        clock = _Clock(asyncio.get_running_loop().time() + self._settings.total_timeout_seconds)
        response = await self._post(request, reference, clock)
        request_id = response.headers.get("x-request-id")
        try:
            if not response.is_success:
                raise await self._refused(response, clock)
            yield Accepted(Submission(request_id=request_id))
            for parameter, reason in request.dropped().items():
                yield Notice(reason, parameter)
            async with aclosing(self._answer(response, request, clock)) as events:
                async for event in events:
                    yield event
        except ProviderError as exc:
            exc.request_id = request_id
            raise
        finally:
            await response.aclose()

    async def find(self, reference: str) -> Submission | None:
        """Nobody can tell: this API keeps no record that could be asked for."""
        return None

    async def cancel(self, submission: Submission) -> CancelOutcome:
        """The API has no way to stop, and whether it stops by itself once nobody listens is not documented."""
        return CancelOutcome.ABANDONED

    async def health(self) -> Health | None:
        """None: this API has no question about the account that every gateway answers."""
        return None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _post(self, request: OpenAIImagesRequest, reference: str, clock: _Clock) -> httpx.Response:
        sent = False

        async def trace(event: str, _info: object) -> None:
            nonlocal sent
            sent = sent or event.endswith("send_request_headers.started")

        headers = {"Content-Type": "application/json", **self._settings.headers(reference)}
        headers["Accept"] = "text/event-stream, application/json" if request.streams() else "application/json"
        if self.sandbox:
            headers.setdefault("Authorization", "Bearer sandbox")
        post = self._client.build_request(
            "POST", self._url, content=orjson.dumps(request.body()), headers=headers, extensions={"trace": trace}
        )
        try:
            async with asyncio.timeout_at(clock.at):
                return await self._client.send(post, stream=True)
        except (httpx.TransportError, TimeoutError) as exc:
            raise not_answered(exc, self._speaker, sent=sent) from exc

    async def _refused(self, response: httpx.Response, clock: _Clock) -> ProviderError:
        """What a refusal says, as far as it can be read: the status alone decides already."""
        body = b""
        until = min(clock.at, asyncio.get_running_loop().time() + _ERROR_BODY_SECONDS)
        try:
            async with asyncio.timeout_at(until):
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _ERROR_BODY_BYTES:
                        break
        except (httpx.TransportError, httpx.DecodingError, TimeoutError):
            pass  # cut off: what arrived has to do
        return refusal(response.status_code, response.headers, body, self._speaker)

    def _answer(
        self, response: httpx.Response, request: OpenAIImagesRequest, clock: _Clock
    ) -> AsyncGenerator[ProviderEvent, None]:
        answer = Answer(
            request=request,
            model=response.headers.get("x-tfy-resolved-model"),
            speaker=self._speaker,
            links=self._links,
        )
        streamed = _media_type(response) == "text/event-stream"
        return self._stream(response, answer, clock) if streamed else self._body(response, answer, clock)

    async def _stream(
        self, response: httpx.Response, answer: Answer, clock: _Clock
    ) -> AsyncGenerator[ProviderEvent, None]:
        loop = asyncio.get_running_loop()
        async with (
            aclosing(self._chunks(response, answer, clock)) as chunks,
            aclosing(stream_events(chunks, limit=self._settings.frame_limit_bytes)) as events,
        ):
            try:
                async for event in events:
                    async with aclosing(answer.of_event(event)) as told:
                        async for each in told:
                            yield each
                    if answer.complete:
                        clock.at = min(clock.at, loop.time() + _LAST_WORDS_SECONDS)
            except ProviderError as exc:
                answer.fail(exc)  # with every picture here, a late complaint takes none of them away
        async with aclosing(answer.rest()) as told:
            async for each in told:
                yield each
        if not answer.complete:
            raise answer.truncated("ended")

    async def _body(
        self, response: httpx.Response, answer: Answer, clock: _Clock
    ) -> AsyncGenerator[ProviderEvent, None]:
        parts = await self._read(response, answer, clock)
        size = sum(map(len, parts))
        try:
            body = await asyncio.to_thread(_json, parts) if size > LARGE else _json(parts)
        except ValueError as exc:
            start = self._speaker.clean(b"".join(parts)[:60].decode(errors="replace"))
            if start.startswith("{") and str(exc).startswith("EOF"):
                raise answer.truncated("ended inside its JSON") from exc
            kind = _media_type(response) or "of an unknown type"
            raise answer.bad(f"is {kind} and no JSON (it starts with {start!r}); check {PREFIX}BASE_URL") from exc
        if not isinstance(body, dict):
            raise answer.bad("is JSON, but no object")
        for part in (answer.of_body(body), answer.rest()):
            async with aclosing(part) as told:
                async for each in told:
                    yield each
        if not answer.complete:
            yield answer.fewer()

    async def _read(self, response: httpx.Response, answer: Answer, clock: _Clock) -> list[bytes]:
        limit = self._settings.frame_limit_bytes * answer.expected
        parts: list[bytes] = []
        size = 0
        async with aclosing(self._chunks(response, answer, clock)) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise answer.bad(f"is larger than {limit:,} bytes; see {PREFIX}FRAME_LIMIT_BYTES")
                parts.append(chunk)
        return parts

    async def _chunks(self, response: httpx.Response, answer: Answer, clock: _Clock) -> AsyncGenerator[bytes, None]:
        """The bytes of the answer. An answer that has delivered everything may end in any way."""
        async with aclosing(cast(AsyncGenerator[bytes, None], response.aiter_bytes())) as stream:
            while True:
                try:
                    async with asyncio.timeout_at(clock.at):
                        chunk = await anext(stream, None)
                except (httpx.TransportError, httpx.DecodingError, TimeoutError) as exc:
                    if answer.complete:
                        return
                    raise self._cut(exc, answer) from exc
                if chunk is None:
                    return
                yield chunk

    def _cut(self, exc: Exception, answer: Answer) -> ProviderError:
        if isinstance(exc, httpx.DecodingError):
            return answer.bad("is compressed in a way that cannot be read")
        if isinstance(exc, httpx.TransportError) and not isinstance(exc, httpx.TimeoutException):
            return answer.truncated("was cut off")
        silent, total = self._settings.read_timeout_seconds, self._settings.total_timeout_seconds
        return TimedOutError(
            f"The answer of {self._speaker.host} was given up: silent for {silent:g} seconds, or not over after "
            f"{total:g}. The request may have been billed; it was not sent again.",
            transport=Transport.ACCEPTED,
            billed=answer.billed,
        )


def _media_type(response: httpx.Response) -> str:
    value: str = response.headers.get("Content-Type", "")
    return value.partition(";")[0].strip().lower()


def _json(parts: list[bytes]) -> JsonValue:
    value: JsonValue = from_json(b"".join(parts))
    return value
