"""`activity`: a dashboard's feed, over both transports, from any cursor on."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from tests.clients import execute, generate, openai_images, start, subscribe
from tests.server import LiveServer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_safety_net")]
SECONDS = 30

ACTIVITY = """
subscription Activity($filter: TaskFilter, $after: String, $rate: Float! = 20) {
  activity(filter: $filter, after: $after, maxPerSecond: $rate) {
    __typename cursor
    ... on ActivityStarted { complete }
    ... on TaskChanged { task { id status images { url } } events { __typename id sequence } missed }
    ... on ActivityCounted { counts { status count } medianWait }
  }
}
"""


async def follow(server: LiveServer, variables: dict[str, Any], enough: Any) -> list[dict[str, Any]]:
    """What is told, up to what is enough."""
    told: list[dict[str, Any]] = []
    async with asyncio.timeout(SECONDS), aclosing(subscribe(server, ACTIVITY, variables)) as messages:
        async for message in messages:
            assert message["type"] == "next", message
            assert "errors" not in message["payload"], message
            told.append(message["payload"]["data"]["activity"])
            if enough(told):
                break
    return told


async def made(server: LiveServer, prompt: str, **parameters: Any) -> list[dict[str, Any]]:
    """The events of a new generation, to its end."""
    async with asyncio.timeout(SECONDS):
        return await generate(server, prompt, **parameters)


def ended(task_id: str) -> Any:
    return lambda told: (
        told[-1]["__typename"] == "TaskChanged"
        and told[-1]["task"]["id"] == task_id
        and told[-1]["task"]["status"] == "SUCCEEDED"
    )


async def test_a_dashboard_sees_a_task_begin_and_end_with_counts(server: LiveServer) -> None:
    ready, task = asyncio.Event(), {"id": ""}

    def enough(told: list[dict[str, Any]]) -> bool:
        ready.set()
        return bool(task["id"]) and bool(ended(task["id"])(told))

    following = asyncio.create_task(follow(server, {}, enough))
    await asyncio.wait_for(ready.wait(), SECONDS)
    task["id"] = await start(server, openai_images("On the wall [[sandbox: pause=0.1]]", partialImages=3))
    told = await following

    assert told[0]["__typename"] == "ActivityStarted"
    assert told[1]["__typename"] == "ActivityCounted"
    assert {line["status"] for line in told[1]["counts"]} >= {"QUEUED", "RUNNING", "SUCCEEDED", "FAILED"}
    events = [
        event
        for one in told
        if one["__typename"] == "TaskChanged" and one["task"]["id"] == task["id"]
        for event in one["events"]
    ]
    assert [event["__typename"] for event in events][-1] == "TaskSucceeded"
    assert [event["__typename"] for event in events].count("TaskStatusChanged") == 3


async def test_whoever_comes_back_with_a_cursor_has_missed_nothing(server: LiveServer) -> None:
    first = await follow(server, {}, lambda told: True)
    task_id = (await made(server, "While nobody looked"))[0]["task"]["id"]
    told = await follow(server, {"after": first[0]["cursor"]}, ended(task_id))

    events = [event for one in told if one["__typename"] == "TaskChanged" for event in one["events"]]
    assert told[0] == {"__typename": "ActivityStarted", "cursor": first[0]["cursor"], "complete": True}
    assert {"TaskStatusChanged", "ImageReady", "TaskSucceeded"} <= {event["__typename"] for event in events}


async def test_a_late_dashboard_shares_the_stream_and_begins_with_a_marker_and_the_counts(server: LiveServer) -> None:
    ready, late = asyncio.Event(), asyncio.Event()

    def until_late(told: list[dict[str, Any]]) -> bool:
        if len(told) > 1:
            ready.set()
        return late.is_set()

    early = asyncio.create_task(follow(server, {}, until_late))
    await asyncio.wait_for(ready.wait(), SECONDS)
    told = await follow(server, {}, lambda told: len(told) == 2)
    late.set()
    await made(server, "For both")
    await early

    assert [one["__typename"] for one in told] == ["ActivityStarted", "ActivityCounted"]
    assert told[0]["complete"]
    assert told[0]["cursor"] == told[1]["cursor"]


async def test_an_event_source_comes_back_with_the_cursor_as_its_last_event_id(server: LiveServer) -> None:
    query = "subscription { activity(maxPerSecond: 20) { __typename cursor ... on TaskChanged { task { status } } } }"
    headers = {"accept": "text/event-stream"}
    async with asyncio.timeout(SECONDS), httpx.AsyncClient(trust_env=False) as client:
        async with client.stream("GET", f"{server.url}/graphql", params={"query": query}, headers=headers) as stream:
            id = await _first(stream, "id: ")
        await made(server, "Between two streams")
        headers["last-event-id"] = id
        async with client.stream("GET", f"{server.url}/graphql", params={"query": query}, headers=headers) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: ") and "TaskChanged" in line:
                    assert json.loads(line[6:])["data"]["activity"]["task"]["status"] == "SUCCEEDED"
                    break


async def _first(stream: httpx.Response, prefix: str) -> str:
    async for line in stream.aiter_lines():
        if line.startswith(prefix):
            return line.removeprefix(prefix)
    raise AssertionError(f"no line began with {prefix!r}")


@pytest.mark.parametrize(
    ("variables", "code", "advice"),
    [
        (
            {"after": "nonsense"},
            "INVALID_CURSOR",
            "'nonsense' is not a cursor of `activity`. Pass the `cursor` of the newest event you have, unchanged, or "
            "leave it out to begin with what happens from now on.",
        ),
        ({"rate": 0.0}, "INVALID_RATE", "`maxPerSecond` is 0; it must be from 0.1 to 20."),
    ],
    ids=["cursor", "rate"],
)
async def test_bad_arguments_are_explained(
    server: LiveServer, variables: dict[str, Any], code: str, advice: str
) -> None:
    async with aclosing(subscribe(server, ACTIVITY, variables)) as messages:
        message = await anext(messages)

    assert message["type"] == "error"
    assert message["payload"][0]["extensions"]["code"] == code
    assert message["payload"][0]["message"] == advice


async def test_the_same_events_can_be_queried(server: LiveServer) -> None:
    seen = await made(server, "Asked for later", partialImages=1)
    query = "query($id: ID!, $after: Int!) { task(id: $id) { events(after: $after) { id sequence } } }"
    answer = await execute(server, query, {"id": seen[0]["task"]["id"], "after": 2})

    assert answer["data"]["task"]["events"] == [{"id": e["id"], "sequence": e["sequence"]} for e in seen[2:]]
