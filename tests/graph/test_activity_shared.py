"""`activity`, shared: whoever comes back is told what it has missed, and goes on with the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from graph.context import Context
from graph.live.operation import Selection
from graph.live.replay import Replay
from graph.live.source import LiveEvent
from tasks.activity_log import ActivityLog
from tasks.errors import DatabaseUnavailableError
from tests.clients import socket
from tests.graph.stage import Stage, staged, until

pytestmark = pytest.mark.anyio
SECONDS = 20
RETURNING = 12

QUERY = """
subscription Wall($after: String) {
  activity(after: $after, maxPerSecond: 20) {
    __typename cursor
    ... on ActivityStarted { complete }
    ... on TaskChanged { task { id status images { url } } events { sequence } }
    ... on ActivityCounted { counts { status count } }
  }
}
"""


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture(autouse=True)
async def left(stage: Stage) -> AsyncIterator[None]:
    yield
    await stage.is_left()


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of all events that are executed, in order."""
    found: list[str] = []
    of = Selection.of

    def counting(self: Selection, event: LiveEvent, context: Context) -> Any:
        found.append(type(event.value).__name__)
        return of(self, event, context)

    monkeypatch.setattr(Selection, "of", counting)
    return found


class Dashboard:
    """One subscription, and what it has been told."""

    def __init__(self, ws: ClientConnection) -> None:
        self._ws = ws
        self.told: list[dict[str, Any]] = []

    async def next(self) -> dict[str, Any]:
        message = json.loads(await self._ws.recv())
        assert message["type"] == "next", message
        found: dict[str, Any] = message["payload"]["data"]["activity"]
        self.told.append(found)
        return found

    async def hears(self, wanted: set[tuple[str, int]]) -> None:
        """Go on until all these events have been told."""
        async with asyncio.timeout(SECONDS):
            while not wanted <= self.events:
                await self.next()

    @property
    def events(self) -> set[tuple[str, int]]:
        return {(one["task"]["id"], event["sequence"]) for one in self.told for event in one.get("events", ())}

    @property
    def kinds(self) -> list[str]:
        return [one["__typename"] for one in self.told]


@asynccontextmanager
async def dashboard(stage: Stage, after: str | None, query: str = QUERY) -> AsyncIterator[Dashboard]:
    async with socket(stage) as ws:
        asked = {"query": query, "variables": {"after": after}}
        await ws.send(json.dumps({"id": "1", "type": "subscribe", "payload": asked}))
        yield Dashboard(ws)


async def here(stage: Stage) -> str:
    """A cursor of this moment."""
    async with dashboard(stage, None) as seen:
        cursor: str = (await seen.next())["cursor"]
    return cursor


async def changed(stage: Stage, count: int) -> set[tuple[str, int]]:
    """Tasks begin and end; their events."""
    found = set()
    for _ in range(count):
        task = await stage.task()
        await task.succeed()
        found |= {(task.id, 1), (task.id, 2)}
    return found


async def test_those_who_come_back_share_what_they_missed_and_go_on_with_the_others(
    stage: Stage, executed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graph.live.replay.SECONDS", SECONDS)
    cursor = await here(stage)
    missed = await changed(stage, 3)
    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(dashboard(stage, None))
        assert [(await there.next())["__typename"] for _ in range(2)] == ["ActivityStarted", "ActivityCounted"]
        executed.clear()
        back = [await stack.enter_async_context(dashboard(stage, cursor)) for _ in range(RETURNING)]
        for one in back:
            await one.hears(missed)
        assert len(stage.live.groups) == 1
        assert executed.count("TaskChanged") == 3
        await stage.watched_by(1 + RETURNING)
        now = await changed(stage, 2)
        for one in [there, *back]:
            await one.hears(now)

    assert executed.count("TaskChanged") == back[0].kinds.count("TaskChanged")
    for one in back:
        assert one.told[0] == {"__typename": "ActivityStarted", "cursor": cursor, "complete": True}
        assert one.kinds.count("ActivityStarted") == 1
        assert "ActivityCounted" in one.kinds


async def test_whoever_comes_back_to_where_the_others_are_is_told_so_and_how_many_there_are(stage: Stage) -> None:
    async with dashboard(stage, None) as there:
        await there.next()
        cursor = (await there.next())["cursor"]
        async with dashboard(stage, cursor) as back:
            await back.next()
            await back.next()
            assert len(stage.live.groups) == 1

    assert there.kinds == back.kinds == ["ActivityStarted", "ActivityCounted"]
    assert back.told == there.told


async def test_nothing_is_missed_by_those_who_are_cut_off_and_come_back_while_much_happens(stage: Stage) -> None:
    cursor = await here(stage)
    happening = asyncio.create_task(changed(stage, 25))

    async def often(messages: int) -> set[tuple[str, int]]:
        """What is told to somebody who is cut off after so many messages, until all of it has been told."""
        at, told = cursor, set[tuple[str, int]]()
        async with asyncio.timeout(SECONDS):
            while not (happening.done() and happening.result() <= told):
                async with dashboard(stage, at) as back:
                    while len(back.told) < messages and not (happening.done() and happening.result() <= told):
                        at = (await back.next())["cursor"]
                        told |= back.events
                assert back.told[0].get("complete")
        return told

    async with dashboard(stage, cursor) as whole:
        told = await asyncio.gather(*(often(messages) for messages in (2, 3, 7)))
        happened = await happening
        await whole.hears(happened)

    assert all(happened <= one for one in told)


async def test_whoever_comes_back_from_a_place_that_is_gone_begins_anew_with_the_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = await here(stage)
    monkeypatch.setattr("tasks.activity.MOST_PAGES", 0)
    async with dashboard(stage, None) as there, dashboard(stage, cursor) as back:
        await there.next()
        await back.next()
        now = await changed(stage, 1)
        await back.hears(now)
        await there.hears(now)
        assert len(stage.live.groups) == 1

    assert not back.told[0]["complete"]


async def test_a_dashboard_that_leaves_while_it_is_told_what_it_missed_leaves_nothing(stage: Stage) -> None:
    cursor = await here(stage)
    await changed(stage, 2)
    async with dashboard(stage, cursor) as back:
        await back.next()
    async with dashboard(stage, cursor):
        pass
    await stage.is_left()

    assert not [task for task in asyncio.all_tasks() if task.get_name() in ("subscriber", "group", "activity")]


async def test_nobody_asks_a_database_that_is_away_for_those_who_have_left(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = await here(stage)
    asked = asyncio.Event()

    async def away(*_: object) -> bool:
        asked.set()
        raise DatabaseUnavailableError("It is away.")

    async with dashboard(stage, None) as there:
        await there.next()
        monkeypatch.setattr(ActivityLog, "holds", away)
        async with dashboard(stage, cursor):
            async with asyncio.timeout(SECONDS):
                await asked.wait()
            assert [task for task in asyncio.all_tasks() if task.get_name() == "prelude"]
        await stage.watched_by(1)
        await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "prelude"])


async def test_pictures_inside_the_answers_are_not_kept_for_others_who_come_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Replay] = []
    make = Replay.__init__

    def noted(self: Replay, events: Sequence[LiveEvent]) -> None:
        made.append(self)
        make(self, events)

    monkeypatch.setattr(Replay, "__init__", noted)
    cursor = await here(stage)
    await changed(stage, 2)
    inlining = QUERY.replace("images { url }", "images { dataUri }")
    async with dashboard(stage, cursor, inlining) as back:
        for _ in range(3):
            await back.next()

    assert back.kinds.count("TaskChanged") >= 1
    assert made
    assert not any(replay._messages for replay in made)
