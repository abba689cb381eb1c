"""Two nodes, one of which is killed every few seconds while people work: everything ends, nothing is paid twice."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.clients import all_images, openai_images, placewise
from tests.crash.cluster import Cluster
from tests.crash.databases import Databases
from tests.crash.evidence import RECONNECT_SECONDS, Vendor, all_tasks, collect, follow
from tests.crash.matrix import click
from tests.crash.oracle import assert_sound
from tests.server import Reachable

pytestmark = pytest.mark.anyio

# Read here, because the settings of whoever runs the tests are put away before they begin.
SECONDS = float(os.environ.get("DARKROOM_CRASH_SECONDS", "15"))
"""How long people work. A minute makes 500 tasks."""
TASKS = round(SECONDS / 60 * 500)
BETWEEN_KILLS = 3.0
TOGETHER = 16
"""How many tasks are looked at together in the end."""

KINDS: Sequence[tuple[Callable[[str], dict[str, Any]], int]] = (
    (placewise, 1),
    (lambda prompt: openai_images(prompt, stream=False), 1),
    (placewise, 1),
    (lambda prompt: openai_images(prompt, partialImages=1), 1),
    (placewise, 1),
    (lambda prompt: openai_images(prompt, stream=False), 1),
    (placewise, 1),
    (all_images, 4),
    (placewise, 1),
    (lambda prompt: openai_images(prompt, stream=False), 1),
)
"""What people ask for in turn, and how many pictures that is."""


async def work(number: int, there: Callable[[], Sequence[Reachable]]) -> tuple[str, list[dict[str, Any]]]:
    """One person: clicks until somebody has answered, and watches to the end, wherever that is possible."""
    await asyncio.sleep(number * SECONDS / TASKS)
    variables = KINDS[number % len(KINDS)][0](f"House {number} [[sandbox: pause=0.4]]")
    variables["input"]["idempotencyKey"] = f"click {number}"
    for turn in range(1000):
        if nodes := there():
            task_id = await click(nodes[(number + turn) % len(nodes)], variables)
            if task_id is not None:
                return task_id, await follow(there, task_id)
        await asyncio.sleep(RECONNECT_SECONDS)
    raise AssertionError(f"click {number} was never answered")


async def kill_now_and_then(cluster: Cluster) -> None:
    """One node after the other, as long as people come."""
    loop = asyncio.get_running_loop()
    end = loop.time() + SECONDS
    for number in count():
        await asyncio.sleep(BETWEEN_KILLS)
        if loop.time() > end:
            return
        await cluster.kill(number % 2)


async def test_two_nodes_of_which_one_is_killed_every_few_seconds_end_everything_and_pay_nothing_twice(
    databases: Databases, vendor: Vendor, tmp_path: Path
) -> None:
    with databases.of("postgresql") as (_, settings):
        async with Cluster(2, tmp_path, {**settings, "DARKROOM_SANDBOX_URL": vendor.url}) as cluster:
            people = asyncio.gather(*(work(number, cluster.there) for number in range(TASKS)))
            await kill_now_and_then(cluster)
            stories = await people

            server = cluster.there()[0]
            assert sorted(task["id"] for task in await all_tasks(server)) == sorted(id_ for id_, _ in stories)
            looking = asyncio.Semaphore(TOGETHER)

            async def look(number: int, task_id: str, told: list[dict[str, Any]]) -> str:
                async with looking:
                    found = await collect(server, vendor, task_id, expected=KINDS[number % len(KINDS)][1])
                assert_sound(found)
                assert [event["id"] for event in told] == [event["id"] for event in found.events]
                return str(found.task["status"])

            ends = Counter(await asyncio.gather(*(look(number, *story) for number, story in enumerate(stories))))
    assert ends.total() == TASKS
    assert ends["SUCCEEDED"] > TASKS / 2, ends
    assert len(cluster.all) > 2
    for node in cluster.all:
        assert "Traceback" not in "".join(node.log), "".join(node.log)
