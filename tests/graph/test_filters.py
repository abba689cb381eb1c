"""Filters that cannot be meant are explained, in lists and in feeds; so nobody takes an empty answer for the truth."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from graph.inputs import TaskFilterInput
from tasks.events import StatusChanged
from tasks.status import TaskStatus
from tasks.tables import new_task
from tests.clients import execute, subscribe
from tests.graph.stage import staged
from tests.server import LiveServer, Reachable

pytestmark = pytest.mark.anyio

LIST = "query($filter: TaskFilter) { tasks(filter: $filter) { totalCount } }"
FEED = "subscription($filter: TaskFilter) { activity(filter: $filter) { __typename } }"
NAMES = "is not a provider; there are openai_images, placewise, all_images."


async def errors(server: Reachable, filter: dict[str, Any]) -> list[dict[str, Any]]:
    """What a list and a feed with this filter answer; an empty dict where it is no error."""
    listed = await execute(server, LIST, {"filter": filter})
    async with aclosing(subscribe(server, FEED, {"filter": filter})) as messages:
        fed = await anext(messages)
    return [listed.get("errors", [{}])[0], fed["payload"][0] if fed["type"] == "error" else {}]


@pytest.mark.parametrize(
    ("filter_", "code", "words"),
    [
        (
            {"provider": ["openaiImages"]},
            "INVALID_PROVIDER",
            f"'openaiImages' in `provider` {NAMES}",
        ),
        ({"provider": ["placewise", "midjourney"]}, "INVALID_PROVIDER", "'midjourney' in"),
        ({"provider": ["\0"]}, "INVALID_PROVIDER", NAMES),
        ({"provider": ["x" * 5000]}, "INVALID_PROVIDER", "xxx…' in"),
        (
            {"createdAfter": "2026-02-01T00:00:00Z", "createdBefore": "2026-01-01T00:00:00Z"},
            "INVALID_TIME",
            "`createdAfter` (2026-02-01T00:00:00+00:00) is later than `createdBefore`",
        ),
    ],
)
async def test_a_filter_that_nothing_can_match_is_explained(
    server: LiveServer, filter_: dict[str, Any], code: str, words: str
) -> None:
    for error in await errors(server, filter_):
        assert error["extensions"]["code"] == code
        assert words in error["message"]
        assert len(error["message"]) < 300


@pytest.mark.parametrize(
    "filter_",
    [
        {"provider": ["openai_images", "placewise", "all_images"]},
        {"provider": []},
        {"createdAfter": "2026-01-01T00:00:00Z", "createdBefore": "2026-01-01T00:00:00Z"},
    ],
)
async def test_a_filter_that_can_be_meant_is_no_error(server: LiveServer, filter_: dict[str, Any]) -> None:
    assert await errors(server, filter_) == [{}, {}]


async def test_the_tasks_of_a_provider_that_is_gone_can_still_be_found(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        record = new_task(provider="retired", sandbox=True, request={}, prompt="x", fingerprint="x")
        journal, database = stage.darkroom._journal, stage.darkroom._database
        queued = StatusChanged(TaskStatus.QUEUED)
        await database.write(lambda connection: journal.open(record, queued, connection))
        answer = await execute(stage, LIST, {"filter": {"provider": ["retired"]}})

    assert answer == {"data": {"tasks": {"totalCount": 1}}}


async def test_the_schema_names_the_providers_where_they_are_filtered_by(server: LiveServer) -> None:
    query = '{ __type(name: "TaskFilter") { inputFields { name description } } }'
    fields = (await execute(server, query))["data"]["__type"]["inputFields"]

    (description,) = [one["description"] for one in fields if one["name"] == "provider"]
    assert "openai_images, placewise, all_images" in description


async def test_what_a_filter_repeats_is_looked_for_once(server: LiveServer) -> None:
    often = TaskFilterInput(status=[TaskStatus.QUEUED, TaskStatus.FAILED] * 2, provider=["placewise"] * 2)
    found = await often.conditions(server.darkroom)

    assert (found.statuses, found.providers) == ((TaskStatus.QUEUED, TaskStatus.FAILED), ("placewise",))
