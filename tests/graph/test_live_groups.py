"""Shared work: who watches the same in the same way gets the same bytes, made once."""

from __future__ import annotations

import base64
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest
from strawberry.extensions import SchemaExtension
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from graph.context import Context, Rights
from graph.live.message import Message
from graph.live.operation import OperationRequest, Selection, check
from graph.live.outlet import Outlet
from graph.live.source import LiveEvent
from graph.live.subscriber import Subscriber
from graph.schema import UNEXPECTED, OurErrors, schema
from graph.subscription import TaskEvents
from resolvers.images import DataUriBudget
from tests.clients import WATCH, socket, subscribe, watch
from tests.graph.stage import Stage, noise, staged, until

pytestmark = pytest.mark.anyio

SHORT = "subscription($id: ID!, $after: Int! = 0) { taskEvents(id: $id, after: $after) { sequence } }"


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sequences of all events that are executed, in order."""
    found: list[int] = []
    of = Selection.of

    def counting(self: Selection, event: LiveEvent, context: Context) -> Any:
        found.append(event.sequence)
        return of(self, event, context)

    monkeypatch.setattr(Selection, "of", counting)
    return found


async def ask(ws: ClientConnection, id: str, query: str, /, **variables: Any) -> None:
    payload = {"query": query, "variables": variables}
    await ws.send(json.dumps({"id": id, "type": "subscribe", "payload": payload}))


async def sequences(ws: ClientConnection, id: str, last: int) -> list[int]:
    """The sequences one subscription gets, to the given one."""
    found: list[int] = []
    while not found or found[-1] != last:
        message = json.loads(await ws.recv())
        assert message["type"] == "next", message
        if message["id"] == id:
            found.append(message["payload"]["data"]["taskEvents"]["sequence"])
    return found


async def test_an_event_is_executed_once_for_all_who_watch_alike(stage: Stage, executed: list[int]) -> None:
    task = await stage.task()
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(socket(stage)) for _ in range(20)]
        for number, ws in enumerate(sockets):
            await ask(ws, f"mine-{number}", SHORT, id=task.id, after=1)
        await stage.watched_by(20)
        await task.progress(5)
        await task.succeed()
        bodies = []
        for number, ws in enumerate(sockets):
            texts = [await ws.recv() for _ in range(7)]
            assert json.loads(texts[-1]) == {"id": f"mine-{number}", "type": "complete"}
            bodies.append([str(text).replace(f"mine-{number}", "") for text in texts])

    assert executed == [2, 3, 4, 5, 6, 7]
    assert all(body == bodies[0] for body in bodies)


async def test_who_comes_back_together_shares_what_is_read_and_executed_again(
    stage: Stage, executed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await stage.task()
    await task.progress(9)
    read: list[int] = []
    stored = TaskEvents.stored

    async def counting(self: TaskEvents, after: int) -> Sequence[LiveEvent]:
        read.append(after)
        return await stored(self, after)

    monkeypatch.setattr(TaskEvents, "stored", counting)
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(socket(stage)) for _ in range(20)]
        for number, ws in enumerate(sockets):
            await ask(ws, "1", SHORT, id=task.id, after=number % 2)
        for number, ws in enumerate(sockets):
            assert await sequences(ws, "1", 10) == list(range(1 + number % 2, 11))
        assert read in ([0], [1])  # what the first one wanted was read together with the task
        assert len(executed) == 10 + 9
        await task.progress()
        await ask(sockets[0], "2", SHORT, id=task.id, after=0)
        assert await sequences(sockets[0], "2", 11) == list(range(1, 12))

    assert read[1:] == [0]


async def test_where_a_client_begins_does_not_part_it_from_the_others(stage: Stage) -> None:
    task = await stage.task()
    await task.progress(10)
    async with socket(stage) as ws:
        await ask(ws, "late", SHORT, id=task.id, after=8)
        assert await sequences(ws, "late", 11) == [9, 10, 11]
        await ask(ws, "all", SHORT, id=task.id)
        assert await sequences(ws, "all", 11) == list(range(1, 12))
        assert len(stage.live.groups) == 1
        await task.progress()
        assert await sequences(ws, "all", 12) == [12]


@pytest.mark.parametrize("other", ["variables", "document", "operation name", "address"])
async def test_who_could_get_another_answer_is_in_another_group(stage: Stage, other: str) -> None:
    task = await stage.task()
    document = " ".join(
        f"subscription {name}($id: ID!, $width: Int) {{ taskEvents(id: $id) "
        "{ sequence ... on ImageReady { image { url(width: $width) } } } }"
        for name in "AB"
    )
    first: dict[str, Any] = {"query": document, "variables": {"id": task.id}, "operationName": "A"}
    second = dict(first)
    hosts = ["127.0.0.1", "127.0.0.1"]
    match other:
        case "variables":
            second["variables"] = {"id": task.id, "width": 64}
        case "document":
            second["query"] = document + " "
        case "operation name":
            second["operationName"] = "B"
        case _:
            hosts[1] = "localhost"
    answers = []
    async with AsyncExitStack() as stack:
        for payload, host in zip((first, second), hosts, strict=True):
            url = stage.websocket_url.replace("127.0.0.1", host)
            client = connect(f"{url}/graphql", subprotocols=[Subprotocol("graphql-transport-ws")])
            ws = await stack.enter_async_context(client)
            await ws.send('{"type":"connection_init"}')
            await ws.recv()
            await ws.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
            answers.append(ws)
            assert json.loads(await ws.recv())["payload"] == {"data": {"taskEvents": {"sequence": 1}}}
        assert len(stage.live.groups) == 2
        await task.picture(noise(1))
        urls = [json.loads(await ws.recv())["payload"]["data"]["taskEvents"]["image"]["url"] for ws in answers]

    assert ("localhost" in urls[1]) == (other == "address")
    assert urls[1].endswith("?width=64") == (other == "variables")


@pytest.mark.parametrize(
    ("document", "start"),
    [
        (SHORT, "after"),
        ("subscription($id: ID!, $from: Int!) { taskEvents(after: $from, id: $id) { id } }", "from"),
        ("subscription($id: ID!) { taskEvents(id: $id, after: 3) { id } }", None),
        (
            "subscription($id: ID!, $n: Int!) { taskEvents(id: $id, after: $n) "
            "{ ... on ImageReady { image { url(width: $n) } } } }",
            None,
        ),
    ],
)
def test_the_variable_that_only_says_where_to_begin_is_recognised(document: str, start: str | None) -> None:
    assert check(schema, document, None).start_variable == start


class Forgetful(Outlet):
    """A client that takes everything and keeps nothing."""

    budget = DataUriBudget()

    def deliver(self, subscriber: Subscriber, message: Message) -> None: ...
    def put(self, piece: bytes | memoryview) -> None: ...
    def whole(self) -> None: ...
    def pieces_of(self, subscriber: Subscriber, message: Message) -> Iterator[bytes]:
        return iter(())

    def complete(self, subscriber: Subscriber) -> None: ...
    def fail(self, subscriber: Subscriber, error: Exception) -> None: ...
    def abort(self) -> None: ...


async def test_nothing_grows_with_the_number_of_events(stage: Stage) -> None:
    task = await stage.task()
    outlet = Forgetful()
    context = stage.live.context(Rights(stage.url), outlet.budget)
    request = OperationRequest(WATCH, {"id": task.id})
    subscriber = await stage.live.groups.join(request, check(schema, WATCH, None), context, outlet)
    group = subscriber._group
    event = (await group.source.stored(0))[0]

    async def deliver(count: int) -> int:
        for _ in range(count):
            group._deliver(await group.encode(event, None))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = await deliver(200)
        grown = await deliver(3000) - before
    finally:
        tracemalloc.stop()
        subscriber.leave()

    assert grown < 500_000, "graphql-core's own stream would have grown by some 6,000,000 bytes"


async def test_a_fault_in_one_event_is_masked_and_the_next_one_comes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task = await stage.task()
    document = "subscription($id: ID!) { taskEvents(id: $id) { sequence ... on ImageReady { image { placeholder } } } }"
    monkeypatch.setattr("resolvers.images.placeholder", broken)
    async with aclosing(subscribe(stage, document, {"id": task.id})) as messages:
        assert (await anext(messages))["payload"]["data"]["taskEvents"]["sequence"] == 1
        await task.picture(noise(1))
        payload = (await anext(messages))["payload"]
        await task.progress()
        assert (await anext(messages))["payload"]["data"]["taskEvents"]["sequence"] == 3

    assert payload["data"] == {"taskEvents": {"sequence": 2, "image": {"placeholder": None}}}
    assert [error["message"] for error in payload["errors"]] == [UNEXPECTED]
    assert payload["errors"][0]["path"] == ["taskEvents", "image", "placeholder"]
    assert "secret" not in json.dumps(payload)
    assert "secret" in caplog.text


async def broken(*_: object) -> str:
    raise RuntimeError("a secret")


async def test_every_client_has_its_own_budget_of_inline_pictures(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, executed: list[int]
) -> None:
    monkeypatch.setattr("resolvers.images.DATA_URI_BUDGET", 100_000)
    task, other = await stage.task(), await stage.task()
    document = (
        "subscription($id: ID!, $after: Int!) { taskEvents(id: $id, after: $after) "
        "{ ... on PartialImageReady { image { dataUri } } } }"
    )
    async with socket(stage) as spender, socket(stage) as saver:
        await ask(spender, "other", document, id=other.id, after=1)
        for ws in (spender, saver):
            await ask(ws, "1", document, id=task.id, after=1)
        await stage.watched_by(3)
        await other.partial(0, noise(60))
        assert json.loads(await spender.recv())["payload"]["data"]["taskEvents"]["image"]["dataUri"]
        executed.clear()
        await task.partial(0, noise(60))
        found = [json.loads(await ws.recv())["payload"]["data"]["taskEvents"]["image"] for ws in (spender, saver)]

    assert found[0]["dataUri"] is None
    assert found[1]["dataUri"].startswith("data:image/png;base64,")
    assert executed == [2, 2]


async def test_a_long_message_comes_whole(stage: Stage) -> None:
    task = await stage.task()
    data = noise(1000)
    document = (
        "subscription($id: ID!) { taskEvents(id: $id) { ... on ImageReady { image { dataUri(maxBytes: 4000000) } } } }"
    )
    async with aclosing(subscribe(stage, document, {"id": task.id})) as messages:
        await anext(messages)
        await task.picture(data)
        image = (await anext(messages))["payload"]["data"]["taskEvents"]["image"]
        await task.succeed()
        assert [message["type"] async for message in messages] == ["next", "complete"]

    assert base64.b64decode(image["dataUri"].partition(",")[2]) == data


async def test_queries_and_mutations_work_between_subscriptions(stage: Stage) -> None:
    task = await stage.task()
    async with socket(stage) as ws:
        await ask(ws, "events", SHORT, id=task.id)
        assert await sequences(ws, "events", 1) == [1]
        await ask(ws, "query", "query($id: ID!) { task(id: $id) { lastSequence } }", id=task.id)
        assert json.loads(await ws.recv()) == {
            "id": "query",
            "type": "next",
            "payload": {"data": {"task": {"lastSequence": 1}}},
        }
        assert json.loads(await ws.recv()) == {"id": "query", "type": "complete"}
        await ask(ws, "query", "mutation { startGeneration(input: {request: {}}) { __typename } }")
        assert json.loads(await ws.recv())["type"] == "error"
        await task.progress()
        assert await sequences(ws, "events", 2) == [2]


async def test_a_task_that_has_ended_is_replayed_and_completed(stage: Stage) -> None:
    task = await stage.task()
    await task.progress(3)
    await task.succeed()

    assert [event["sequence"] for event in await watch(stage, task.id)] == [1, 2, 3, 4, 5]
    assert await watch(stage, task.id, after=5) == []
    assert len(stage.live.groups) == 0


async def test_a_client_that_is_ahead_waits_for_what_it_has_not_seen(stage: Stage) -> None:
    task = await stage.task()
    async with socket(stage) as ws:
        await ask(ws, "1", SHORT, id=task.id, after=3)
        await until(lambda: stage.live.groups.subscribers == 1)
        await task.progress(4)
        assert await sequences(ws, "1", 5) == [4, 5]


async def test_an_id_can_be_used_again_once_its_operation_is_over(stage: Stage) -> None:
    task = await stage.task()
    async with socket(stage) as ws:
        for _ in range(3):
            await ask(ws, "1", SHORT, id=task.id)
            assert await sequences(ws, "1", 1) == [1]
            await ws.send('{"id":"1","type":"complete"}')
        await ask(ws, "1", "{ __typename }")
        assert [json.loads(await ws.recv())["type"] for _ in range(2)] == ["next", "complete"]
        await stage.is_unwatched()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("subscription {", "Syntax Error"),
        ("subscription { nope }", "Cannot query field"),
        ("subscription($id: ID!) { taskEvents(id: $id) { id } }", "to be provided"),
        ("subscription A { a: __typename } subscription B { b: __typename }", "operationName"),
        ("", "no `query`"),
    ],
)
async def test_a_document_that_cannot_be_run_is_an_error_of_its_operation_alone(
    stage: Stage, document: str, words: str
) -> None:
    async with socket(stage) as ws:
        await ask(ws, "bad", document)
        message = json.loads(await ws.recv())
        assert (message["id"], message["type"]) == ("bad", "error")
        assert words in message["payload"][0]["message"]
        await ask(ws, "bad", "{ __typename }")
        assert json.loads(await ws.recv())["type"] == "next"


def test_no_extension_of_the_schema_would_miss_the_events() -> None:
    """Events are executed one by one, without the hooks of extensions; errors are masked where events are encoded."""
    hooks = ("on_execute", "on_stream_result", "resolve", "get_results")
    found = {
        (type(extension), hook)
        for extension in schema.get_extensions()
        for hook in hooks
        if getattr(type(extension), hook) is not getattr(SchemaExtension, hook)
    }

    assert found == {(OurErrors, "on_stream_result")}
