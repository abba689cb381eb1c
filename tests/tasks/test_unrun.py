"""Tasks that this server cannot run, as it is set up now: they end with a reason, and nobody is asked to pay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from providers.errors import FailureCode, Transport
from tasks.darkroom import Darkroom
from tasks.events import Change, Failed
from tasks.records import TaskRecord
from tasks.status import TaskStatus
from tests.clients import eventually
from tests.tasks.node import Vendor, ended, node, order, until, vendor
from tests.tasks.test_repair import change, row

pytestmark = pytest.mark.anyio

STREAM = "[[sandbox: pause=60]]"


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Vendor]:
    """The vendor of this test. It is the sandbox, or plays the one where the account is."""
    async with vendor(tmp_path) as made:
        yield made


def open_account(studio: Vendor, patch: pytest.MonkeyPatch) -> None:
    """From now on this server sends to an account."""
    patch.setenv("DARKROOM_OPENAI_IMAGES_BASE_URL", f"{studio.url}/openai_images")
    patch.setenv("DARKROOM_OPENAI_IMAGES_TOKEN", "anything")


def told(last: Change) -> tuple[FailureCode, bool | None, Transport]:
    """What a failure says about money."""
    assert isinstance(last, Failed)
    return last.failure.code, last.failure.billed, last.failure.transport


async def test_what_waited_in_the_sandbox_is_not_sent_to_an_account(
    studio: Vendor, tmp_path: Path, with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(studio, tmp_path, with_tables, works=False) as at:
        task = await at.start(order("openai_images"))
    open_account(studio, monkeypatch)
    async with node(studio, tmp_path, with_tables) as at:
        last = (await ended(at, task))[-1].change
        again = await at.retry(task.id, idempotency_key=None)
        assert again is not None
        assert [event.task.status for event in await ended(at, again)][-1] is TaskStatus.SUCCEEDED

    assert told(last) == (FailureCode.UNAVAILABLE, False, Transport.NOT_SENT)
    assert await studio.charges(task.id) == 0
    assert not again.sandbox, "starting it again is a decision of its own"


async def test_what_the_sandbox_was_making_is_not_looked_for_at_an_account(
    studio: Vendor, tmp_path: Path, with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(studio, tmp_path, with_tables) as at:
        task = await at.start(order("openai_images", STREAM, partial_images=1))
        await until(at, task, TaskStatus.RUNNING)
    open_account(studio, monkeypatch)
    async with node(studio, tmp_path, with_tables) as at:
        last = (await ended(at, task))[-1].change

    assert told(last) == (FailureCode.OUTCOME_UNKNOWN, None, Transport.ACCEPTED)
    assert isinstance(last, Failed)
    assert "in the sandbox" in last.failure.message


async def test_what_an_account_was_asked_for_is_not_asked_of_the_sandbox(
    studio: Vendor, tmp_path: Path, with_tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        open_account(studio, patch)
        async with node(studio, tmp_path, with_tables, concurrency=1) as at:
            canceled = await at.start(replace(order("openai_images", STREAM, partial_images=1), sandbox=False))
            waiting = await at.start(replace(order("openai_images"), sandbox=False))
            await until(at, canceled, TaskStatus.RUNNING)
            await at.cancel(canceled.id)
            assert (await row(at, canceled)).listening
    async with node(studio, tmp_path, with_tables) as at:
        last = (await ended(at, waiting))[-1].change

        async def left_alone() -> bool:
            return not (await row(at, canceled)).listening

        await eventually(left_alone)

    assert told(last) == (FailureCode.UNAVAILABLE, False, Transport.NOT_SENT)
    assert [await studio.charges(task.id) for task in (canceled, waiting)] == [1, 0]


async def test_tasks_of_a_provider_that_is_gone_end(studio: Vendor, tmp_path: Path, with_tables: str) -> None:
    async with node(studio, tmp_path, with_tables, concurrency=1) as at:
        canceled, running = [await at.start(order(name, STREAM)) for name in ("openai_images", "all_images")]
        waiting = await at.start(order("all_images"))
        for task in (canceled, running):
            await until(at, task, TaskStatus.RUNNING)
        await at.cancel(canceled.id)
        for task in (canceled, running, waiting):
            await change(at, task, created_at=task.created_at - timedelta(hours=1))
    async with node(studio, tmp_path, with_tables, without="all_images") as at:
        lasts = [(await ended(at, task))[-1].change for task in (running, waiting)]
        await eventually(lambda: unknown(at, running, waiting))
    async with node(studio, tmp_path, with_tables, without="openai_images") as at:

        async def left_alone() -> bool:
            return not (await row(at, canceled)).listening

        await eventually(left_alone)

    assert [told(last) for last in lasts] == [
        (FailureCode.INTERNAL, None, Transport.ACCEPTED),
        (FailureCode.INTERNAL, False, Transport.NOT_SENT),
    ]
    assert await studio.charges(waiting.id) == 0


async def unknown(at: Darkroom, *tasks: TaskRecord) -> bool:
    """Whether the engine will never run any of these tasks, also where it has their queue."""
    known = await at._engine._open_client.list_workflows_async(workflow_ids=[task.id for task in tasks])
    return not [one for one in known if one.status in ("ENQUEUED", "PENDING")]
