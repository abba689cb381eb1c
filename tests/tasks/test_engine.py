"""The engine, and the names of DBOS that it relies on."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

pytestmark = pytest.mark.anyio


def test_the_version_of_dbos_is_the_one_whose_private_names_are_used() -> None:
    assert version("dbos") == "3.4.0", "look at `Engine._claim` before you move on"


SCRIPT = """
import asyncio, sys
from providers.limits import Limits
from tasks import engine
from tasks.database import Database
engine.POLLING_SECONDS = 3600.0
QUEUE = "openai_images"

async def main(path):
    database = Database(f"sqlite:///{path}")
    await database.migrate()
    ran, running, most = [], 0, 0
    everything = asyncio.Event()

    async def run(task_id):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        ran.append(task_id)
        if len(ran) == 20:
            everything.set()

    worker = engine.Engine(database, run, {QUEUE: Limits()}, concurrency=4)
    await worker.start("here")
    def broken(session):
        worker.enqueue(session, "rolled back", QUEUE, 0)
        raise LookupError
    try:
        await database.write(broken)
    except LookupError:
        pass
    for number in range(20):
        await database.write(lambda session: worker.enqueue(session, f"task {number}", QUEUE, 0))
        worker.wake(QUEUE)
    async with asyncio.timeout(20):
        await everything.wait()
    await worker.drain(5)
    await worker.stop()
    await database.close()
    print(sorted(ran) == sorted(f"task {n}" for n in range(20)), "rolled back" in ran, most <= 5)

asyncio.run(main(sys.argv[1]))
"""


async def test_a_committed_task_starts_without_waiting_for_a_poll_and_a_rolled_back_one_never(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, str(tmp_path / "darkroom.db")),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()

    assert out.decode().split() == ["True", "False", "True"], err.decode()
