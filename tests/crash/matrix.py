"""One row of the crash matrix: a server that dies with a task at every place, and what the next one makes of them."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.clients import START, openai_images
from tests.crash.databases import pending
from tests.crash.evidence import Evidence, Vendor, all_tasks, collect, loopback
from tests.crash.points import (
    BUYING,
    DOOM,
    FOUR,
    JSON,
    ON_ITS_WAY,
    PLAN,
    POLL,
    STREAM,
    UNANSWERED,
    UNFINISHED,
    Point,
)
from tests.process import COMMAND, Process, serve
from tests.server import Reachable

DOOMED = (COMMAND[0], "-m", "tests.crash.doomed", "serve")
DYING_SECONDS = 90.0
"""How long a server may take to get everywhere; some seconds where there is nothing else to do."""


@dataclass(frozen=True)
class Variant:
    """One way to ask for pictures."""

    name: str
    expected: int
    points: Sequence[Point]
    losing: frozenset[str]
    """At which passages a crash may lose its pictures. At all others they must arrive."""
    request: Callable[[str], dict[str, Any]]

    def __str__(self) -> str:
        return self.name


def _stream(prompt: str) -> dict[str, Any]:
    request: dict[str, Any] = openai_images(prompt, partialImages=2)["input"]["request"]
    return request


def _json(prompt: str) -> dict[str, Any]:
    request: dict[str, Any] = openai_images(prompt, stream=False)["input"]["request"]
    return request


def _all_images(prompt: str, **parameters: Any) -> dict[str, Any]:
    return {"allImages": {"mode": "SIMPLE", "name": "a crash", "prompt": prompt, **parameters}}


STREAMED = Variant("openai_images stream", 1, STREAM, UNFINISHED, _stream)
PLAIN = Variant("openai_images JSON", 1, JSON, UNFINISHED, _json)
POLLED = Variant("placewise", 1, POLL, UNANSWERED, lambda prompt: {"placewise": {"prompt": prompt}})
PREVIEWED = Variant("all_images", 4, FOUR, ON_ITS_WAY, _all_images)
BOUGHT = Variant("all_images bought", 4, BUYING, ON_ITS_WAY, lambda prompt: _all_images(prompt, purchase=True))


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


async def die_and_recover(
    variant: Variant, points: Sequence[Point], vendor: Vendor, home: Path, database: Mapping[str, str]
) -> Aftermath:
    """Run a task into each of `points`, kill the server, start another, and look at everything."""
    clicks = [_click(variant, point) for point in points]
    plan = {each["input"]["name"]: point for each, point in zip(clicks, points, strict=True)}
    environment = {
        **database,
        "DARKROOM_SANDBOX_URL": vendor.url,
        "DARKROOM_CONCURRENCY": "100",
        "DARKROOM_PLACEWISE_POLL_INTERVAL_SECONDS": "0.1",
        # Each task would be told about the pictures of all the others.
        "DARKROOM_ALL_IMAGES_WEBHOOKS": "false",
    }
    doom = PLAN.dump_json(plan).decode()
    with serve(home, command=DOOMED, **environment, **{DOOM: doom}) as doomed:
        clicking = asyncio.gather(*(click(doomed, each) for each in clicks))
        await _death(doomed, plan)
        answered = await clicking
    with serve(home, **environment) as after:
        repeated = await asyncio.gather(*(click(after, each) for each in clicks))
        found = await asyncio.gather(
            *(
                collect(after, vendor, str(task_id), expected=variant.expected, charged=point.charged)
                for point, task_id in zip(points, repeated, strict=True)
            )
        )
        tasks = await all_tasks(after)
        after.stop()
    return Aftermath(
        evidence=dict(zip(points, found, strict=True)),
        answered=dict(zip(points, answered, strict=True)),
        repeated={point: str(task_id) for point, task_id in zip(points, repeated, strict=True)},
        tasks=tasks,
        pending=pending(database["DARKROOM_DATABASE_URL"]),
        log="".join(after.log),
    )


def _click(variant: Variant, point: Point) -> dict[str, Any]:
    """The variables of a click; each has a picture of its own, so that none is found in the place of another."""
    name = f"{variant} {point}"
    script = f" [[sandbox: {point.script}]]" if point.script else ""
    return {"input": {"request": variant.request(name + script), "name": name, "idempotencyKey": name}}


async def _death(doomed: Process, plan: Mapping[str, Point]) -> None:
    """Wait until the server has killed itself."""
    try:
        await asyncio.to_thread(doomed.popen.wait, DYING_SECONDS)
    except subprocess.TimeoutExpired:
        doomed.popen.kill()
    await asyncio.to_thread(doomed.reader.join)
    held = {line.removeprefix("held ").strip() for line in doomed.log if line.startswith("held ")}
    assert held == plan.keys(), f"never got there: {sorted(plan.keys() - held)}\n{''.join(doomed.log)}"
    assert doomed.popen.returncode == -9, "".join(doomed.log)
