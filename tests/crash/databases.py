"""The databases that a crash has to be survived on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text

from tests.postgres import PostgresServer

DATABASES = ("sqlite", "postgresql")
LEASE_SECONDS = 2
"""How soon a node of these tests is taken for dead; the least there is to set."""
ENDED = {"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"}
"""What the engine calls work that is over."""


class Databases:
    """Gives out new databases, each with a data folder for its server."""

    def __init__(self, folder: Callable[[], Path], server: Callable[[], PostgresServer]) -> None:
        self._folder = folder
        self._server = server

    @contextmanager
    def of(self, kind: str) -> Iterator[tuple[Path, dict[str, str]]]:
        """A data folder, and the settings that make a server use a new database of this kind."""
        home = self._folder()
        if kind == "sqlite":
            yield home, {"DARKROOM_DATABASE_URL": f"sqlite:///{home / 'darkroom.db'}"}
            return
        with self._server().database() as url:
            yield home, {"DARKROOM_DATABASE_URL": url, "DARKROOM_LEASE_SECONDS": str(LEASE_SECONDS)}


def pending(url: str) -> list[str]:
    """The work in a database that the engine does not count as over, in its own words."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    table = "workflow_status" if engine.dialect.name == "sqlite" else "dbos.workflow_status"
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT workflow_uuid, status FROM {table}")).all()
    engine.dispose()
    return [f"{row[0]} is {row[1]}" for row in rows if row[1] not in ENDED]
