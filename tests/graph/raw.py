"""A websocket client with no manners: it reads when it is told to, and vanishes when it is told to."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlencode

from tests.graph.stage import Stage

_HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)


class RawSocket:
    """One connection. What it does not read stays in the kernel, which is told to keep little."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._read = b""

    def send(self, message: object) -> None:
        """Send a text message, masked with zeros."""
        self.frame(0x81, json.dumps(message).encode())

    def frame(self, first: int, payload: bytes) -> None:
        """Send one frame."""
        if len(payload) < 126:
            length = bytes((0x80 | len(payload),))
        elif len(payload) < 1 << 16:
            length = b"\xfe" + len(payload).to_bytes(2, "big")
        else:
            length = b"\xff" + len(payload).to_bytes(8, "big")
        self._socket.sendall(bytes((first,)) + length + b"\0\0\0\0" + payload)

    def subscribe(self, id: str, query: str, /, **variables: Any) -> None:
        """Begin a subscription."""
        self.send({"id": id, "type": "subscribe", "payload": {"query": query, "variables": variables}})

    async def receive(self) -> tuple[int, bytes]:
        """The next frame as it is: its first byte, and its payload."""
        first, second = await self._exactly(2)
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(await self._exactly(2 if length == 126 else 8), "big")
        return first, await self._exactly(length)

    async def message(self) -> dict[str, Any]:
        """The next message; pings are left unanswered."""
        parts = []
        while True:
            first, payload = await self.receive()
            if first & 0x0F in (0x0, 0x1):
                parts.append(payload)
                if first & 0x80:
                    found: dict[str, Any] = json.loads(b"".join(parts))
                    return found
            elif first == 0x88:
                raise ConnectionError(f"closed with {int.from_bytes(payload[:2], 'big')}: {payload[2:].decode()}")

    def abort(self) -> None:
        """Vanish without a word: the other side gets a reset."""
        if self._socket.fileno() >= 0:
            _reset(self._socket)

    async def rest(self) -> bytes:
        """Whatever comes until the server hangs up."""
        found = b""
        with suppress(ConnectionError):
            while True:
                found += await self._exactly(1)
        return found

    async def _exactly(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        while len(self._read) < count:
            data = await loop.sock_recv(self._socket, 1 << 18)
            if not data:
                raise ConnectionError("the server has hung up")
            self._read += data
        found, self._read = self._read[:count], self._read[count:]
        return found


async def connect(stage: Stage, *, init: bool = True, buffer: int = 4096) -> RawSocket:
    """Open a connection that keeps only so many bytes unread."""
    raw = RawSocket(await _said(stage, _HANDSHAKE % _port(stage), buffer))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += await raw._exactly(1)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    if init:
        raw.send({"type": "connection_init"})
        assert await raw.message() == {"type": "connection_ack"}
    return raw


@asynccontextmanager
async def raw_socket(stage: Stage, **options: Any) -> AsyncIterator[RawSocket]:
    """The same, until the block ends."""
    raw = await connect(stage, **options)
    try:
        yield raw
    finally:
        raw.abort()


@asynccontextmanager
async def raw_stream(stage: Stage, query: str, /, **variables: Any) -> AsyncIterator[RawSocket]:
    """An event stream of which nothing is read unless it is asked for."""
    asked = urlencode({"query": query, "variables": json.dumps(variables)})
    head = f"GET /graphql?{asked} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
    raw = RawSocket(await _said(stage, head.encode(), 4096))
    try:
        yield raw
    finally:
        raw.abort()


def vanish_at_once(stage: Stage) -> None:
    """Ask for a websocket, and do not wait for the answer."""
    connection = socket.create_connection(("127.0.0.1", _port(stage)))
    connection.sendall(_HANDSHAKE % _port(stage))
    _reset(connection)


def _port(stage: Stage) -> int:
    return int(stage.url.rpartition(":")[2])


async def _said(stage: Stage, words: bytes, buffer: int) -> socket.socket:
    """A connection over which something has been said, and which keeps only so many bytes unread."""
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.setblocking(False)
    await loop.sock_connect(connection, ("127.0.0.1", _port(stage)))
    await loop.sock_sendall(connection, words)
    return connection


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
