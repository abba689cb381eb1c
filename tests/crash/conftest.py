"""A vendor that survives every crash, the databases that have to, and the cells of the matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from tests.crash.databases import Databases
from tests.crash.evidence import Vendor
from tests.crash.rows import Aftermaths, Cell
from tests.postgres import PostgresServer
from tests.process import sandbox


@pytest.fixture(scope="session")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendor]:
    """The simulators, in a process of their own."""
    with sandbox(tmp_path_factory.mktemp("vendor")) as process:
        yield Vendor(process.url)


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """New databases of every kind; PostgreSQL is started when the first one is asked for."""
    return Databases(
        lambda: tmp_path_factory.mktemp("darkroom"),
        lambda: cast(PostgresServer, request.getfixturevalue("postgres_server")),
    )


@pytest.fixture(scope="module")
def aftermaths(request: pytest.FixtureRequest, vendor: Vendor, databases: Databases) -> Iterator[Aftermaths]:
    """What the rows of this file have shown."""
    asked = [item.callspec.params.get("cell") for item in request.session.items if hasattr(item, "callspec")]
    found = Aftermaths([one for one in asked if isinstance(one, Cell)], vendor, databases)
    yield found
    found.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each row of a file, or for each of its cells."""
    if "row" in metafunc.fixturenames:
        metafunc.parametrize("row", metafunc.module.ROWS, ids=str)
    if "cell" in metafunc.fixturenames:
        cells = [Cell(row, case) for row in metafunc.module.ROWS for case in row.cases]
        metafunc.parametrize("cell", cells, ids=str)
