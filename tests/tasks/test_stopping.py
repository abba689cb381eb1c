"""Stopping in time, also when the database neither answers nor refuses."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import START, execute, openai_images, start, until
from tests.postgres import PostgresServer, postgres
from tests.process import Process, sandbox, serve

pytestmark = pytest.mark.anyio

PROMISED_SECONDS = 10
SHUTDOWN = {"DARKROOM_SHUTDOWN_SECONDS": "2"}
"""Less than the default, for a machine that is busy with other tests."""


@pytest.fixture(scope="module")
def mortal() -> Iterator[PostgresServer]:
    """A PostgreSQL that only these tests use."""
    with postgres() as server:
        yield server


async def stopped(process: Process, number: signal.Signals = signal.SIGTERM) -> float:
    """Ask a process to stop; how long that took, in seconds."""
    began = time.monotonic()
    process.popen.send_signal(number)
    await asyncio.to_thread(process.popen.wait, 60)
    return time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_stops_in_time_while_its_database_hangs(
    mortal: PostgresServer, tmp_path: Path, number: signal.Signals
) -> None:
    with mortal.database() as url, serve(tmp_path, DARKROOM_DATABASE_URL=url, **SHUTDOWN) as server:
        silent, busy = [
            await start(server, openai_images(f"A weir [[sandbox: pause={pause}]]", partialImages=3))
            for pause in (60, 1)
        ]
        await until(server, silent, "RUNNING")
        await until(server, busy, "PartialImageReady")  # the next one cannot be recorded
        with mortal.frozen():
            asking = [asyncio.create_task(execute(server, START, openai_images("A lock"))) for _ in range(3)]
            took = await stopped(server, number)
            await asyncio.gather(*asking, return_exceptions=True)

    assert took < PROMISED_SECONDS, "".join(server.log)
    assert "Traceback" not in "".join(server.log), "".join(server.log)


async def test_a_worker_stops_in_time_while_its_database_hangs(mortal: PostgresServer, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "graph.cli", "worker")
    with (
        mortal.database() as url,
        sandbox(tmp_path / "vendor") as vendor,
        serve(tmp_path, DARKROOM_DATABASE_URL=url, DARKROOM_SANDBOX_URL=vendor.url, command=command) as worker,
        mortal.frozen(),
    ):
        took = await stopped(worker)

    assert took < PROMISED_SECONDS, "".join(worker.log)
    assert worker.popen.returncode == 0
    assert "Traceback" not in "".join(worker.log), "".join(worker.log)
