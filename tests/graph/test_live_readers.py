"""Slow, many and hostile readers: they cost little, and the others do not notice them."""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from graph.live.connection import Connection
from graph.live.subscriber import Subscriber
from tests.clients import socket
from tests.graph.raw import RawSocket, connect, raw_socket
from tests.graph.stage import Stage, StagedTask, noise, staged, until

pytestmark = pytest.mark.anyio

STATUS = "subscription($id: ID!, $after: Int! = 0) { taskEvents(id: $id, after: $after) { __typename sequence } }"
PICTURES = """
subscription($id: ID!, $after: Int! = 0) {
  taskEvents(id: $id, after: $after) {
    __typename sequence
    ... on PartialImageReady { image { dataUri(maxBytes: 10000000) } }
    ... on ImageReady { image { dataUri(maxBytes: 10000000) } }
    ... on EventsSkipped { missed resumeAfter task { id } }
  }
}
"""


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("stage"), max_connections_per_caller=0) as stage:
        yield stage


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that is behind is slow at once."""
    monkeypatch.setattr("graph.live.subscriber.PATIENCE", 0.0)


def resident() -> int:
    """Bytes of memory this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def event_of(message: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = message["payload"]["data"]["taskEvents"]
    return found


@asynccontextmanager
async def stuck(stage: Stage, task: StagedTask, picture: bytes) -> AsyncIterator[RawSocket]:
    """A reader that has stopped in the middle of a picture."""
    async with raw_socket(stage) as raw:
        raw.subscribe("pictures", PICTURES, id=task.id, after=task.record.last_sequence)
        await stage.watched_by(1)
        await task.partial(0, picture)
        await until(lambda: blocked(stage) == 1)
        yield raw
    await stage.is_left()


def blocked(stage: Stage) -> int:
    """How many subscribers wait for a reader that does not read."""
    return sum(one.outlet.paused for group in stage.live.groups for one in group._behind)


async def statuses(task: StagedTask, reader: Any, count: int) -> list[float]:
    """How long it takes from an event that is committed to its receipt, in seconds."""
    found = []
    for _ in range(count):
        await task.progress()
        began = time.perf_counter()
        message = json.loads(await reader.recv())
        found.append(time.perf_counter() - began)
        assert event_of(message)["sequence"] == task.record.last_sequence
    return found


async def test_readers_that_stop_cost_little_and_the_others_do_not_notice(stage: Stage) -> None:
    task, quiet = await stage.task(), await stage.task()
    pictures = [noise(8000) for _ in range(4)]
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(socket(stage))
        for id, watched in (("task", task), ("quiet", quiet)):
            payload = {"query": STATUS, "variables": {"id": watched.id, "after": 1}}
            await reader.send(json.dumps({"id": id, "type": "subscribe", "payload": payload}))
        await stage.watched_by(2)
        before = median(await statuses(quiet, reader, 40))
        for _ in range(200):
            raw = await connect(stage)
            stack.callback(raw.abort)
            raw.subscribe("1", PICTURES, id=task.id, after=1)
        await stage.watched_by(202)
        gc.collect()
        memory, during = resident(), []
        for number, picture in enumerate(pictures):
            await task.partial(number, picture)
            assert event_of(json.loads(await reader.recv()))["__typename"] == "PartialImageReady"
            during += await statuses(quiet, reader, 10)
        assert blocked(stage) == 200
        grown = resident() - memory
    await stage.is_left()

    assert grown < 150 << 20, "each reader would have had 43 MB to read, all of them 8.5 GB"
    assert median(during) < before * 3 + 0.005


@pytest.mark.usefixtures("impatient")
async def test_a_slow_reader_gets_every_status_the_newest_picture_and_is_told_what_it_missed(stage: Stage) -> None:
    task = await stage.task()
    async with stuck(stage, task, noise(2000)) as raw:
        await task.partial(1, noise(500))
        await task.partial(2, noise(500))
        await task.progress(2)
        await task.partial(3, noise(500))
        await task.progress()
        await task.picture(noise(500))
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["sequence"] < 9:
            seen.append(event_of(await raw.message()))
        await task.succeed()
        seen.append(event_of(await raw.message()))
        assert await raw.message() == {"id": "pictures", "type": "complete"}

    assert [(event["__typename"], event["sequence"]) for event in seen] == [
        ("PartialImageReady", 2),
        ("EventsSkipped", 4),
        ("TaskProgressed", 5),
        ("TaskProgressed", 6),
        ("EventsSkipped", 7),
        ("TaskProgressed", 8),
        ("ImageReady", 9),
        ("TaskSucceeded", 10),
    ]
    assert (seen[1]["missed"], seen[1]["resumeAfter"]) == (2, 2)
    assert (seen[4]["missed"], seen[4]["resumeAfter"]) == (1, 6)
    assert seen[1]["task"] == {"id": task.id}


@pytest.mark.usefixtures("impatient")
async def test_what_was_skipped_can_be_had_by_asking_again(stage: Stage) -> None:
    task = await stage.task()
    async with stuck(stage, task, noise(2000)) as raw:
        await task.partial(1, noise(300))
        await task.progress()
        for _ in range(2):
            skipped = event_of(await raw.message())
        assert skipped["__typename"] == "EventsSkipped"
        raw.subscribe("again", PICTURES, id=task.id, after=skipped["resumeAfter"])
        while (message := await raw.message())["id"] != "again":
            pass

    assert event_of(message)["sequence"] == 3
    assert len(event_of(message)["image"]["dataUri"]) > 300_000


async def test_a_reader_that_is_behind_for_a_moment_misses_nothing(stage: Stage) -> None:
    task = await stage.task()
    async with stuck(stage, task, noise(2000)) as raw:
        for number in range(1, 4):
            await task.partial(number, noise(200))
            await task.progress()
        await task.succeed()
        seen = [event_of(await raw.message()) for _ in range(8)]

    assert [event["sequence"] for event in seen] == list(range(2, 10))


@pytest.mark.usefixtures("impatient")
async def test_small_events_go_before_the_pictures_of_other_subscriptions(stage: Stage) -> None:
    task, other, third = await stage.task(), await stage.task(), await stage.task()
    async with stuck(stage, task, noise(2000)) as raw:
        raw.subscribe("more pictures", PICTURES, id=other.id, after=1)
        raw.subscribe("status", STATUS, id=third.id, after=1)
        await until(lambda: stage.live.groups.subscribers == 3)
        await task.partial(1, noise(500))
        await other.partial(0, noise(500))
        await third.progress(3)
        await until(lambda: blocked(stage) == 3)
        order = [(message["id"], event_of(message)["sequence"]) for message in [await raw.message() for _ in range(6)]]

    assert order[0] == ("pictures", 2)
    assert order[1:4] == [("status", 2), ("status", 3), ("status", 4)]
    assert set(order[4:]) == {("pictures", 3), ("more pictures", 2)}


async def test_an_answer_goes_before_the_pictures_too(stage: Stage) -> None:
    task = await stage.task()
    async with stuck(stage, task, noise(2000)) as raw:
        await task.partial(1, noise(500))
        raw.send({"type": "ping"})
        raw.subscribe("query", "{ __typename }")
        raw.subscribe("bad", "{ nope }")
        found = [await raw.message() for _ in range(6)]

    assert [(message.get("id"), message["type"]) for message in found[:1]] == [("pictures", "next")]
    assert {message["type"] for message in found[1:5]} == {"pong", "next", "complete", "error"}
    assert (found[5]["id"], event_of(found[5])["sequence"]) == ("pictures", 3)


async def test_a_subscription_can_be_stopped_in_the_middle_of_its_pictures(stage: Stage) -> None:
    task = await stage.task()
    async with stuck(stage, task, noise(2000)) as raw:
        await task.partial(1, noise(500))
        raw.send({"id": "pictures", "type": "complete"})
        await stage.is_unwatched()
        raw.subscribe("query", "{ __typename }")
        while (message := await raw.message())["id"] != "query":
            assert event_of(message)["sequence"] == 2


async def test_replies_that_wait_for_the_end_of_a_picture_take_only_so_much(stage: Stage) -> None:
    task = await stage.task()
    async with stuck(stage, task, noise(2000)) as raw:
        for number in range(60):
            raw.subscribe(str(number), f"{{ {'x' * 20_000} }}")  # is repeated in the error
        await stage.is_left()


def left_behind() -> list[object]:
    """The sockets and subscriptions that anybody still holds."""
    gc.collect()
    return [one for one in gc.get_objects() if type(one) in (Subscriber, Connection)]


async def test_thousands_of_clients_that_vanish_under_load_leave_nothing_behind(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    task = await stage.task()
    gone = asyncio.Event()

    async def act() -> None:
        while not gone.is_set():
            await task.progress()

    async def vanish() -> None:
        async with raw_socket(stage, buffer=65536) as raw:
            raw.subscribe("1", STATUS, id=task.id, after=task.record.last_sequence)
            await raw.message()

    acting = asyncio.create_task(act())
    for _ in range(40):
        await asyncio.gather(*(vanish() for _ in range(50)))
    gone.set()
    await acting
    await stage.is_left()
    await until(lambda: not left_behind())

    names = ("group", "subscriber", "operation", "event stream")
    assert not [task for task in asyncio.all_tasks() if task.get_name() in names]
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
