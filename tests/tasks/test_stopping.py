"""Stopping in time, also when the database neither answers nor refuses."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import START, openai_images, start, until
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


async def ask(server: Process) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a mutation that the server has begun with; the connection on which its answer will come."""
    reader, writer = await asyncio.open_connection(*server.url.removeprefix("http://").split(":"))
    body = json.dumps({"query": START, "variables": openai_images("A lock")})
    head = [
        "POST /graphql HTTP/1.1",
        "Host: here",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Expect: 100-continue",
    ]
    writer.write("\r\n".join([*head, "", ""]).encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body.encode())
    await writer.drain()
    return reader, writer


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """All that comes."""
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return text


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
            asked = [await ask(server) for _ in range(3)]
            took = await stopped(server, number)
            answers = [await answer(*connection) for connection in asked]

    assert took < PROMISED_SECONDS, "".join(server.log)
    assert "Traceback" not in "".join(server.log), "".join(server.log)
    for text in answers:
        assert text.startswith("HTTP/1.1 503")
        assert "with the same `idempotencyKey`" in text


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
