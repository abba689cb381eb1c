"""A database and an image store of a test's own, without a server around them."""

from __future__ import annotations

import shutil
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
from tasks.signals import Signals
from tasks.status import TaskStatus
from tasks.tables import new_task
from tests.conftest import migrated


@dataclass(frozen=True)
class Shelf:
    """The parts of the room that keep things."""

    database: Database
    feed: Feed
    journal: Journal
    history: History
    images: ImageStore
    signals: Signals

    async def claimed(self) -> TaskRecord:
        """A new task that this test has claimed."""
        task = new_task(provider="openai_images", sandbox=True, request={}, prompt="x", fingerprint="x")
        queued = StatusChanged(TaskStatus.QUEUED)
        await self.database.write(lambda connection: self.journal.open(task, queued, connection))
        claimed = await self.journal.claim(task.id)
        assert claimed is not None
        return claimed


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'darkroom.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all tables, for others to be copies of."""
    return Path(migrated(f"sqlite:///{tmp_path_factory.mktemp('template') / 'darkroom.db'}"))


@pytest.fixture(params=["sqlite", "postgresql"])
def with_tables(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that is up to date already, once of each kind."""
    if request.param == "sqlite":
        copy = tmp_path / "darkroom.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), copy)
        return f"sqlite:///{copy}"
    url: str = request.getfixturevalue("postgres_with_tables")
    return url


@pytest.fixture
async def shelf(with_tables: str, tmp_path: Path) -> AsyncIterator[Shelf]:
    """Empty, on a database of each kind and a folder."""
    database = Database(with_tables)
    feed = Feed()
    images = ImageStore((tmp_path / "images").as_uri(), database)
    signals = Signals(database)
    yield Shelf(database, feed, Journal(database, feed, signals), History(database), images, signals)
    await signals.close()
    await database.close()
