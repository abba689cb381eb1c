"""Darkrooms of several shapes, as anybody runs them: one database or the other, one node or two."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg

from bench.processor import seconds_used
from tests.postgres import PostgresServer, postgres
from tests.process import Process, serve


@dataclass(frozen=True, slots=True)
class Setup:
    """A shape. Several nodes need PostgreSQL."""

    nodes: int = 1
    postgres: bool = False

    @property
    def title(self) -> str:
        """For a person."""
        return self.on("PostgreSQL" if self.postgres else "SQLite")

    def on(self, database: str) -> str:
        """The same with the exact name of the database."""
        return f"{database}, {'one node' if self.nodes == 1 else f'{self.nodes} nodes'}"


SQLITE, POSTGRES, TWO_NODES = Setup(), Setup(postgres=True), Setup(nodes=2, postgres=True)


def settings(address: str) -> dict[str, str]:
    """A Darkroom whose provider is the upstream at that address, and that can reach nothing else."""
    return {
        "DARKROOM_OPENAI_IMAGES_BASE_URL": f"{address}/v1",
        "DARKROOM_OPENAI_IMAGES_TOKEN": "bench",
        "DARKROOM_NETWORK": "loopback",
    }


@dataclass(frozen=True, slots=True)
class Running:
    """A Darkroom that is up."""

    title: str
    nodes: list[Process]
    postgres: PostgresServer | None

    def node_seconds(self) -> float | None:
        """Processor time of all its nodes until now."""
        used = [seconds_used(node.popen.pid) for node in self.nodes]
        return None if None in used else sum(seconds or 0 for seconds in used)

    def database_seconds(self) -> float | None:
        """Processor time of PostgreSQL until now; SQLite works inside the node."""
        return None if self.postgres is None else seconds_used(_pid(self.postgres))


@contextmanager
def running(setup: Setup, folder: Path, **settings: str) -> Iterator[Running]:
    """Start it with an empty database, until the block ends. PostgreSQL waits for the disk, as a real one does."""
    with ExitStack() as stack:
        server = stack.enter_context(postgres(durable=True)) if setup.postgres else None
        if server is not None:
            settings |= {
                "DARKROOM_DATABASE_URL": stack.enter_context(server.database()),
                "DARKROOM_STORAGE_URL": (folder / "images").as_uri(),
            }
        nodes = [
            stack.enter_context(serve(folder / f"node-{number}", **settings)) for number in range(1, setup.nodes + 1)
        ]
        yield Running(setup.on(f"SQLite {sqlite3.sqlite_version}" if server is None else _name(server)), nodes, server)


def _name(server: PostgresServer) -> str:
    return f"PostgreSQL {_ask(server, 'show server_version')}"


def _pid(server: PostgresServer) -> int:
    return int(_ask(server, "select pg_read_file('postmaster.pid')").splitlines()[0])


def _ask(server: PostgresServer, question: LiteralString) -> str:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        ((answer,),) = connection.execute(question).fetchall()
    return str(answer)
