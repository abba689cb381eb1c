"""One row of the crash matrix: a server that dies with a task at every place, and what the next one makes of them."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import httpx

from tests.clients import START, eventually
from tests.crash.databases import pending
from tests.crash.evidence import Evidence, Vendor, all_tasks, collect, loopback
from tests.crash.points import DOOM, PLAN, Plan, Point, Then
from tests.crash.variants import Case, places
from tests.process import COMMAND, Process, lasting_port, serve
from tests.server import Reachable

DOOMED = (COMMAND[0], "-m", "tests.crash.doomed", "serve")
DYING_SECONDS = 90.0
"""How long a server may take to get everywhere; some seconds where there is nothing else to do."""
TOGETHER = 16
"""How many tasks are looked at together."""


@dataclass(frozen=True)
class Aftermath:
    """What a row of the matrix has shown."""

    evidence: Mapping[Case, Evidence]
    answered: Mapping[Case, str | None]
    """The id with which the doomed server answered the click; None where it died before."""
    repeated: Mapping[Case, str]
    """The id with which the next server answered the same click."""
    tasks: Sequence[Mapping[str, Any]]
    """Every task there is in the end."""
    pending: Sequence[str]
    """What the engine has not brought to an end."""
    log: str
    """The log of the server that came after."""


async def click(server: Reachable, variables: dict[str, Any]) -> str | None:
    """Start a generation; the task's id, None when the server died before it answered."""
    try:
        async with loopback(seconds=DYING_SECONDS) as client:
            answer = await client.post(f"{server.url}/graphql", json={"query": START, "variables": variables})
    except httpx.TransportError:
        return None
    result = answer.json()["data"]["startGeneration"]
    assert result["__typename"] == "StartGenerationSuccess", result
    return str(result["task"]["id"])


async def click_all(server: Reachable, clicks: Iterable[dict[str, Any]]) -> list[str]:
    """The same for many at once, on a server that is meant to answer."""
    found = await asyncio.gather(*(click(server, each) for each in clicks))
    return [task_id for task_id in found if task_id is not None]


def environment(vendor: Vendor, database: Mapping[str, str]) -> dict[str, str]:
    """The settings of every server of the matrix."""
    return {
        **database,
        "DARKROOM_SANDBOX_URL": vendor.url,
        "DARKROOM_CONCURRENCY": "100",
        "DARKROOM_PLACEWISE_POLL_INTERVAL_SECONDS": "0.1",
        # Each task would be told about the pictures of all the others.
        "DARKROOM_ALL_IMAGES_WEBHOOKS": "false",
    }


def doom(places: Mapping[str, Point], then: Then = Then.DIE, *, seed: str = "") -> dict[str, str]:
    """The setting that holds each task at its place."""
    names = [name for name, point in places.items() if point.transaction is not None]
    # Another kind of transaction in every row.
    victim = names[crc32(seed.encode()) % len(names)] if names else None
    return {DOOM: PLAN.dump_json(Plan(places, then, victim)).decode()}


async def die_and_recover(cases: Sequence[Case], vendor: Vendor, home: Path, database: Mapping[str, str]) -> Aftermath:
    """Run each task to its place, kill the server, start another, and look at everything.

    Where a point says so, the next server is killed as well, with the task `again` at a place.
    """
    clicks = [case.click() for case in cases]
    settings = environment(vendor, database) | dict(cases[0].variant.settings)
    settings["DARKROOM_PORT"] = str(lasting_port())  # a vendor that reports has been told where to
    first = places(cases)
    seed = f"{settings['DARKROOM_DATABASE_URL'].partition(':')[0]} {cases[0].variant}"
    with serve(home, command=DOOMED, **settings, **doom(first, seed=seed)) as doomed:
        clicking = asyncio.gather(*(click(doomed, each) for each in clicks))
        await _death(doomed, first)
        answered = await clicking
    if again := {name: replace(point, passage=point.again, nth=1) for name, point in first.items() if point.again}:
        with serve(home, command=DOOMED, **settings, **doom(again)) as doomed:
            await _death(doomed, again)
    with serve(home, **settings) as after:
        repeated = await click_all(after, clicks)
        found = await collect_all(after, vendor, cases, repeated)
        tasks = await all_tasks(after)
        after.stop()
    return Aftermath(
        evidence=dict(zip(cases, found, strict=True)),
        answered=dict(zip(cases, answered, strict=True)),
        repeated=dict(zip(cases, repeated, strict=True)),
        tasks=tasks,
        pending=pending(database["DARKROOM_DATABASE_URL"]),
        log="".join(after.log),
    )


async def collect_all(server: Reachable, vendor: Vendor, cases: Sequence[Case], tasks: Sequence[str]) -> list[Evidence]:
    """What became of the task of each case."""
    looking = asyncio.Semaphore(TOGETHER)

    async def look(case: Case, task_id: str) -> Evidence:
        async with looking:
            expected, charged = case.variant.expected, case.point.charged
            return await collect(server, vendor, task_id, expected=expected, charged=charged)

    return await asyncio.gather(*(look(case, task_id) for case, task_id in zip(cases, tasks, strict=True)))


async def _death(doomed: Process, places: Mapping[str, Point]) -> None:
    """Wait until the server has killed itself."""
    try:
        await asyncio.to_thread(doomed.popen.wait, DYING_SECONDS)
    except subprocess.TimeoutExpired:
        doomed.popen.kill()
    await asyncio.to_thread(doomed.reader.join)
    missing = sorted(places.keys() - _held(doomed))
    assert not missing, f"never got there: {missing}\n{''.join(doomed.log)}"
    assert doomed.popen.returncode == -9, "".join(doomed.log)


async def until_held(doomed: Process, places: Mapping[str, Point]) -> None:
    """Wait until every task is where it should be."""
    wanted = places.keys()

    async def there() -> bool:
        return wanted <= _held(doomed)

    try:
        await eventually(there, DYING_SECONDS)
    except TimeoutError as exc:
        missing = sorted(wanted - _held(doomed))
        raise AssertionError(f"never got there: {missing}\n{''.join(doomed.log)}") from exc


def _held(doomed: Process) -> set[str]:
    return {line.removeprefix("held ").strip() for line in [*doomed.log] if line.startswith("held ")}
