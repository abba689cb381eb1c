"""A database and an image store of a test's own, without a server around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.database import Database
from tasks.events import StatusChanged
from tasks.feed import Feed
from tasks.history import History
from tasks.images import ImageStore
from tasks.journal import Journal
from tasks.records import TaskRecord
from tasks.status import TaskStatus


@dataclass(frozen=True)
class Shelf:
    """The parts of the room that keep things."""

    database: Database
    feed: Feed
    journal: Journal
    history: History
    images: ImageStore

    async def claimed(self) -> TaskRecord:
        """A new task that this test has claimed."""
        task = TaskRecord(provider="openai_images", sandbox=True, request={}, prompt="x", fingerprint="x")
        await self.database.write(lambda session: self.journal.open(task, StatusChanged(TaskStatus.QUEUED), session))
        claimed = await self.journal.claim(task.id)
        assert claimed is not None
        return claimed


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    """Empty, on SQLite and a folder."""
    database = Database(f"sqlite:///{tmp_path / 'darkroom.db'}")
    await database.migrate()
    feed = Feed()
    images = ImageStore((tmp_path / "images").as_uri(), database)
    yield Shelf(database, feed, Journal(database, feed), History(database), images)
    await database.close()
