"""A whole Darkroom on a real socket, in a thread with an event loop of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from graph.app import create_app
from graph.settings import ServerSettings
from tasks.darkroom import Darkroom
from tasks.settings import TaskSettings


@dataclass(frozen=True)
class LiveServer:
    """Where it is, and its parts, for tests that look inside."""

    url: str
    home: Path
    darkroom: Darkroom

    @property
    def websocket_url(self) -> str:
        """The same for websockets."""
        return self.url.replace("http://", "ws://")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextmanager
def running(home: Path, **settings: Any) -> Iterator[LiveServer]:
    """Serve with the data in `home` until the block ends. `settings` are fields of `ServerSettings`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server_settings = ServerSettings(**{"port": listener.getsockname()[1], **settings})
        base_url = server_settings.base_url()
        app = create_app(server_settings, TaskSettings(home=home, shutdown_seconds=1), base_url=base_url)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="darkroom")
        thread.start()
        try:
            while not server.ready.wait(0.1):
                assert thread.is_alive(), "the server did not start; the log says why"
            yield LiveServer(base_url, home, app.state.darkroom)
        finally:
            server.should_exit = True
            thread.join()
