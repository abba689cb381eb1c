"""graphql-sse: the same events over plain HTTP, for whatever reads event streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent

from graph.context import Context
from graph.live.operation import Selection
from graph.live.source import LiveEvent
from tests.clients import WATCH, execute, socket
from tests.graph.stage import Stage, noise, staged, until

pytestmark = pytest.mark.anyio

SHORT = "subscription($id: ID!, $after: Int! = 0) { taskEvents(id: $id, after: $after) { sequence } }"
STREAM = {"accept": "text/event-stream"}


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@asynccontextmanager
async def opened(
    stage: Stage, query: str, variables: dict[str, Any] | None = None, *, method: str = "POST", **headers: str
) -> AsyncIterator[httpx.Response]:
    """An event stream, by POST or as a browser's `EventSource` asks for it."""
    body: dict[str, Any] = {"query": query, "variables": variables or {}}
    if method == "GET":
        request = {"params": {"query": query, "variables": json.dumps(variables or {})}}
    else:
        request = {"json": body}
    async with (
        httpx.AsyncClient(trust_env=False, timeout=10) as client,
        client.stream(
            method,
            f"{stage.url}/graphql",
            headers=STREAM | {name.replace("_", "-"): value for name, value in headers.items()},
            **request,  # type: ignore[arg-type]
        ) as response,
    ):
        yield response


async def events(stage: Stage, query: str, variables: dict[str, Any] | None = None, **more: Any) -> list[Any]:
    """All events of a stream, as (event, id, data)."""
    async with opened(stage, query, variables, **more) as response:
        return [read(event) async for event in EventSource(response).aiter_sse()]


def read(event: ServerSentEvent) -> tuple[str, str, Any]:
    return event.event, event.id, json.loads(event.data) if event.data else None


def sequence(number: int) -> dict[str, Any]:
    return {"data": {"taskEvents": {"sequence": number}}}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_stored_and_live_events_come_with_their_sequence_as_id(stage: Stage, method: str) -> None:
    task = await stage.task()
    await task.progress()
    async with opened(stage, SHORT, {"id": task.id}, method=method) as response:
        found = EventSource(response).aiter_sse()
        assert [read(await anext(found)) for _ in range(2)] == [
            ("next", "1", sequence(1)),
            ("next", "2", sequence(2)),
        ]
        await task.succeed()
        assert [read(event) async for event in found] == [("next", "3", sequence(3)), ("complete", "3", None)]
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    await stage.is_left()


async def test_a_browser_that_comes_back_goes_on_after_the_last_event_it_has_seen(stage: Stage) -> None:
    task = await stage.task()
    await task.progress(3)
    async with opened(stage, SHORT, {"id": task.id}, method="GET", last_event_id="2") as response:
        found = EventSource(response).aiter_sse()
        assert [(await anext(found)).id for _ in range(2)] == ["3", "4"]
    await task.succeed()

    again = await events(stage, SHORT, {"id": task.id, "after": 1}, method="GET", last_event_id="4")
    assert [(event, id) for event, id, _ in again] == [("next", "5"), ("complete", "5")]


async def test_a_browser_that_has_seen_the_end_is_told_not_to_come_back(stage: Stage) -> None:
    task = await stage.task()
    await task.succeed()
    async with opened(stage, SHORT, {"id": task.id}, method="GET", last_event_id="2") as response:
        assert response.status_code == 204
    await stage.is_left()


@pytest.mark.parametrize("id", ["x", "-1", "1.5", "9" * 30])
async def test_a_cursor_that_is_none_is_not_believed(stage: Stage, id: str) -> None:
    task = await stage.task()
    await task.succeed()
    found = await events(stage, SHORT, {"id": task.id}, last_event_id=id)

    assert [event for event, _, _ in found] == ["next", "next", "complete"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("subscription { nope }", "Cannot query field"),
        ("subscription {", "Syntax Error"),
        ('subscription { taskEvents(id: "nonsense") { id } }', "not a valid id"),
        ("subscription($id: ID!) { taskEvents(id: $id) { id } }", "to be provided"),
    ],
)
async def test_what_cannot_be_begun_is_said_in_the_stream(stage: Stage, query: str, words: str) -> None:
    (event, _, data), *rest = await events(stage, query)

    assert event == "next"
    assert "data" not in data
    assert words in data["errors"][0]["message"]
    assert rest == [("complete", "", None)]
    await stage.is_left()


async def test_queries_and_mutations_can_be_sent_too(stage: Stage) -> None:
    assert await events(stage, "{ __typename }") == [
        ("next", "", {"data": {"__typename": "Query"}}),
        ("complete", "", None),
    ]
    mutation = 'mutation { cancelTask(input: {id: "nonsense"}) { __typename } }'
    assert [event for event, _, _ in await events(stage, mutation)] == ["next", "complete"]
    async with opened(stage, mutation, method="GET") as response:
        assert response.status_code == 405


async def test_a_client_that_reads_json_too_gets_a_stream_only_for_what_needs_one(stage: Stage) -> None:
    task = await stage.task()
    await task.succeed()
    accept = "application/graphql-response+json, application/json, text/event-stream, multipart/mixed"
    for query, kind in (("{ __typename }", "json"), ("{ nope }", "json"), (SHORT, "event-stream")):
        async with opened(stage, query, {"id": task.id} if query == SHORT else {}, accept=accept) as response:
            assert kind in response.headers["content-type"]
            await response.aread()


async def test_a_subscription_without_a_stream_is_told_of_both_ways(stage: Stage) -> None:
    answer = await execute(stage, SHORT, {"id": "x"})

    assert "graphql-transport-ws" in answer["errors"][0]["message"]
    assert "text/event-stream" in answer["errors"][0]["message"]


async def test_readers_of_both_transports_share_the_work(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    executed: list[int] = []
    of = Selection.of

    def counted(self: Selection, event: LiveEvent, context: Context) -> object:
        executed.append(event.sequence)
        return of(self, event, context)

    monkeypatch.setattr(Selection, "of", counted)
    task = await stage.task()
    async with AsyncExitStack() as stack:
        ws = await stack.enter_async_context(socket(stage))
        payload = {"query": SHORT, "variables": {"id": task.id, "after": 1}}
        await ws.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        streams = [await stack.enter_async_context(opened(stage, SHORT, {"id": task.id, "after": 1})) for _ in range(3)]
        await stage.watched_by(4)
        await task.progress()
        assert json.loads(await ws.recv())["payload"] == sequence(2)
        for response in streams:
            assert read(await anext(EventSource(response).aiter_sse())) == ("next", "2", sequence(2))

    assert executed == [2]


async def test_a_long_event_comes_whole(stage: Stage) -> None:
    task = await stage.task()
    query = (
        "subscription($id: ID!) { taskEvents(id: $id) { ... on ImageReady { image { dataUri(maxBytes: 4000000) } } } }"
    )
    async with opened(stage, query, {"id": task.id}) as response:
        found = EventSource(response).aiter_sse()
        await anext(found)
        await task.picture(noise(1500))
        _, _, data = read(await anext(found))

    assert len(data["data"]["taskEvents"]["image"]["dataUri"]) > 1_900_000


async def test_a_reader_that_leaves_leaves_nothing_behind(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    task = await stage.task()
    for _ in range(10):
        async with opened(stage, WATCH, {"id": task.id}) as response:
            await anext(EventSource(response).aiter_sse())
    await stage.is_left()

    assert not [task for task in asyncio.all_tasks() if task.get_name() in ("event stream", "subscriber", "group")]
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_silent_stream_shows_that_it_is_alive(tmp_path: Path) -> None:
    async with staged(tmp_path, ping_seconds=0.02) as stage:
        task = await stage.task()
        async with opened(stage, SHORT, {"id": task.id, "after": 1}) as response:
            lines = response.aiter_lines()
            assert [await anext(lines) for _ in range(6)] == [":", ""] * 3


async def test_a_caller_has_only_so_many_connections_of_both_kinds(tmp_path: Path) -> None:
    async with staged(tmp_path, max_connections_per_caller=2) as stage:
        task = await stage.task()
        async with socket(stage), opened(stage, SHORT, {"id": task.id}) as response:
            assert response.status_code == 200
            async with opened(stage, SHORT, {"id": task.id}) as third:
                assert third.status_code == 429
                error = json.loads(await third.aread())["errors"][0]
        assert error["extensions"]["code"] == "TOO_MANY_CONNECTIONS"
        assert "DARKROOM_MAX_CONNECTIONS_PER_CALLER" in error["message"]
        await stage.is_left()
        async with opened(stage, SHORT, {"id": task.id}) as response:
            assert response.status_code == 200


async def test_a_server_that_stops_sends_its_readers_away_without_an_end(tmp_path: Path) -> None:
    seen: list[str] = []
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(staged(tmp_path))
        task = await stage.task()

        async def reader() -> None:
            async with opened(stage, SHORT, {"id": task.id}) as response:
                async for event in EventSource(response).aiter_sse():
                    seen.append(event.event)

        reading = asyncio.create_task(reader())
        await until(lambda: seen == ["next"])
        await stack.aclose()
        async with asyncio.timeout(3):
            await reading

    assert seen == ["next"]


@pytest.mark.parametrize("name", [{"a": 1}, [1], 1])
@pytest.mark.parametrize("accept", ["text/event-stream", "TEXT/Event-Stream, */*", "application/json"])
async def test_an_operation_name_that_is_no_text_is_refused(stage: Stage, accept: str, name: object) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        request = {"query": "{ __typename }", "operationName": name}
        answer = await client.post(f"{stage.url}/graphql", json=request, headers={"accept": accept})

    assert answer.status_code == 400
    assert "`operationName` must be a string" in answer.json()["errors"][0]["message"]
