"""A Python server to be measured: Darkroom, or the same schema behind `strawberry.asgi`.

    python -m bench.live.server darkroom|stock HOME TASKS

Prints the port of GraphQL and that of the control socket. There, `P a b` publishes the next event of the tasks a to b,
`I a b` one with a picture, and `N` answers with how many subscriptions there are. The events never reach the disk, so
that delivery alone is measured.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import uvicorn
from sqlalchemy import Connection, inspect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

from bench.live.noise import noise
from graph.app import create_app
from graph.context import Context, Rights
from graph.ids import encode
from graph.schema import schema
from graph.server import Server, configure, listen
from graph.settings import ServerSettings
from providers.contract import ProgressOrigin
from tasks.darkroom import Darkroom
from tasks.events import Change, PartialImageReady, Progressed, StatusChanged, TaskEvent
from tasks.images import image_record
from tasks.records import ImageKind, ImageRecord, TaskRecord, now
from tasks.settings import TaskSettings
from tasks.status import TaskStatus
from tasks.tables import new_task

PICTURE_BYTES = 75_000
"""Of a file that is 100 KB in base64."""


class StockView(GraphQL[Context, None]):
    """What one would write without Darkroom's own delivery."""

    def __init__(self, darkroom: Darkroom) -> None:
        super().__init__(schema, subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,))
        self._darkroom = darkroom

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        """As resolvers expect it."""
        return Context(self._darkroom, Rights("http://127.0.0.1"))


class Publisher:
    """Tasks that exist, and events of theirs that never happened."""

    def __init__(self, darkroom: Darkroom, count: int) -> None:
        self._darkroom = darkroom
        self._count = count
        self._fields: list[dict[str, object]] = []
        self._image: ImageRecord | None = None

    async def prepare(self) -> None:
        """Store the tasks, with one event each, and a picture."""
        journal, database = self._darkroom._journal, self._darkroom._database
        new = [
            new_task(
                id=f"{number:032x}",
                provider="openai_images",
                sandbox=True,
                request={},
                prompt="x",
                fingerprint="x",
                status=TaskStatus.RUNNING,
            )
            for number in range(self._count)
        ]

        def store(connection: Connection) -> list[TaskRecord]:
            return [journal.open(task, StatusChanged(TaskStatus.RUNNING), connection).task for task in new]

        tasks = await database.write(store)
        names = [attribute.key for attribute in inspect(TaskRecord).column_attrs]
        self._fields = [{name: getattr(task, name) for name in names} for task in tasks]
        stored = await self._darkroom.images.put(noise(PICTURE_BYTES))
        self._image = image_record(tasks[0], stored, ImageKind.PARTIAL, 0, partial_image_index=0, placeholder="data:,")

    def publish(self, first: int, last: int, *, picture: bool) -> None:
        """The next event of each task in a range. Its task is named after the time."""
        change: Change = Progressed(0.5, ProgressOrigin.ESTIMATED, None)
        image = None
        if picture and self._image is not None:
            image = self._image
            change = PartialImageReady(0, 0, image.id)
        at = now()
        for fields in self._fields[first:last]:
            sequence = cast(int, fields["last_sequence"]) + 1
            fields["last_sequence"] = sequence
            # As a row would be, without what SQLAlchemy does for each of them: that is not what is measured here.
            task = cast(TaskRecord, SimpleNamespace(**fields | {"name": str(time.monotonic_ns())}))
            self._darkroom.feed.publish(TaskEvent(task, sequence, at, change, image))


async def control(
    publisher: Publisher, subscriptions: Callable[[], int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One connection of the load client."""
    while line := await reader.readline():
        match line.split():
            case [b"N"]:
                writer.write(b"%d\n" % subscriptions())
            case [kind, first, last]:
                publisher.publish(int(first), int(last), picture=kind == b"I")
    writer.close()


async def serve(contender: str, home: Path, tasks: int) -> None:
    """Serve until this process is killed."""
    with listen("127.0.0.1", 0) as listener:
        settings = ServerSettings(port=listener.getsockname()[1], max_connections_per_caller=0)
        task_settings = TaskSettings(home=home)
        app = create_app(settings, task_settings, base_url=settings.base_url(), works=False)
        darkroom: Darkroom = app.state.darkroom
        config = configure(app, settings, task_settings)
        if contender == "stock":
            view = StockView(darkroom)
            stock = Starlette(routes=[WebSocketRoute("/graphql", view)], lifespan=app.router.lifespan_context)
            config = uvicorn.Config(
                stock, log_config=None, access_log=False, ws="websockets-sansio", ws_per_message_deflate=False
            )
        ready = asyncio.Event()
        serving = asyncio.create_task(Server(config, darkroom, on_ready=ready.set).serve([listener]))
        await ready.wait()
        publisher = Publisher(darkroom, tasks)
        await publisher.prepare()

        def subscriptions() -> int:
            return app.state.live.groups.subscribers if contender == "darkroom" else darkroom.feed.subscribers

        controls = await asyncio.start_server(
            lambda reader, writer: control(publisher, subscriptions, reader, writer), "127.0.0.1", 0
        )
        port, control_port = settings.port, controls.sockets[0].getsockname()[1]
        sys.stdout.write(f"{port} {control_port} {encode('Task', '%032x')}\n")
        sys.stdout.flush()
        await serving


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
