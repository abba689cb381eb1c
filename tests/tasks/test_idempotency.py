"""One click, one task: the same key is the same task, whoever sends it, however often, and wherever."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import IdempotencyConflictError
from tasks.history import TaskFilter
from tests.clients import START, execute, openai_images
from tests.server import LiveServer
from tests.tasks.node import ended, node, order, vendor

pytestmark = pytest.mark.anyio


async def test_the_same_key_at_the_same_instant_on_two_connections_is_one_task(server: LiveServer) -> None:
    variables = openai_images("A bridge")
    variables["input"]["idempotencyKey"] = "bridge"
    answers = await asyncio.gather(*(execute(server, START, variables) for _ in range(8)))
    results: list[dict[str, Any]] = [answer["data"]["startGeneration"] for answer in answers]

    assert {result["__typename"] for result in results} == {"StartGenerationSuccess"}
    assert len({result["task"]["id"] for result in results}) == 1


async def test_the_same_key_at_the_same_instant_on_several_nodes_is_one_task_and_one_charge(
    tmp_path: Path, postgres_with_tables: str
) -> None:
    async with AsyncExitStack() as stack:
        studio = await stack.enter_async_context(vendor(tmp_path))
        nodes = [await stack.enter_async_context(node(studio, tmp_path, postgres_with_tables)) for _ in range(2)]
        for key in ("first", "second", "third"):
            started = await asyncio.gather(*(nodes[number % 2].start(order("tiny", key=key)) for number in range(12)))
            assert len({task.id for task in started}) == 1
            await ended(nodes[0], started[0])
            assert await studio.charges(started[0].id) == 1
        assert await nodes[1].history.count(TaskFilter()) == 3


async def test_the_same_key_for_something_else_is_refused_also_at_the_same_instant(
    tmp_path: Path, with_tables: str
) -> None:
    async with vendor(tmp_path) as studio, node(studio, tmp_path, with_tables) as at:
        orders = [order("tiny", "a square", key="shared"), order("tiny", "another square", key="shared")]
        results = await asyncio.gather(*(at.start(one) for one in orders * 4), return_exceptions=True)
        tasks = {result.id for result in results if not isinstance(result, BaseException)}
        refused = [result for result in results if isinstance(result, BaseException)]

    assert len(tasks) == 1
    assert len(refused) == 4
    assert all(isinstance(one, IdempotencyConflictError) and one.task_id in tasks for one in refused)
