"""A vendor that survives every crash, and the databases that have to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from tests.crash.databases import Databases
from tests.crash.evidence import Vendor
from tests.postgres import PostgresServer, postgres
from tests.process import sandbox


@pytest.fixture(scope="session")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendor]:
    """The simulators, in a process of their own."""
    with sandbox(tmp_path_factory.mktemp("vendor")) as process:
        yield Vendor(process.url)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that waits for the disk, as a real one does."""
    with postgres(durable=True) as server:
        yield server


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """New databases of every kind; PostgreSQL is started when the first one is asked for."""
    return Databases(
        lambda: tmp_path_factory.mktemp("darkroom"),
        lambda: cast(PostgresServer, request.getfixturevalue("postgres_server")),
    )
