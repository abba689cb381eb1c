"""Several nodes on one database, of which now one and now another is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.process import Process, serve


class Cluster:
    """Nodes by number; the one at a number can be killed, and is then replaced by a new one."""

    def __init__(self, size: int, home: Path, settings: Mapping[str, str]) -> None:
        self._home = home
        self._settings = {**settings, "DARKROOM_STORAGE_URL": (home / "pictures").as_uri()}
        self._nodes: list[Process | None] = [None] * size
        self._stack = ExitStack()
        self.all: list[Process] = []
        """Every node there has been."""

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(self._start(number) for number in range(len(self._nodes))))
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._stack.close)

    def there(self) -> list[Process]:
        """The nodes that can be asked at the moment."""
        return [node for node in self._nodes if node is not None]

    async def kill(self, number: int) -> None:
        """`kill -9`, and a new one in its place."""
        node = self._nodes[number]
        assert node is not None
        self._nodes[number] = None
        await asyncio.to_thread(node.kill)
        await self._start(number)

    async def _start(self, number: int) -> None:
        serving = serve(self._home / f"node {len(self.all)}", **self._settings)
        node = await asyncio.to_thread(serving.__enter__)
        self._stack.push(serving)
        self.all.append(node)
        self._nodes[number] = node
