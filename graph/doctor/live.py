"""What the doctor looks at over connections that stay open."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http import HTTPStatus

import httpx
import orjson
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Origin, Subprotocol

from graph.doctor.finding import FaultError, Site, origin, unexpected
from graph.doctor.plain import PATIENCE
from graph.doctor.remedies import BUFFERED, COMPRESSED, IDLE, ORIGIN, SUBPROTOCOL, UPGRADE

PROMPT = 2.0
"""Seconds that a first event may take. One that a proxy collects comes much later, or never."""
SUBSCRIPTION = 'subscription { activity(filter: { createdBefore: "2000-01-01T00:00:00Z" }) { __typename } }'
"""Two events at once, and then none, however busy the server is."""
ENOUGH = 2**16
"""Bytes of a wrong answer that are read."""


class Socket:
    """A subscription over a websocket. Nothing is sent to keep it open: that is what the server's pings are for."""

    def __init__(self, site: Site, tls: ssl.SSLContext | None, stack: AsyncExitStack) -> None:
        self._site = site
        self._tls = tls
        self._stack = stack
        self._connection: ClientConnection | None = None

    async def opens(self) -> str:
        """The upgrade is let through, as a browser's page asks for it, and the protocol is known."""
        try:
            connection = await self._stack.enter_async_context(
                connect(
                    "ws" + self._site.url.removeprefix("http") + "/graphql",
                    subprotocols=[Subprotocol(GRAPHQL_TRANSPORT_WS_PROTOCOL)],
                    origin=Origin(origin(self._site.parts)),
                    additional_headers=self._site.login,
                    ssl=self._tls,
                    proxy=None,
                    ping_interval=None,
                    open_timeout=PATIENCE,
                )
            )
        except InvalidStatus as exc:
            raise _refused(exc) from exc
        except (InvalidHandshake, TimeoutError, OSError) as exc:
            raise FaultError(f"the upgrade failed: {exc or 'no answer'}", UPGRADE) from exc
        if connection.subprotocol != GRAPHQL_TRANSPORT_WS_PROTOCOL:
            raise FaultError("the subprotocol got lost on the way", SUBPROTOCOL)
        self._connection = connection
        return f"open, {GRAPHQL_TRANSPORT_WS_PROTOCOL}"

    async def tells(self) -> str:
        """The first event comes at once."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(PROMPT):
                await self._say({"type": "connection_init"})
                await self._hear("connection_ack")
                await self._say({"id": "1", "type": "subscribe", "payload": {"query": SUBSCRIPTION}})
                await self._hear("next")
        except TimeoutError as exc:
            raise FaultError(f"no event in {PROMPT:g} s", BUFFERED) from exc
        except ConnectionClosed as exc:
            raise FaultError(f"closed before the first event ({exc})", IDLE) from exc
        return f"the first event came after {(time.monotonic() - began) * 1000:.0f} ms"

    async def stays(self, seconds: float) -> str:
        """Nobody cuts it while nothing happens."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self._open.recv()
        except TimeoutError:
            return f"still open after {seconds:g} s"
        except ConnectionClosed as exc:
            after = time.monotonic() - began
            if exc.rcvd is not None:
                message = (
                    f"closed after {after:.1f} s with code {exc.rcvd.code} ({exc.rcvd.reason or 'no reason given'})"
                )
                raise FaultError(message, "Darkroom closed it, perhaps because it was stopped; try again.") from exc
            raise FaultError(f"cut after {after:.1f} s without a word", IDLE) from exc

    @property
    def _open(self) -> ClientConnection:
        assert self._connection is not None, "look whether it opens first"
        return self._connection

    async def _say(self, message: dict[str, object]) -> None:
        await self._open.send(orjson.dumps(message).decode())

    async def _hear(self, kind: str) -> None:
        message = orjson.loads(await self._open.recv())
        if message["type"] != kind:
            raise FaultError(f"the answer was {orjson.dumps(message).decode()[:200]}", "Look into the log of Darkroom.")


class Stream:
    """The same subscription as an event stream."""

    def __init__(self, client: httpx.AsyncClient, stack: AsyncExitStack) -> None:
        self._client = client
        self._stack = stack
        self._encoding = ""
        self._chunks: AsyncIterator[bytes] | None = None

    async def tells(self) -> str:
        """It opens, and the first event comes at once."""
        began = time.monotonic()
        # As a browser's EventSource asks. A POST that is answered at once is now and then cut off by proxies written in
        # Go that are busy, before they have seen that its body has ended.
        request = self._client.stream(
            "GET",
            "/graphql",
            params={"query": SUBSCRIPTION},
            headers={"accept": "text/event-stream"},
            timeout=httpx.Timeout(PATIENCE, read=None),  # silence is what it is opened for
        )
        try:
            async with asyncio.timeout(PROMPT):
                response = await self._stack.enter_async_context(request)
                self._chunks = response.aiter_bytes()
                if response.status_code != HTTPStatus.OK:
                    raise unexpected("the request", response.status_code, (await response.aread())[:ENOUGH])
                if not response.headers["content-type"].startswith("text/event-stream"):
                    raise FaultError(f"the answer is {response.headers['content-type']}", BUFFERED)
                self._encoding = response.headers.get("content-encoding", "")
                text = b""
                while b"event: next" not in text:
                    text += await anext(self._chunks)
        except TimeoutError as exc:
            raise FaultError(f"no event in {PROMPT:g} s", BUFFERED) from exc
        except StopAsyncIteration as exc:
            raise FaultError("ended before the first event", IDLE) from exc
        return f"the first event came after {(time.monotonic() - began) * 1000:.0f} ms"

    async def is_plain(self) -> str:
        """Nobody compresses it, which would hold small events back."""
        if self._encoding not in ("", "identity"):
            raise FaultError(f"it is compressed ({self._encoding})", COMPRESSED)
        return "not compressed"

    async def stays(self, seconds: float) -> str:
        """Nobody cuts it while nothing happens."""
        assert self._chunks is not None, "look whether it tells something first"
        began, signs = time.monotonic(), 0
        ended = "ended"
        try:
            async with asyncio.timeout(seconds):
                async for chunk in self._chunks:
                    signs += chunk.count(b":\n\n")
        except TimeoutError:
            return f"still open after {seconds:g} s, {signs} signs of life"
        except httpx.TransportError:
            ended = "cut"
        raise FaultError(f"{ended} after {time.monotonic() - began:.1f} s", IDLE)


def _refused(refusal: InvalidStatus) -> FaultError:
    status, body = refusal.response.status_code, bytes(refusal.response.body or b"")
    fault = unexpected("the upgrade", status, body)
    if status == HTTPStatus.FORBIDDEN:
        return FaultError(str(fault), ORIGIN)
    return FaultError(str(fault), UPGRADE) if status < HTTPStatus.UNAUTHORIZED else fault
