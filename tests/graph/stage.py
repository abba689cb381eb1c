"""A Darkroom in the loop of the test, with tasks whose events the test writes itself, one by one."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from graph.app import create_app
from graph.ids import encode
from graph.live.server import Live
from graph.server import Server, configure, listen
from graph.settings import ServerSettings
from providers.contract import ProgressOrigin
from tasks.darkroom import Darkroom
from tasks.events import Change, ImageReady, PartialImageReady, Progressed, StatusChanged, Succeeded
from tasks.images import image_record
from tasks.records import ImageKind, TaskRecord
from tasks.settings import TaskSettings
from tasks.status import TaskStatus
from tasks.tables import new_task


def noise(kilobytes: int) -> bytes:
    """A picture file of about this size, different every time."""
    height = max(kilobytes * 1024 // (3 * 256), 1)
    file = io.BytesIO()
    Image.frombytes("RGB", (256, height), os.urandom(3 * 256 * height)).save(file, "PNG", compress_level=0)
    return file.getvalue()


@dataclass
class StagedTask:
    """A task that no engine runs."""

    record: TaskRecord
    darkroom: Darkroom

    @property
    def id(self) -> str:
        """The id that clients know."""
        return encode("Task", self.record.id)

    async def append(self, change: Change, **values: Any) -> None:
        """One more event."""
        self.record = await self.darkroom._journal.append(self.record, change, **values)

    async def progress(self, count: int = 1) -> None:
        """Small events."""
        for _ in range(count):
            fraction = (self.record.last_sequence % 100) / 100
            await self.append(Progressed(fraction, ProgressOrigin.ESTIMATED, None))

    async def partial(self, number: int, data: bytes) -> None:
        """An earlier stage of its picture."""
        image = image_record(
            self.record,
            await self.darkroom.images.put(data),
            ImageKind.PARTIAL,
            0,
            partial_image_index=number,
            placeholder="data:,",
        )
        await self.append(PartialImageReady(0, number, image.id), image=image)

    async def picture(self, data: bytes) -> None:
        """Its finished picture."""
        stored = await self.darkroom.images.put(data)
        image = image_record(self.record, stored, ImageKind.FINAL, 0, placeholder="data:,")
        await self.append(ImageReady(0, image.id), image=image)

    async def succeed(self) -> None:
        """Its last event."""
        await self.append(Succeeded(), status=TaskStatus.SUCCEEDED)


@dataclass(frozen=True)
class Stage:
    """Where the server is, and its parts."""

    url: str
    darkroom: Darkroom
    live: Live
    stop: Callable[[], Coroutine[Any, Any, None]]
    """Stop the server, as a signal would."""

    @property
    def websocket_url(self) -> str:
        """The same for websockets."""
        return self.url.replace("http://", "ws://")

    async def task(self) -> StagedTask:
        """A new task, with one event."""
        record = new_task(provider="openai_images", sandbox=True, request={}, prompt="x", fingerprint="x")
        journal, database = self.darkroom._journal, self.darkroom._database
        running = StatusChanged(TaskStatus.RUNNING)
        await database.write(lambda connection: journal.open(record, running, connection))
        claimed = await journal.claim(record.id)
        assert claimed is not None
        return StagedTask(claimed, self.darkroom)

    async def watched_by(self, count: int) -> None:
        """Wait until there are so many subscriptions, all of them up to date."""
        await until(lambda: sum(len(group._live) for group in self.live.groups) == count)

    async def is_left(self) -> None:
        """Wait until nobody is connected and nothing is left of anybody."""
        await until(lambda: len(self.live.callers) == 0)
        await self.is_unwatched()

    async def is_unwatched(self) -> None:
        """Wait until nothing is left of any subscription."""
        await until(lambda: len(self.live.groups) == 0 and self.darkroom.feed.subscribers == 0)


async def until(condition: Callable[[], bool]) -> None:
    """Let everything else in this loop go on until something is so; at most for ten seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await _turn()


async def _turn() -> None:
    await asyncio.sleep(0)


class _Server(Server):
    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Leave the signals to pytest."""
        return nullcontext()


@asynccontextmanager
async def staged(home: Path, **settings: Any) -> AsyncIterator[Stage]:
    """Serve with the data in `home` until the block ends. `settings` are fields of `ServerSettings`, or of
    `TaskSettings`."""
    with listen("127.0.0.1", 0) as listener:
        server_settings = ServerSettings(**{"port": listener.getsockname()[1], **settings})
        base_url = server_settings.base_url()
        task_settings = TaskSettings(home=home, shutdown_seconds=0, **settings)
        # There is one engine per process, and other tests need it.
        app = create_app(server_settings, task_settings, base_url=base_url, works=False)
        ready = asyncio.Event()
        server = _Server(configure(app, server_settings, task_settings), app.state.darkroom, on_ready=ready.set)
        serve = asyncio.create_task(server.serve([listener]))
        await ready.wait()

        async def stop() -> None:
            server.should_exit = True
            await asyncio.shield(serve)

        try:
            yield Stage(base_url, app.state.darkroom, app.state.live, stop)
        finally:
            await stop()
