"""One row of the canceled: a task is held at every place while somebody cancels it, and then goes on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.clients import cancel, eventually
from tests.crash.databases import pending
from tests.crash.evidence import Evidence, Vendor, all_tasks, ask, collect, history
from tests.crash.matrix import DOOMED, Aftermath, click, doom, environment, until_held
from tests.crash.oracle import generations
from tests.crash.points import Point, Then
from tests.crash.variants import Case, places
from tests.process import serve
from tests.server import Reachable

WISHES = "query($id: ID!) { task(id: $id) { status cancelRequestedAt } }"


def can_be_canceled(point: Point) -> bool:
    """Whether anybody knows of the task there. A POST that is lost would be waited for."""
    return point.transaction is None and "lose" not in point.script


async def cancel_everywhere(
    cases: Sequence[Case], vendor: Vendor, home: Path, database: Mapping[str, str], *, first: bool
) -> Aftermath:
    """Run each task to its place and cancel it there; on PostgreSQL from another node.

    With `first` every wish is known before the tasks go on; otherwise they go on amidst the wishes.
    """
    settings = environment(vendor, database) | {"DARKROOM_STORAGE_URL": (home / "pictures").as_uri()}
    with ExitStack() as stack:
        held = stack.enter_context(serve(home / "held", command=DOOMED, **settings, **doom(places(cases), Then.WAIT)))
        clicking = asyncio.gather(*(click(held, case.click()) for case in cases))
        await until_held(held, places(cases))
        asked: Reachable = held
        if database["DARKROOM_DATABASE_URL"].startswith("postgresql"):
            asked = stack.enter_context(serve(home / "asked", **settings))
        ids = {task["name"]: task["id"] for task in await all_tasks(asked)}
        tasks = [ids[case.name] for case in cases]
        canceling = asyncio.gather(*(cancel(asked, task_id) for task_id in tasks))
        known = [asyncio.create_task(_until_known(asked, task_id)) for task_id in tasks]
        await asyncio.wait(known, return_when=asyncio.ALL_COMPLETED if first else asyncio.FIRST_COMPLETED)
        held.popen.send_signal(signal.SIGUSR1)
        await asyncio.gather(*known)
        answers = await canceling
        answered = await clicking
        await asyncio.gather(*(history(asked, task_id) for task_id in tasks))
        found = await asyncio.gather(
            *(_in_the_end(asked, vendor, task_id, case) for case, task_id in zip(cases, tasks, strict=True))
        )
        everything = await all_tasks(asked)
        held.stop()
    assert {answer["__typename"] for answer in answers} == {"CancelTaskSuccess"}
    return Aftermath(
        evidence=dict(zip(cases, found, strict=True)),
        answered=dict(zip(cases, answered, strict=True)),
        repeated=dict(zip(cases, tasks, strict=True)),
        tasks=everything,
        pending=pending(database["DARKROOM_DATABASE_URL"]),
        log="".join(held.log),
    )


async def _until_known(server: Reachable, task_id: str) -> None:
    async def known() -> bool:
        task = (await ask(server, WISHES, {"id": task_id}))["task"]
        return task["cancelRequestedAt"] is not None or task["status"] in ("CANCELED", "SUCCEEDED")

    await eventually(known)


async def _in_the_end(server: Reachable, vendor: Vendor, task_id: str, case: Case) -> Evidence:
    """What there is once everything that was paid for has arrived, which may be after the task has ended."""
    expected = case.variant.expected
    found: Evidence

    async def arrived() -> bool:
        nonlocal found
        found = await collect(server, vendor, task_id, expected=expected, charged=case.point.charged)
        return not generations(found) or len(found.task["images"]) == expected

    try:
        await eventually(arrived, 60)
    except TimeoutError as exc:
        raise AssertionError(f"what was paid for never arrived: {found}") from exc
    return found
