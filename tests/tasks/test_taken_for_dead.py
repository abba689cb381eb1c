"""A node that stood still while it asked for a picture: what the answer says is not lost, whoever has the task now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete
from sqlmodel import col

from providers.contract import Accepted, FinalImage, ProviderEvent, Submission
from providers.errors import FailureCode, Transport
from tasks.darkroom import Darkroom
from tasks.errors import LostTaskError
from tasks.events import Failed, ImageReady, StatusChanged, Succeeded
from tasks.records import NodeRecord, TaskRecord, now
from tasks.status import TaskStatus
from tests.clients import eventually
from tests.tasks.conftest import Shelf
from tests.tasks.node import Vendor, ended, node, order, pictures, vendor
from tests.tasks.test_canceling import Live, images, row
from tests.tasks.test_repair import LONG_AGO, change
from tests.tasks.test_run import picture, run

pytestmark = pytest.mark.anyio

JOB = Submission("job-1")


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Vendor]:
    """The vendor of this test."""
    async with vendor(tmp_path) as made:
        yield made


async def claimed_again(shelf: Shelf, task: TaskRecord) -> TaskRecord:
    """The same task, for a run that takes it over."""
    again = await shelf.journal.claim(task.id)
    assert again is not None
    return again


async def asking(shelf: Shelf, task: TaskRecord) -> tuple[Live, asyncio.Task[Any]]:
    """A run that has sent the request, and waits for the answer."""
    provider = Live(resumable=True)
    running = asyncio.create_task(run(shelf, provider, task))
    await provider.started.wait()
    return provider, running


async def test_what_is_accepted_after_the_task_was_given_up_is_listened_to(shelf: Shelf) -> None:
    task = await shelf.claimed()
    frozen, running = await asking(shelf, task)
    other = Live(resumable=True)
    other.found = [None]
    last = (await run(shelf, other, await claimed_again(shelf, task)))[-1]
    frozen.say(Accepted(JOB))
    with pytest.raises(LostTaskError):
        await running
    entrusted = await row(shelf, task)
    listener = Live(resumable=True)
    listener.say(FinalImage(0, picture()), None)
    changes = await run(shelf, listener, await claimed_again(shelf, task))

    assert isinstance(last, Failed)
    assert last.failure.code is FailureCode.OUTCOME_UNKNOWN
    assert (entrusted.status, entrusted.listening, entrusted.transport) == (
        TaskStatus.FAILED,
        True,
        Transport.ACCEPTED.value,
    )
    assert (entrusted.submission or {})["id"] == JOB.id
    assert changes[-1] == last, "readers have seen the end"
    assert [image.late for image in await images(shelf, task)] == [True]
    assert not (await row(shelf, task)).listening
    assert (frozen.posts, other.posts, listener.posts) == (1, 0, 0)


async def test_what_is_accepted_while_another_run_asks_for_it_is_found_in_the_row(shelf: Shelf) -> None:
    task = await shelf.claimed()
    frozen, running = await asking(shelf, task)
    await claimed_again(shelf, task)  # by a node that dies before it has asked
    frozen.say(Accepted(JOB))
    with pytest.raises(LostTaskError):
        await running
    last = Live(resumable=True)
    last.say(FinalImage(0, picture()), None)
    changes = await run(shelf, last, await claimed_again(shelf, task))

    assert [getattr(one, "status", type(one)) for one in changes] == [
        TaskStatus.QUEUED,
        TaskStatus.SUBMITTING,
        TaskStatus.RUNNING,
        ImageReady,
        Succeeded,
    ]
    assert not (await row(shelf, task)).listening
    assert last.posts == 0


async def test_what_another_run_watches_already_is_left_to_it(shelf: Shelf) -> None:
    task = await shelf.claimed()
    frozen, running = await asking(shelf, task)
    again = await claimed_again(shelf, task)
    watching: dict[str, Any] = {
        "submission": {"id": "job-1", "request_id": "theirs", "state": {}},
        "submitted_at": now(),
    }
    await shelf.journal.append(again, StatusChanged(TaskStatus.RUNNING), status=TaskStatus.RUNNING, **watching)
    frozen.say(Accepted(JOB))
    with pytest.raises(LostTaskError):
        await running
    found = await row(shelf, task)

    assert (found.submission or {})["request_id"] == "theirs"
    assert not found.listening


class Frozen:
    """Holds back a provider of one node, as if that stood still before the request went out."""

    def __init__(self, at: Darkroom, provider: str) -> None:
        self.reached, self.thawed = asyncio.Event(), asyncio.Event()
        self._provider = at.providers[provider]
        self._run = self._provider.run
        self._provider.run = self._held  # type: ignore[method-assign]

    async def _held(self, *args: Any, **options: Any) -> AsyncGenerator[ProviderEvent, None]:
        if options["resume"] is None:
            self.reached.set()
            await self.thawed.wait()
        async with aclosing(self._run(*args, **options)) as events:
            async for event in events:
                yield event


@pytest.mark.parametrize("provider", ["all_images", "placewise"])
async def test_a_job_that_was_paid_for_after_its_node_was_given_up_brings_its_pictures(
    studio: Vendor, tmp_path: Path, postgres_with_tables: str, provider: str
) -> None:
    async with node(studio, tmp_path, postgres_with_tables, lease_seconds=2) as frozen:
        held = Frozen(frozen, provider)
        task = await frozen.start(order(provider, "[[sandbox: pause=0.1]]"))
        await held.reached.wait()
        async with node(studio, tmp_path, postgres_with_tables, lease_seconds=2) as other:
            declare_dead = delete(NodeRecord).where(col(NodeRecord.id) == frozen.node)
            await other._database.write(lambda connection: connection.execute(declare_dead))
            last = (await ended(other, task))[-1].change
            held.thawed.set()

            async def entrusted() -> bool:
                found = await other.history.task(task.id)
                return found is not None and found.listening and task.id not in frozen._engine.running

            await eventually(entrusted)
            await change(other, task, created_at=now() - LONG_AGO / 4)
            await other._upkeep._repair.stale()

            async def delivered() -> bool:
                found = await other.history.task(task.id)
                return bool(await pictures(other, task)) and found is not None and not found.listening

            await eventually(delivered)
            late = [image.late for image in await pictures(other, task)]

    assert isinstance(last, Failed)
    assert last.failure.code is FailureCode.OUTCOME_UNKNOWN
    assert set(late) == {True}
    assert await studio.charges(task.id) == 1
