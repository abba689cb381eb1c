"""A whole Darkroom on a real socket, in a thread with an event loop of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from graph.app import create_app
from graph.server import Server, configure, listen
from graph.settings import ServerSettings
from tasks.darkroom import Darkroom
from tasks.settings import TaskSettings


class Reachable(Protocol):
    """Any server that a client can be pointed at."""

    @property
    def url(self) -> str:
        """Like `http://127.0.0.1:8000`."""
        ...

    @property
    def websocket_url(self) -> str:
        """Like `ws://127.0.0.1:8000`."""
        ...


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


@contextmanager
def running(home: Path, *, tasks: Mapping[str, Any] | None = None, **settings: Any) -> Iterator[LiveServer]:
    """Serve with the data in `home` until the block ends. `tasks` are fields of `TaskSettings`, the other settings are
    fields of `ServerSettings`."""
    with listen("127.0.0.1", 0) as listener:
        server_settings = ServerSettings(**{"port": listener.getsockname()[1], **settings})
        base_url = server_settings.base_url()
        task_settings = TaskSettings(**{"home": home, "shutdown_seconds": 1, **(tasks or {})})
        app = create_app(server_settings, task_settings, base_url=base_url)
        ready = threading.Event()
        config = configure(app, server_settings, task_settings)
        server = Server(config, app.state.darkroom, on_ready=ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="darkroom")
        thread.start()
        try:
            while not ready.wait(0.1):
                assert thread.is_alive(), "the server did not start; the log says why"
            yield LiveServer(base_url, home, app.state.darkroom)
        finally:
            server.should_exit = True
            thread.join()
