"""Canceling against everything that can happen at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from providers.contract import (
    Accepted,
    CancelOutcome,
    FinalImage,
    Progress,
    ProgressOrigin,
    ProviderEvent,
    Submission,
)
from providers.errors import OutcomeUnknownError, RateLimitedError, Transport, TruncatedError
from tasks.cancel import Cancels
from tasks.events import Canceled, CancelRequested, Change, Progressed, RetryScheduled, StatusChanged, Succeeded
from tasks.records import ImageRecord, TaskRecord
from tasks.retries import Retries
from tasks.run import Workplace
from tasks.status import TaskStatus
from tasks.watch import watch
from tests.tasks.conftest import Shelf
from tests.tasks.test_run import Scripted, picture, run, workplace

pytestmark = pytest.mark.anyio

SECONDS = 10


class Live(Scripted):
    """A provider whose test decides what happens, while it happens."""

    def __init__(self, *, cancellable: bool = False, resumable: bool = False) -> None:
        super().__init__([])
        self.capabilities = replace(Scripted.capabilities, cancellable=cancellable, resumable=resumable)
        self.started = asyncio.Event()
        self.canceling = asyncio.Event()
        self.outcome = CancelOutcome.ABANDONED
        self.told: asyncio.Queue[ProviderEvent | Exception | None] = asyncio.Queue()
        self.found: list[Submission | Exception | None] = []
        self.before_the_answer: Callable[[], Awaitable[None]] | None = None

    async def run(
        self, request: object, *, resume: Submission | None = None, **_: object
    ) -> AsyncGenerator[ProviderEvent, None]:
        self.posts += resume is None
        self.started.set()
        while (event := await self.told.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    async def cancel(self, submission: Submission) -> CancelOutcome:
        self.canceling.set()
        if self.before_the_answer is not None:
            await self.before_the_answer()
        return self.outcome

    async def find(self, reference: str) -> Submission | None:
        self.started.set()
        found = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        if isinstance(found, Exception):
            raise found
        return found

    def say(self, *events: ProviderEvent | Exception | None) -> None:
        """What comes next; None is the end."""
        for event in events:
            self.told.put_nowait(event)


ACCEPTED = Accepted(Submission("1"))
WORKING = Progress(0.5, ProgressOrigin.ESTIMATED)


async def until(shelf: Shelf, task: TaskRecord, kind: type[Change] | TaskStatus) -> None:
    """Wait for the first change of a kind, or to a status."""
    async with asyncio.timeout(SECONDS), aclosing(watched(shelf, task)) as changes:
        async for change in changes:
            if kind in (type(change), getattr(change, "status", None)):
                return
    raise AssertionError(f"the task ended without {kind}")


async def watched(shelf: Shelf, task: TaskRecord) -> AsyncGenerator[Change, None]:
    async with aclosing(watch(shelf.feed, shelf.history, task.id)) as events:
        async for event in events:
            yield event.change


def canceled(changes: list[Change]) -> tuple[str, bool | None, str]:
    """What the last change says that canceling achieved."""
    last = changes[-1]
    assert isinstance(last, Canceled), changes
    return last.cancellation.outcome.value, last.cancellation.billed, last.cancellation.transport.value


async def images(shelf: Shelf, task: TaskRecord) -> list[ImageRecord]:
    return (await shelf.history.images_of([task.id]))[task.id]


async def row(shelf: Shelf, task: TaskRecord) -> TaskRecord:
    found = await shelf.history.task(task.id)
    assert found is not None
    return found


def elsewhere(shelf: Shelf) -> Cancels:
    """Another node, whose hints nobody hears."""
    return Cancels(shelf.database, shelf.journal, shelf.signals)


def patient(shelf: Shelf) -> Workplace:
    return replace(workplace(shelf), retries=Retries(attempts=3, seconds=60))


async def test_a_stream_that_breaks_off_because_it_was_stopped_was_stopped(shelf: Shelf) -> None:
    task, at, provider = await shelf.claimed(), workplace(shelf), Live(cancellable=True)
    provider.outcome = CancelOutcome.STOPPED

    async def stream_ends_first() -> None:
        provider.say(TruncatedError("it was stopped", transport=Transport.ACCEPTED))
        for _ in range(50):
            await asyncio.sleep(0)

    provider.before_the_answer = stream_ends_first
    running = asyncio.create_task(run(shelf, provider, task, at=at))
    provider.say(ACCEPTED, WORKING)
    await until(shelf, task, Progressed)
    await at.cancels.request(task.id)

    assert canceled(await running) == ("stopped", None, "accepted")


async def test_what_is_accepted_after_the_click_is_stopped_as_well(shelf: Shelf) -> None:
    task, at, provider = await shelf.claimed(), workplace(shelf), Live(cancellable=True)
    provider.outcome = CancelOutcome.STOPPED
    running = asyncio.create_task(run(shelf, provider, task, at=at))
    await provider.started.wait()
    await at.cancels.request(task.id)
    provider.say(ACCEPTED)

    assert canceled(await running) == ("stopped", None, "accepted")
    assert provider.canceling.is_set()


async def test_what_arrived_whole_is_not_given_away_by_a_provider_that_says_it_stopped(shelf: Shelf) -> None:
    task, at, provider = await shelf.claimed(), workplace(shelf), Live(cancellable=True)
    provider.outcome = CancelOutcome.STOPPED

    async def picture_comes_first() -> None:
        provider.say(FinalImage(0, picture()), WORKING)
        await until(shelf, task, Progressed)
        provider.say(None)

    provider.before_the_answer = picture_comes_first
    running = asyncio.create_task(run(shelf, provider, task, at=at))
    provider.say(ACCEPTED)
    await until(shelf, task, TaskStatus.RUNNING)
    await at.cancels.request(task.id)

    assert isinstance((await running)[-1], Succeeded)
    assert ((await row(shelf, task)).cancellation or {})["outcome"] == "too_late"


@pytest.mark.parametrize("resumable", [False, True])
async def test_a_picture_that_comes_while_the_cancellation_is_recorded_is_kept(shelf: Shelf, resumable: bool) -> None:
    task, at, provider = await shelf.claimed(), workplace(shelf), Live(resumable=resumable)

    async def so_much_to_tell() -> None:
        provider.say(*[WORKING] * 40, FinalImage(0, picture()), None)
        await asyncio.sleep(0)

    provider.before_the_answer = so_much_to_tell
    running = asyncio.create_task(run(shelf, provider, task, at=at))
    provider.say(ACCEPTED)
    await until(shelf, task, TaskStatus.RUNNING)
    await at.cancels.request(task.id)

    assert canceled(await running) == ("abandoned", None, "accepted")
    assert [image.late for image in await images(shelf, task)] == [True]
    assert not (await row(shelf, task)).listening


async def test_what_is_turned_away_while_another_node_cancels_it_is_canceled_and_not_sent_again(shelf: Shelf) -> None:
    task, at, provider = await shelf.claimed(), patient(shelf), Live()
    running = asyncio.create_task(run(shelf, provider, task, at=at))
    await provider.started.wait()
    await elsewhere(shelf).request(task.id)
    provider.say(RateLimitedError("slow down", transport=Transport.ACCEPTED, billed=False, retry_after=30))
    await until(shelf, task, RetryScheduled)
    await at.cancels.look()
    changes = await asyncio.wait_for(running, SECONDS)

    assert canceled(changes) == ("never_sent", False, "not_sent")
    assert provider.posts == 1
    assert (await row(shelf, task)).retry_at is None


async def test_a_run_that_finds_its_waiting_task_unwanted_sends_nothing(shelf: Shelf) -> None:
    task, provider = await shelf.claimed(), Live()
    await shelf.journal.append(
        task, CancelRequested(), cancel_requested_at=datetime.now(UTC), transport=Transport.NOT_SENT.value
    )
    again = await shelf.journal.claim(task.id)
    assert again is not None

    assert canceled(await run(shelf, provider, again)) == ("never_sent", False, "not_sent")
    assert provider.posts == 0


async def test_a_wish_that_nobody_told_is_found_by_looking_and_a_second_click_tells_it_again(shelf: Shelf) -> None:
    for again in ("look", "click"):
        task, at, provider = await shelf.claimed(), workplace(shelf), Live(cancellable=True)
        provider.outcome = CancelOutcome.STOPPED
        running = asyncio.create_task(run(shelf, provider, task, at=at))
        provider.say(ACCEPTED)
        await until(shelf, task, TaskStatus.RUNNING)
        await elsewhere(shelf).request(task.id)
        assert not provider.canceling.is_set()
        await (at.cancels.look() if again == "look" else at.cancels.request(task.id))

        changes = await asyncio.wait_for(running, SECONDS)
        assert canceled(changes)[0] == "stopped"
        assert [type(change) for change in changes].count(CancelRequested) == 1


async def test_a_task_whose_provider_cannot_be_asked_is_canceled_at_once_and_its_pictures_are_kept(
    shelf: Shelf,
) -> None:
    task, at, provider = await shelf.claimed(), workplace(shelf), Live(resumable=True)
    provider.found = [OutcomeUnknownError("away", transport=Transport.PERHAPS_SENT)]
    lost = await shelf.journal.append(task, StatusChanged(TaskStatus.SUBMITTING), status=TaskStatus.SUBMITTING)
    again = await shelf.journal.claim(lost.id)
    assert again is not None
    running = asyncio.create_task(run(shelf, provider, again, at=at))
    await provider.started.wait()
    await at.cancels.request(task.id)
    await until(shelf, task, Canceled)
    provider.found = [Submission("1")]
    provider.say(FinalImage(0, picture()), None)

    assert canceled(await asyncio.wait_for(running, 30)) == ("abandoned", None, "perhaps_sent")
    assert [image.late for image in await images(shelf, task)] == [True]
    assert provider.posts == 0


async def test_two_runs_of_one_task_in_one_process_both_hear_of_it(shelf: Shelf) -> None:
    cancels = Cancels(shelf.database, shelf.journal, shelf.signals)
    task = await shelf.claimed()
    with cancels.wish(task.id) as newer:
        with cancels.wish(task.id) as older:
            pass
        await shelf.journal.append(task, StatusChanged(TaskStatus.RUNNING), status=TaskStatus.RUNNING)
        await cancels.request(task.id)
        assert newer.is_set()
        assert not older.is_set()
