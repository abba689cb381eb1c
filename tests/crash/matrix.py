"""One row of the crash matrix: a server that dies with a task at every place, and what the next one makes of them."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.clients import START, eventually
from tests.crash.databases import pending
from tests.crash.evidence import Evidence, Vendor, all_tasks, collect, loopback
from tests.crash.points import DOOM, PLAN, Plan, Point, Then
from tests.crash.variants import Variant, places
from tests.process import COMMAND, Process, serve
from tests.server import Reachable

DOOMED = (COMMAND[0], "-m", "tests.crash.doomed", "serve")
DYING_SECONDS = 90.0
"""How long a server may take to get everywhere; some seconds where there is nothing else to do."""


@dataclass(frozen=True)
class Aftermath:
    """What a row of the matrix has shown."""

    evidence: Mapping[Point, Evidence]
    answered: Mapping[Point, str | None]
    """The id with which the doomed server answered the click; None where it died before."""
    repeated: Mapping[Point, str]
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


def doom(clicks: Mapping[Point, dict[str, Any]], then: Then = Then.DIE) -> dict[str, str]:
    """The setting that holds the task of each click at its place."""
    return {DOOM: PLAN.dump_json(Plan(places(clicks), then)).decode()}


async def die_and_recover(
    variant: Variant, points: Sequence[Point], vendor: Vendor, home: Path, database: Mapping[str, str]
) -> Aftermath:
    """Run a task into each of `points`, kill the server, start another, and look at everything."""
    clicks = variant.clicks(points)
    settings = environment(vendor, database)
    with serve(home, command=DOOMED, **settings, **doom(clicks)) as doomed:
        clicking = asyncio.gather(*(click(doomed, each) for each in clicks.values()))
        await _death(doomed, clicks)
        answered = await clicking
    with serve(home, **settings) as after:
        repeated = await click_all(after, clicks.values())
        found = await asyncio.gather(
            *(
                collect(after, vendor, task_id, expected=variant.expected, charged=point.charged)
                for point, task_id in zip(points, repeated, strict=True)
            )
        )
        tasks = await all_tasks(after)
        after.stop()
    return Aftermath(
        evidence=dict(zip(points, found, strict=True)),
        answered=dict(zip(points, answered, strict=True)),
        repeated=dict(zip(points, repeated, strict=True)),
        tasks=tasks,
        pending=pending(database["DARKROOM_DATABASE_URL"]),
        log="".join(after.log),
    )


async def _death(doomed: Process, clicks: Mapping[Point, dict[str, Any]]) -> None:
    """Wait until the server has killed itself."""
    try:
        await asyncio.to_thread(doomed.popen.wait, DYING_SECONDS)
    except subprocess.TimeoutExpired:
        doomed.popen.kill()
    await asyncio.to_thread(doomed.reader.join)
    missing = places(clicks).keys() - _held(doomed)
    assert not missing, f"never got there: {sorted(missing)}\n{''.join(doomed.log)}"
    assert doomed.popen.returncode == -9, "".join(doomed.log)


async def until_held(doomed: Process, clicks: Mapping[Point, dict[str, Any]]) -> None:
    """Wait until every task is where it should be."""
    wanted = places(clicks).keys()

    async def there() -> bool:
        return wanted <= _held(doomed)

    try:
        await eventually(there, DYING_SECONDS)
    except TimeoutError as exc:
        missing = sorted(wanted - _held(doomed))
        raise AssertionError(f"never got there: {missing}\n{''.join(doomed.log)}") from exc


def _held(doomed: Process) -> set[str]:
    return {line.removeprefix("held ").strip() for line in [*doomed.log] if line.startswith("held ")}
