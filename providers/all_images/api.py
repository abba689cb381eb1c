"""The endpoints of All-Images.ai over httpx, one method each (contract all-images §1).

A request that pays is sent once here. Reading is tried again for as long as the caller says, after the failures that
pass (contract all-images §4); so is a download, because the vendor debits a picture once however often it is fetched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import httpx
import orjson
from pydantic import JsonValue
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_before_delay, wait_random_exponential

from providers.all_images.answer import Generation, JsonObject, generation_of
from providers.all_images.errors import is_passing, not_answered, refusal
from providers.all_images.settings import PREFIX, AllImagesSettings
from providers.errors import BadResponseError, ProviderError, Transport
from providers.http import async_client
from providers.speaker import Speaker

EVENTS = ("test", "print.created", "print.active", "print.progress", "print.failed", "print.completed")
"""What a webhook can be told (contract all-images §3.5)."""

_JSON_BYTES = 8 * 1024 * 1024
_NO_PICTURE = ("text/", "application/json", "application/xml")

LONGEST_ASKED_SECONDS = 60.0
"""Longest pause that the vendor can ask for: what it made is paid for, asking costs nothing, and its links end."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that was read to its end."""

    status: int
    headers: httpx.Headers
    body: bytes


class Api:
    """One account at the vendor. Every method raises a `ProviderError`, already converted."""

    def __init__(self, settings: AllImagesSettings, base_url: str, *, sandbox: bool) -> None:
        self._base = base = httpx.URL(base_url)
        self._settings = settings
        self._key = settings.api_key
        self._sandbox = sandbox
        secret = self._key.get_secret_value() if self._key is not None else None
        self.speaker = Speaker(base.netloc.decode("ascii"), secret)
        self._client = async_client(
            connect_seconds=settings.connect_timeout_seconds, read_seconds=settings.read_timeout_seconds
        )

    async def create(self, body: JsonObject) -> Generation:
        """Start a generation: that pays. Sent once."""
        reply = await self._send("POST", "/image-generations", body, pays=True)
        return generation_of(self._object(reply))

    async def read(self, generation_id: str, *, seconds: float) -> Generation | None:
        """A generation; None where the vendor does not know it."""
        reply = await self._patiently(lambda: self._find("GET", f"/image-generations/{_part(generation_id)}"), seconds)
        return None if reply is None else generation_of(self._object(reply))

    async def tagged(self, tag: str, *, limit: int, offset: int) -> list[Generation]:
        """A page of the generations with a tag. A vendor that ignores the filter answers with all of them."""
        query = {"tag": tag, "limit": str(limit), "offset": str(offset)}
        body = self._object(await self._send("GET", "/image-generations", query=query))
        prints = body.get("prints")
        return [generation_of(each) for each in prints if isinstance(each, dict)] if isinstance(prints, list) else []

    async def update(self, generation_id: str, body: JsonObject) -> None:
        """Change a generation's parameters; the vendor refuses it while the generation is being made."""
        await self._send("PUT", f"/image-generations/{_part(generation_id)}", body)

    async def retry(self, generation_id: str) -> None:
        """Try a failed generation again: that may pay. Sent once."""
        await self._send("POST", f"/image-generations/retry/{_part(generation_id)}", pays=True)

    async def delete(self, generation_id: str) -> None:
        """Delete a generation. The answer is the same for one that never was."""
        await self._send("DELETE", "/image-generations", {"printIds": [generation_id]})

    async def download(self, image_id: str, *, seconds: float) -> bytes:
        """The full picture: that pays, once per picture, so a lost answer is asked for again."""
        limit = self._settings.link_max_bytes

        async def once() -> Reply:
            return await self._send("POST", "/images/download", {"id": image_id}, pays=True, limit=limit)

        reply = await self._patiently(once, seconds)
        kind = reply.headers.get("Content-Type", "").lower()
        if not reply.body or kind.startswith(_NO_PICTURE):
            raise self._bad(f"to a download is no picture ({kind or 'of an unknown type'}, {len(reply.body)} bytes)")
        return reply.body

    def picture_url(self, image_id: str, format_: str) -> str:
        """Where a picture is, in the format `preview` or `full`, should the vendor not have said."""
        return str(self._at(f"/images/{format_}/{_part(image_id)}.jpg"))

    async def check_key(self) -> None:
        """Raises UnauthorizedError for a key the vendor does not know."""
        await self._send("GET", "/api-keys/check")

    async def credits(self) -> list[JsonObject]:
        """What is left, by kind of credit."""
        found = self._object(await self._send("GET", "/credit")).get("credits")
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []

    async def subscribe(self, url: str, events: Sequence[str]) -> str | None:
        """Be told at `url`; the id of the subscription, should the vendor give one."""
        listed: list[JsonValue] = [*events]
        body = self._object(await self._send("POST", "/api-keys/webhook/subscribe", {"url": url, "events": listed}))
        found = body.get("webhookId")
        return found if isinstance(found, str) and found else None

    async def unsubscribe(self, webhook_id: str) -> None:
        """Be told no more."""
        await self._send("DELETE", f"/api-keys/webhook/unsubscribe/{_part(webhook_id)}")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _find(self, method: str, path: str) -> Reply | None:
        try:
            return await self._send(method, path)
        except ProviderError as exc:
            if exc.status == self._settings.unknown_id_status:
                return None
            raise

    async def _send(
        self,
        method: str,
        path: str,
        body: JsonObject | None = None,
        *,
        query: Mapping[str, str] | None = None,
        pays: bool = False,
        limit: int = _JSON_BYTES,
    ) -> Reply:
        sent = False

        async def trace(event: str, _info: object) -> None:
            nonlocal sent
            sent = sent or event.endswith("send_request_headers.started")

        request = self._client.build_request(
            method,
            self._at(path),
            params=query,
            content=None if body is None else orjson.dumps(body),
            headers=self._headers(body is not None),
            extensions={"trace": trace},
        )
        try:
            async with asyncio.timeout(self._settings.read_timeout_seconds):
                response = await self._client.send(request, stream=True)
                try:
                    reply = Reply(response.status_code, response.headers, await self._read(response, limit))
                finally:
                    await response.aclose()
        except (httpx.TransportError, httpx.DecodingError, TimeoutError) as exc:
            raise not_answered(exc, self.speaker, sent=sent, pays=pays) from exc
        if not 200 <= reply.status < 300:
            raise refusal(
                reply.status,
                reply.headers,
                reply.body,
                self.speaker,
                no_credits_status=self._settings.no_credits_status,
            )
        return reply

    async def _read(self, response: httpx.Response, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > limit:
                raise self._bad(f"is larger than {limit:,} bytes")
            parts.append(part)
        return b"".join(parts)

    async def _patiently(self, call: Callable[[], Awaitable[T]], seconds: float) -> T:
        """`call`, again after failures that pass, until another attempt would be later than `seconds` from now."""
        retrying = AsyncRetrying(
            retry=retry_if_exception(is_passing),
            wait=self._wait,
            stop=stop_before_delay(max(0.0, seconds)),
            reraise=True,
        )

        async def attempt() -> T:
            return await call()  # tenacity awaits nothing that only returns an awaitable

        return await retrying(attempt)

    def _wait(self, state: RetryCallState) -> float:
        longest = max(self._settings.poll_first_seconds, self._settings.poll_longest_seconds)
        wait: float = wait_random_exponential(multiplier=self._settings.poll_first_seconds / 2, max=longest)(state)
        failed = state.outcome.exception() if state.outcome is not None else None
        asked = failed.retry_after if isinstance(failed, ProviderError) else None
        return max(wait, min(asked or 0.0, LONGEST_ASKED_SECONDS))

    def _headers(self, with_body: bool) -> dict[str, str]:
        headers = {"Accept": "application/json, image/*"}
        if with_body:
            headers["Content-Type"] = "application/json"
        if self._key is not None:
            headers["api-key"] = self._key.get_secret_value()
        elif self._sandbox:
            headers["api-key"] = "sandbox"
        return headers

    def _at(self, path: str) -> httpx.URL:
        return self._base.copy_with(raw_path=self._base.raw_path.rstrip(b"/") + path.encode("ascii"))

    def _object(self, reply: Reply) -> JsonObject:
        try:
            value: JsonValue = orjson.loads(reply.body)
        except orjson.JSONDecodeError as exc:
            start = self.speaker.clean(reply.body[:60].decode(errors="replace"))
            raise self._bad(f"is no JSON (it starts with {start!r}); check {PREFIX}BASE_URL") from exc
        if not isinstance(value, dict):
            raise self._bad("is JSON, but no object")
        return value

    def _bad(self, what: str) -> BadResponseError:
        return BadResponseError(f"The answer of {self.speaker.host} {what}.", transport=Transport.ACCEPTED)


def _part(text: str) -> str:
    """One segment of a path, whatever is in it."""
    return quote(text, safe="")
