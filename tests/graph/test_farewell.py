"""What a server says when it stops: how long it waits, and what becomes of what did not end in that time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients import openai_images, placewise, start, until
from tests.process import Process, serve

pytestmark = pytest.mark.anyio

WAITING = "Waiting up to 0.2 s (DARKROOM_SHUTDOWN_SECONDS) for"


def said(server: Process) -> str:
    """What the server has written since it began to stop."""
    server.reader.join()
    return "".join(server.log)


async def test_what_is_cut_off_and_what_goes_on_is_counted(tmp_path: Path) -> None:
    with serve(tmp_path, DARKROOM_SHUTDOWN_SECONDS="0.2") as server:
        stream = await start(server, openai_images("A well [[sandbox: pause=60]]", partialImages=1))
        jobs = [await start(server, placewise(f"A mall {number} [[sandbox: pause=60]]")) for number in range(2)]
        for task_id in (stream, *jobs):
            await until(server, task_id, "RUNNING")
        server.stop()
        log = said(server)

    assert f"{WAITING} 3 generations" in log
    assert "1 generation was cut off that cannot be watched again: OUTCOME_UNKNOWN" in log
    assert "billed" not in log.partition(WAITING)[2]  # the sandbox
    assert "2 generations go on at the next start" in log


async def test_an_idle_server_stops_without_a_word(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        server.stop()
        log = said(server)

    assert "Waiting up to" not in log
