"""The process that serves: uvicorn, with an order of its own for the end."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from graph.farewell import drain
from graph.live.connection import Connection
from graph.settings import ServerSettings
from tasks.darkroom import Darkroom
from tasks.settings import TaskSettings

STALLED_SECONDS = 60
"""How long a client may take no bytes at all before its connection is dropped."""
UNSENT_BYTES = 128 * 1024
"""Most bytes that wait in the kernel for a client that reads slowly, so that what is urgent need not wait for them."""


class AddressError(OSError):
    """The address to listen on is taken, or is not this machine's."""


class Server(uvicorn.Server):
    """Says when it is ready, and stops the work while it closes the connections, because the work may be using them
    (our own sandbox)."""

    def __init__(
        self, config: uvicorn.Config, darkroom: Darkroom | None = None, *, on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._darkroom = darkroom
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the doors."""
        await super().startup(sockets)
        if not self.should_exit:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Websockets and event streams are closed at once, so that their clients go elsewhere; short work may end."""
        app = self.config.app
        if isinstance(app, Starlette) and (live := getattr(app.state, "live", None)) is not None:
            live.end()
        draining = asyncio.create_task(drain(self._darkroom)) if self._darkroom else None
        await super().shutdown(sockets)
        if draining is not None:
            await draining


async def work(darkroom: Darkroom, *, on_ready: Callable[[], None]) -> None:
    """Run tasks until SIGTERM or Ctrl-C; then let short work end, and hand over the rest."""
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        await darkroom.open()
        on_ready()
        await stopping.wait()
        await drain(darkroom)
    finally:
        await darkroom.close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, before there is anything to serve: whoever connects early waits, and is not refused.

    It names its protocol because asyncio switches Nagle's algorithm off only on sockets that do; without that, small
    answers would be held back for up to 40 ms.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        away = isinstance(exc, socket.gaierror) or exc.errno == errno.EADDRNOTAVAIL
        remedy = (
            "Set DARKROOM_HOST to an address of this machine, or to 0.0.0.0 for all of them."
            if away
            else "Choose another DARKROOM_PORT."
        )
        raise AddressError(f"Cannot listen on {host}:{port}: {exc.strerror}. {remedy}") from exc
    # What is set here holds for every connection that is accepted. Where the system does not know it, it is left out.
    for name, value in (("TCP_USER_TIMEOUT", STALLED_SECONDS * 1000), ("TCP_NOTSENT_LOWAT", UNSENT_BYTES)):
        if (option := getattr(socket, name, None)) is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)
    listener.listen(2048)
    return listener


def configure(app: Starlette, server: ServerSettings, tasks: TaskSettings) -> uvicorn.Config:
    """How uvicorn is run here."""
    return uvicorn.Config(
        app,
        host=server.host,
        port=server.port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws=Connection,
        # Pictures do not compress, and base64 costs far more time than it saves.
        ws_per_message_deflate=False,
        ws_max_size=server.max_body_bytes,
        ws_ping_interval=server.ping_seconds,
        ws_ping_timeout=server.pong_seconds,
        timeout_graceful_shutdown=int(tasks.shutdown_seconds) + 2,
    )
