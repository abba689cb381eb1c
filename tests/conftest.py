"""What every test stands on: no network but loopback, no settings from outside, and one real server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.database import Database
from tasks.engine import migrate_engine
from tests.network import refuse_other_machines
from tests.postgres import PostgresServer, postgres
from tests.server import LiveServer, running

# Nothing but this machine can be reached from here on: not by this process, and not by a Darkroom it starts.
refuse_other_machines()
os.environ["DARKROOM_NETWORK"] = "loopback"


def migrated(url: str) -> str:
    """Bring a database up to date; its name."""

    async def migrate() -> str:
        database = Database(url)
        await database.migrate(lambda: migrate_engine(database.sync_url))
        await database.close()
        return database.url.database or ""

    with ThreadPoolExecutor(1) as thread:  # not in the loop that a test may have
        return thread.submit(asyncio.run, migrate()).result()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """All asynchronous tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def no_settings_from_outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A developer's own account must never be used by a test."""
    for name in list(os.environ):
        if name.startswith("DARKROOM_") and name != "DARKROOM_NETWORK":
            del os.environ[name]
    os.environ["DARKROOM_SANDBOX_PACE"] = "0"
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("nowhere"))  # away from a developer's .env
    yield
    os.chdir(before)


@pytest.fixture
def no_safety_net(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is not told of news waits longer than any test: no look into the log makes up for it."""
    monkeypatch.setattr("tasks.watch.SAFETY_SECONDS", 3600.0)
    monkeypatch.setattr("tasks.activity.SAFETY_SECONDS", 3600.0)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A whole Darkroom with its sandbox, on a real socket, in a thread of its own; shared by all tests."""
    with running(tmp_path_factory.mktemp("darkroom")) as live:
        yield live


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that all tests of this process share; who stops it needs `tests.postgres.postgres` instead."""
    with postgres() as shared:
        yield shared


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a database with all tables, for others to be copies of."""
    with postgres_server.database() as url:
        yield migrated(url)


@pytest.fixture
def postgres_with_tables(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A database of this test's own that is up to date already."""
    with postgres_server.database(postgres_template) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty database of this test's own."""
    with postgres_server.database() as url:
        yield url
