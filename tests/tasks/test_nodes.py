"""Several nodes on one PostgreSQL database: who hears what, and who takes over what."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update
from sqlmodel import col

from graph.ids import key
from providers.errors import FailureCode, Transport
from tasks import engine
from tasks.cancellation import CANCELLATION
from tasks.darkroom import Darkroom
from tasks.events import Canceled, Change, Failed, ImageReady, Succeeded, TaskEvent
from tasks.nodes import Nodes
from tasks.records import NodeRecord, TaskRecord
from tasks.status import TaskStatus
from tests import clients
from tests.clients import all_images, eventually, openai_images
from tests.process import serve
from tests.tasks.node import Vendor, darkroom, ended, node, order, pictures, until, vendor

pytestmark = pytest.mark.anyio

SOON = 5.0
"""Seconds: less than any safety net, and far more than a hint takes."""


@pytest.fixture(autouse=True)
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """What starts has been woken."""
    monkeypatch.setattr(engine, "POLLING_SECONDS", 3600.0)


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Vendor]:
    """The vendor of this test."""
    async with vendor(tmp_path) as made:
        yield made


@pytest.fixture
async def pair(studio: Vendor, tmp_path: Path, postgres_with_tables: str) -> AsyncIterator[tuple[Darkroom, Darkroom]]:
    """One that works, and one that only serves clients."""
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(node(studio, tmp_path, postgres_with_tables, lease_seconds=2))
        api = await stack.enter_async_context(node(studio, tmp_path, postgres_with_tables, works=False))
        yield worker, api


async def row(at: Darkroom, task: TaskRecord) -> TaskRecord:
    """A task as it is now."""
    found = await at.history.task(task.id)
    assert found is not None
    return found


def changes(events: list[TaskEvent]) -> list[Change]:
    """What has happened."""
    return [event.change for event in events]


async def test_a_node_that_does_not_work_has_its_tasks_done_and_sees_them_live(
    pair: tuple[Darkroom, Darkroom], studio: Vendor
) -> None:
    _, api = pair
    began = time.monotonic()
    task = await api.start(order("openai_images", "[[sandbox: pause=0.1]]", partial_images=2))
    seen: list[tuple[int, float]] = []
    async with asyncio.timeout(SOON), aclosing(api.watch(task.id)) as events:
        async for event in events:
            seen.append((event.sequence, (event.at - task.created_at).total_seconds()))
            lag = time.monotonic() - began - seen[-1][1]
            assert lag < 2, f"event {event.sequence} was seen {lag:.1f} seconds late"

    assert [sequence for sequence, _ in seen] == list(range(1, len(seen) + 1))
    assert (await row(api, task)).status is TaskStatus.SUCCEEDED
    assert await studio.charges(task.id) == 1


async def test_canceling_works_from_the_node_that_does_not_run_the_task(
    pair: tuple[Darkroom, Darkroom], studio: Vendor
) -> None:
    worker, api = pair
    stopped = await api.start(order("tiny", seconds=50))
    abandoned = await api.start(order("openai_images", "[[sandbox: pause=0.5]]", partial_images=1))
    for task in (stopped, abandoned):
        await until(api, task, TaskStatus.RUNNING)
    async with asyncio.timeout(SOON):
        found = [await api.cancel(task.id) for task in (stopped, abandoned)]

    assert [one is not None and one.status for one in found] == [TaskStatus.CANCELED] * 2
    outcomes = [CANCELLATION.validate_python(one.cancellation).outcome for one in found if one is not None]
    assert outcomes == ["stopped", "abandoned"]

    async def late() -> bool:
        return [image.late for image in await pictures(api, abandoned)][-1:] == [True]

    await eventually(late)
    assert isinstance((await ended(worker, abandoned))[-1].change, Canceled)


async def test_a_task_that_waits_on_another_node_is_canceled_where_it_stands(
    studio: Vendor, tmp_path: Path, postgres_with_tables: str
) -> None:
    async with (
        node(studio, tmp_path, postgres_with_tables, concurrency=1) as worker,
        node(studio, tmp_path, postgres_with_tables, works=False) as api,
    ):
        await until(api, await api.start(order("tiny", seconds=50)), TaskStatus.RUNNING)
        queued = await api.start(order("tiny"))
        retrying = await api.start(order("placewise", "[[sandbox: status=429 retry_after=30]]"))
        await eventually(lambda: waits(api, retrying))
        async with asyncio.timeout(SOON):
            for task in (queued, retrying):
                canceled = await api.cancel(task.id)
                assert canceled is not None
                assert CANCELLATION.validate_python(canceled.cancellation).outcome == "never_sent"
        await eventually(lambda: idle(worker, retrying))


async def test_a_node_that_looks_for_lost_tasks_leaves_alone_what_another_one_runs(
    pair: tuple[Darkroom, Darkroom], studio: Vendor
) -> None:
    _, api = pair
    task = await api.start(order("openai_images", "[[sandbox: pause=0.5]]", partial_images=1))
    await until(api, task, TaskStatus.RUNNING)
    long_ago = update(TaskRecord).values(created_at=task.created_at - timedelta(hours=1))
    await api._database.write(lambda connection: connection.execute(long_ago))
    await api._upkeep._repair.stale()

    assert isinstance((await ended(api, task))[-1].change, Succeeded)
    assert (await row(api, task)).run == 1
    assert await studio.charges(task.id) == 1


async def waits(at: Darkroom, task: TaskRecord) -> bool:
    return (await row(at, task)).retry_at is not None


async def idle(at: Darkroom, task: TaskRecord) -> bool:
    return task.id not in at._engine.running


async def test_what_a_killed_node_was_doing_is_taken_over_within_its_lease(
    studio: Vendor, tmp_path: Path, postgres_with_tables: str
) -> None:
    environment = {
        "DARKROOM_DATABASE_URL": postgres_with_tables,
        "DARKROOM_SANDBOX_URL": studio.url,
        "DARKROOM_LEASE_SECONDS": "2",
        "DARKROOM_OPENAI_IMAGES_CONCURRENCY": "1",
    }
    with serve(tmp_path, **environment) as doomed:
        stream, waiting = [await clients.start(doomed, openai_images("A dam [[sandbox: pause=30]]")) for _ in range(2)]
        job = await clients.start(doomed, all_images("A dam [[sandbox: pause=0.5]]"))
        for task_id in (stream, job):
            await clients.until(doomed, task_id, "RUNNING")
        async with node(studio, tmp_path, postgres_with_tables, lease_seconds=2) as here:
            tasks = [await here.history.task(key(task_id, "Task")) for task_id in (stream, job, waiting)]
            doomed.kill()
            killed = time.monotonic()
            async with asyncio.timeout(20):
                lost, resumed = [await ended(here, task) for task in tasks[:2] if task is not None]
                taken = time.monotonic() - killed
                assert tasks[2] is not None
                await until(here, tasks[2], TaskStatus.RUNNING)

    assert isinstance(lost[-1].change, Failed)
    assert lost[-1].change.failure.code is FailureCode.OUTCOME_UNKNOWN
    assert isinstance(resumed[-1].change, Succeeded)
    assert taken < 2 + SOON
    assert [await studio.charges(key(task_id, "Task")) for task_id in (stream, job, waiting)] == [1, 1, 1]


async def test_a_node_that_was_wrongly_taken_for_dead_goes_on_under_a_new_name_and_cannot_write(
    studio: Vendor, tmp_path: Path, postgres_with_tables: str
) -> None:
    async with (
        node(studio, tmp_path, postgres_with_tables, lease_seconds=2) as frozen,
        node(studio, tmp_path, postgres_with_tables, lease_seconds=2) as other,
    ):
        stream = await frozen.start(order("openai_images", "[[sandbox: pause=1.5]]", partial_images=1))
        job = await frozen.start(order("all_images", "[[sandbox: pause=0.3]]"))
        for task in (stream, job):
            await until(frozen, task, TaskStatus.RUNNING)
        before = {frozen.node, other.node}
        # Both, because either may be the one that runs them.
        declare_dead = delete(NodeRecord).where(col(NodeRecord.id).in_(before))
        await other._database.write(lambda connection: connection.execute(declare_dead))
        lost, resumed = await ended(other, stream), await ended(other, job)

        async def late() -> bool:
            return any(image.late for image in await pictures(other, stream))

        assert isinstance(lost[-1].change, Failed)
        assert lost[-1].change.failure.code is FailureCode.OUTCOME_UNKNOWN
        await eventually(late)
        assert changes(await ended(other, stream)) == changes(lost), "the lost run writes nothing"
        assert isinstance(resumed[-1].change, Succeeded)
        assert [event.change.index for event in resumed if isinstance(event.change, ImageReady)] == [0, 1, 2, 3]
        assert not {frozen.node, other.node} & before
        # Under its new name it keeps what it runs: nobody takes it over a second time.
        after = await frozen.start(order("openai_images", "[[sandbox: pause=1]]"))
        assert isinstance((await ended(frozen, after))[-1].change, Succeeded)
        assert [await studio.charges(task.id) for task in (stream, job, after)] == [1, 1, 1]


async def test_a_node_that_cannot_say_that_it_lives_leaves_new_tasks_to_the_others(
    studio: Vendor, tmp_path: Path, postgres_with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(studio, tmp_path, postgres_with_tables, lease_seconds=4) as unheard:
        beat, heard = Nodes.beat, asyncio.Event()

        async def stuck(self: Nodes, name: str) -> bool:
            if name == unheard.node:
                await heard.wait()
            return await beat(self, name)

        monkeypatch.setattr(Nodes, "beat", stuck)

        async def takes_nothing() -> bool:
            return unheard._engine.full("openai_images")

        await eventually(takes_nothing)
        async with node(studio, tmp_path, postgres_with_tables, lease_seconds=4) as other:
            task = await unheard.start(order("openai_images", "[[sandbox: pause=0.3]]", partial_images=1))
            await until(unheard, task, TaskStatus.RUNNING)
            assert task.id in other._engine.running
            assert isinstance((await ended(unheard, task))[-1].change, Succeeded)
        heard.set()
        after = await unheard.start(order("openai_images"))
        assert isinstance((await ended(unheard, after))[-1].change, Succeeded)

    assert [await studio.charges(one.id) for one in (task, after)] == [1, 1]


async def test_a_node_that_stood_still_does_not_take_a_task_back_from_the_one_that_goes_on_with_it(
    studio: Vendor, tmp_path: Path, postgres_with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(studio, tmp_path, postgres_with_tables, lease_seconds=2) as still:
        claim, arrived, wakes = still._journal.claim, asyncio.Event(), asyncio.Event()

        async def claim_late(*args: Any, **options: Any) -> TaskRecord | None:
            arrived.set()
            await wakes.wait()
            return await claim(*args, **options)

        monkeypatch.setattr(still._journal, "claim", claim_late)
        task = await still.start(order("openai_images", "[[sandbox: pause=0.5]]", partial_images=2))
        await arrived.wait()
        for stopped in (*still._upkeep._chores, *still._engine._loops):
            stopped.cancel()
        async with node(studio, tmp_path, postgres_with_tables, lease_seconds=2) as other:
            await until(other, task, TaskStatus.RUNNING)
            wakes.set()
            last = (await ended(other, task))[-1]

    assert isinstance(last.change, Succeeded)
    assert last.task.run == 1
    assert await studio.charges(task.id) == 1


async def test_a_node_that_is_stopped_hands_its_work_over_at_once(
    studio: Vendor, tmp_path: Path, postgres_with_tables: str
) -> None:
    leaving = darkroom(studio, tmp_path, postgres_with_tables)
    await leaving.open()
    jobs = [await leaving.start(order("all_images", "[[sandbox: pause=0.4]]")) for _ in range(3)]
    retrying = await leaving.start(order("placewise", "[[sandbox: status=429 retry_after=2]]"))
    for task in jobs:
        await until(leaving, task, TaskStatus.RUNNING)
    await eventually(lambda: waits(leaving, retrying))
    async with node(studio, tmp_path, postgres_with_tables) as staying:
        began = time.monotonic()
        await leaving.close()
        assert time.monotonic() - began < SOON
        await eventually(lambda: all_here(staying, [*jobs, retrying]), SOON / 2)
        for task in jobs:
            assert isinstance((await ended(staying, task))[-1].change, Succeeded)

    assert [await studio.charges(task.id) for task in jobs] == [1, 1, 1]


async def all_here(at: Darkroom, tasks: list[TaskRecord]) -> bool:
    return {task.id for task in tasks} <= at._engine.running


async def test_a_stop_while_a_request_is_about_to_be_sent_leaves_it_unsent_for_the_next_node(
    studio: Vendor, tmp_path: Path, with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving = darkroom(studio, tmp_path, with_tables)
    await leaving.open()
    recorded, write = asyncio.Event(), leaving._database.write

    async def slow(work: Any) -> Any:
        done = await write(work)
        if getattr(getattr(done, "change", None), "status", None) is TaskStatus.SUBMITTING:
            recorded.set()
            await asyncio.sleep(0.2)
        return done

    monkeypatch.setattr(leaving._database, "write", slow)
    task = await leaving.start(order("tiny"))
    await recorded.wait()
    await leaving.close()
    async with node(studio, tmp_path, with_tables) as staying:
        events = await ended(staying, task)

    assert isinstance(events[-1].change, Succeeded)
    assert (await studio.charges(task.id)) == 1
    assert Transport.ACCEPTED.value == events[-1].task.transport
    assert events[-1].task.attempt == 1
