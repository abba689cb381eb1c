"""One row of the frozen worker: it stands still with a task at every place, is taken for dead, and wakes up again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.clients import eventually, generate
from tests.crash.databases import pending
from tests.crash.evidence import Vendor, all_tasks, collect, history
from tests.crash.matrix import DOOMED, DYING_SECONDS, Aftermath, click, click_all, doom, environment, until_held
from tests.crash.points import Point, Then
from tests.crash.variants import Variant
from tests.process import Process, serve

LEFT_OUT = {
    "inside the transaction that enqueues it",  # it would keep its rows locked, until PostgreSQL ends the session
    "inside a POST that never arrives",  # there is nothing to wake up to
}


async def freeze_and_take_over(
    variant: Variant, points: Sequence[Point], vendor: Vendor, home: Path, database: Mapping[str, str]
) -> Aftermath:
    """Run a task into each of `points`, freeze the server until another one has ended them all, and wake it."""
    clicks = variant.clicks(points)
    settings = environment(vendor, database) | {"DARKROOM_STORAGE_URL": (home / "pictures").as_uri()}
    with serve(home / "frozen", command=DOOMED, **settings, **doom(clicks, Then.FREEZE)) as frozen:
        clicking = asyncio.gather(*(click(frozen, each) for each in clicks.values()))
        await until_held(frozen, clicks)
        await eventually(lambda: _stands_still(frozen), DYING_SECONDS)
        with serve(home / "other", **settings) as after:
            repeated = await click_all(after, clicks.values())
            await asyncio.gather(*(history(after, task_id) for task_id in repeated))
            frozen.popen.send_signal(signal.SIGCONT)
            answered = await clicking
            await eventually(lambda: _has_said(frozen, "taken for dead"))
            alive = await generate(frozen, "A clock after a long sleep")
            frozen.stop()  # lets it finish what it still believes to be its own
            found = await asyncio.gather(
                *(
                    collect(after, vendor, task_id, expected=variant.expected, charged=point.charged)
                    for point, task_id in zip(points, repeated, strict=True)
                )
            )
            tasks = await all_tasks(after)
            after.stop()
    assert alive[-1]["__typename"] == "TaskSucceeded", (alive[-1], "".join(frozen.log))
    return Aftermath(
        evidence=dict(zip(points, found, strict=True)),
        answered=dict(zip(points, answered, strict=True)),
        repeated=dict(zip(points, repeated, strict=True)),
        tasks=[task for task in tasks if task["id"] != alive[-1]["task"]["id"]],
        pending=pending(database["DARKROOM_DATABASE_URL"]),
        log="".join(after.log + frozen.log),
    )


async def _stands_still(process: Process) -> bool:
    # It returns at once, and takes nothing away from whoever waits for the end of the process.
    asked = os.WSTOPPED | os.WNOWAIT | os.WNOHANG
    return os.waitid(os.P_PID, process.popen.pid, asked) is not None  # noqa: ASYNC222


async def _has_said(process: Process, words: str) -> bool:
    return any(words in line for line in [*process.log])
