"""A websocket as bytes: uvicorn's protocol, which hands the connection over once it is open.

From then on there is neither a task nor a queue per connection: a message is handled where it arrives, and ready-made
frames are written to the transport.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from graph.live.frames import frame

EXTENSION = "darkroom.connection"
"""Where an application finds the connection, in the `extensions` of its scope."""
UNREAD = 1024 * 1024
"""Most bytes of answers that a client may leave unread; one that asks for more is dropped."""
LONGEST_REASON = 123
"""Bytes of the reason of a close, by RFC 6455."""


class Conversation(Protocol):
    """Whoever speaks over a connection."""

    def received(self, text: bytes) -> None:
        """A text message has come."""

    def not_text(self) -> None:
        """A binary message has come."""

    def pause(self) -> None:
        """The reader does not keep up: whatever is written now waits in memory."""

    def resume(self) -> None:
        """The reader has caught up."""

    def closed(self) -> None:
        """It is over, for whatever reason. Called once."""


class Connection(WebSocketsSansIOProtocol):
    """One websocket."""

    conversation: Conversation | None = None
    _over = False
    _alive = False

    def handle_connect(self, event: Any) -> None:
        """Let the application find this connection."""
        super().handle_connect(event)
        if not self.close_sent:
            extensions = cast(dict[str, object], self.scope["extensions"])
            extensions[EXTENSION] = self

    def hand_over(self, conversation: Conversation) -> None:
        """From now on it is this conversation's. The application may return."""
        self.conversation = conversation
        del self.scope, self.request, self.response  # of no more use, and more than half of the memory of a connection
        while not self.queue.empty() and not self._over:
            early = self.queue.get_nowait()
            if early["type"] == "websocket.receive":
                text = early.get("text")
                conversation.not_text() if text is None else conversation.received(text.encode())
            else:
                self._end()
        self.queue, self.writable = NOWHERE, WRITABLE
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    @property
    def open(self) -> bool:
        """Whether anything can still be written."""
        return not self._over and not self.close_sent and not self.transport.is_closing()

    def write(self, text: bytes) -> None:
        """Write an answer, which must not be in the middle of another message."""
        if not self.open:
            return
        if self.transport.get_write_buffer_size() > UNREAD:
            self.transport.abort()
        else:
            self.transport.write(frame(text))

    def close(self, code: int, reason: str) -> None:
        """Begin to close, and end the conversation."""
        if self.open:
            short = reason.encode()[:LONGEST_REASON].decode(errors="ignore")
            self.conn.send_close(code, short)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
        self._end()

    def handle_text(self, event: Frame) -> None:
        """The beginning of a message, and mostly all of it. The parser holds a frame until the next one comes, which
        may be never."""
        super().handle_text(event)
        event.data = b""

    def handle_cont(self, event: Frame) -> None:
        """More of a message; a part without content says nothing, and would be kept all the same."""
        if not event.data and not event.fin:
            return
        super().handle_cont(event)
        event.data = b""

    def send_receive_event_to_app(self) -> None:
        """A message is complete."""
        if self.conversation is None:
            super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if not self.open:
            return
        if self.curr_msg_data_type == "text":
            self.conversation.received(bytes(data))
        else:
            self.conversation.not_text()

    def pause_writing(self) -> None:
        """Called by the transport."""
        if self.conversation is None:
            super().pause_writing()
        else:
            self.conversation.pause()

    def resume_writing(self) -> None:
        """Called by the transport."""
        self._alive = True
        if self.conversation is None:
            super().resume_writing()
        else:
            self.conversation.resume()

    def handle_ping(self) -> None:
        """The client asks whether somebody is here."""
        if self.transport.get_write_buffer_size() > UNREAD:
            self.transport.abort()
        super().handle_ping()

    def handle_close(self, event: Frame) -> None:
        """The client closes, or has answered our close."""
        super().handle_close(event)
        self._end()

    def handle_parser_exception(self) -> None:
        """The client does not speak websocket, or said too much at once."""
        super().handle_parser_exception()
        self._end()

    def send_keepalive_ping(self) -> None:
        """Ask whether somebody is there."""
        self._alive = False
        super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        """The client has not answered a ping. Unless it is busy reading what came before the ping, nobody is there,
        and what has not been read never will be."""
        if self._alive:
            self._alive = False
            self.pong_timer = self.loop.call_later(self.ping_timeout or 0, self.keepalive_timeout)
        else:
            super().keepalive_timeout()
            self.transport.abort()

    def shutdown(self) -> None:
        """The server stops."""
        super().shutdown()
        self._end()
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # it would wait for a reader who may never come

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport, at last."""
        super().connection_lost(exc)
        self._end()

    async def run_asgi(self) -> None:
        """Ask the application whether and how to open the connection."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except Exception:
            self.logger.exception("Exception in ASGI application\n")
            self.send_500_response()
        if self.conversation is None and self.close_timer is None:
            self.transport.close()

    def _end(self) -> None:
        if self.conversation is not None and not self._over:
            self._over = True
            self.conversation.closed()


class _Nowhere(asyncio.Queue[Any]):
    """Takes what nobody wants to hear any more."""

    def put_nowait(self, item: Any) -> None:
        """Drop it."""


# Shared by all connections that have been handed over, which need neither.
NOWHERE = _Nowhere()
WRITABLE = asyncio.Event()
