"""One row of the frozen worker: it stands still with a task at every place, is taken for dead, and wakes up again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.clients import eventually, generate
from tests.crash.databases import pending
from tests.crash.evidence import Vendor, all_tasks, history
from tests.crash.matrix import (
    DOOMED,
    DYING_SECONDS,
    Aftermath,
    click,
    click_all,
    collect_all,
    doom,
    environment,
    until_held,
)
from tests.crash.points import Point, Then
from tests.crash.variants import Case, places
from tests.process import Process, serve


def can_wake(point: Point) -> bool:
    """Whether there is something to wake up to. A transaction would hold its locks until PostgreSQL ends its session,
    and a POST that is lost would be waited for.
    """
    return point.transaction is None and "lose" not in point.script


async def freeze_and_take_over(
    cases: Sequence[Case], vendor: Vendor, home: Path, database: Mapping[str, str]
) -> Aftermath:
    """Run each task to its place, freeze the server until another one has ended them all, and wake it."""
    clicks = [case.click() for case in cases]
    settings = environment(vendor, database) | {"DARKROOM_STORAGE_URL": (home / "pictures").as_uri()}
    with serve(home / "frozen", command=DOOMED, **settings, **doom(places(cases), Then.FREEZE)) as frozen:
        clicking = asyncio.gather(*(click(frozen, each) for each in clicks))
        await until_held(frozen, places(cases))
        await eventually(lambda: _stands_still(frozen), DYING_SECONDS)
        with serve(home / "other", **settings) as after:
            repeated = await click_all(after, clicks)
            await asyncio.gather(*(history(after, task_id) for task_id in repeated))
            frozen.popen.send_signal(signal.SIGCONT)
            answered = await clicking
            await eventually(lambda: _has_said(frozen, "taken for dead"))
            alive = await generate(frozen, "A clock after a long sleep")
            frozen.stop()  # lets it finish what it still believes to be its own
            found = await collect_all(after, vendor, cases, repeated)
            tasks = await all_tasks(after)
            after.stop()
    assert alive[-1]["__typename"] == "TaskSucceeded", (alive[-1], "".join(frozen.log))
    return Aftermath(
        evidence=dict(zip(cases, found, strict=True)),
        answered=dict(zip(cases, answered, strict=True)),
        repeated=dict(zip(cases, repeated, strict=True)),
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
