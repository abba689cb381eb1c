"""A run: what a provider says becomes rows, events and pictures, and every run comes to an end."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Mapping, Sequence

import pytest
from PIL import Image
from pydantic import BaseModel

from providers.contract import (
    Accepted,
    Callback,
    CancelOutcome,
    Capabilities,
    FinalImage,
    Health,
    PartialImage,
    Provider,
    ProviderDefinition,
    ProviderEvent,
    Submission,
)
from providers.limits import Limits
from providers.sandbox.ledger import Ledger
from tasks.accounts import Accounts
from tasks.arrivals import Arrivals
from tasks.callbacks import Callbacks
from tasks.cancel import Cancels
from tasks.clocks import Clocks
from tasks.ending import Ending
from tasks.events import Change, Failed, NoticeGiven, Succeeded
from tasks.images import ImageStore
from tasks.keeper import Keeper
from tasks.records import TaskRecord
from tasks.retries import Retries
from tasks.run import Run, Workplace
from tests.tasks.conftest import Shelf

pytestmark = pytest.mark.anyio


class Asked(BaseModel):
    n: int = 1


class Scripted:
    """A provider that says what a test wants it to say, and counts how often it was paid."""

    sandbox = True
    limits = Limits()
    capabilities = Capabilities(
        max_images=10,
        max_partial_images=3,
        resumable=False,
        findable=False,
        cancellable=False,
        delivers_images=True,
        reports_usage=False,
        reports_cost=False,
    )

    def __init__(self, events: Sequence[ProviderEvent]) -> None:
        self._events = events
        self.posts = 0

    async def run(
        self,
        request: Asked,
        *,
        reference: str,
        resume: Submission | None = None,
        callback: Callback | None = None,
        known: Mapping[str, int] | None = None,
    ) -> AsyncGenerator[ProviderEvent, None]:
        self.posts += resume is None
        for event in self._events:
            yield event

    async def find(self, reference: str) -> Submission | None:
        return None

    async def cancel(self, submission: Submission) -> CancelOutcome:
        return CancelOutcome.TOO_LATE

    async def health(self) -> Health | None:
        return None

    async def aclose(self) -> None:
        return None


def connect(_: str) -> Provider[Asked]:
    raise NotImplementedError("a run is given its provider")


def simulate(_: Ledger) -> None:
    raise NotImplementedError("a run needs no simulator")


def picture(colour: str = "red") -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(made, "PNG")
    return made.getvalue()


def workplace(shelf: Shelf, *, storage_patience: float = 0, images: ImageStore | None = None) -> Workplace:
    return Workplace(
        journal=shelf.journal,
        history=shelf.history,
        images=images or shelf.images,
        arrivals=Arrivals(shelf.images),
        callbacks=Callbacks(shelf.database, shelf.images, shelf.signals),
        cancels=Cancels(shelf.database, shelf.journal, shelf.signals),
        accounts=Accounts(shelf.database, shelf.signals, ["openai_images"]),
        clocks=Clocks(queue=60, generation=60, total=60),
        retries=Retries(attempts=3, seconds=0.01),
        storage_patience=storage_patience,
    )


async def run(
    shelf: Shelf, provider: Scripted, task: TaskRecord | None = None, n: int = 1, *, at: Workplace | None = None
) -> list[Change]:
    """Run a task of its own, or this one, to its end; the changes in its log."""
    task = task or await shelf.claimed()
    task.request = {"n": n}
    definition = ProviderDefinition(
        name="scripted",
        title="Scripted",
        description="",
        request=Asked,
        expected_images=lambda request: request.n,
        with_images=lambda request, count: Asked(n=count),
        settings=(),
        connect=connect,
        simulator=simulate,  # type: ignore[arg-type]
    )
    await Run(
        task,
        definition,  # type: ignore[arg-type]
        provider,  # type: ignore[arg-type]
        at or workplace(shelf),
        callback_base_url=None,
    ).to_the_end()
    _, events = await shelf.history.events(task.id, 0)
    return [event.change for event in events]


async def test_a_partial_image_that_cannot_be_kept_does_not_cost_the_final_one(shelf: Shelf) -> None:
    events: list[ProviderEvent] = [
        Accepted(Submission()),
        PartialImage(0, 0, b"\0\0\0 ftypavif"),
        FinalImage(0, picture()),
    ]
    changes = await run(shelf, Scripted(events))

    assert isinstance(changes[-1], Succeeded)
    assert [change for change in changes if isinstance(change, NoticeGiven)]


async def test_one_broken_picture_does_not_cost_the_others(shelf: Shelf) -> None:
    task = await shelf.claimed()
    finals = [FinalImage(0, b"no picture"), FinalImage(1, picture("blue")), FinalImage(2, picture("green"))]
    changes = await run(shelf, Scripted([Accepted(Submission()), *finals]), task, n=3)

    last = changes[-1]
    assert isinstance(last, Failed)
    assert "unrecognised/" in last.failure.message
    assert [image.index for image in (await shelf.history.images_of([task.id]))[task.id]] == [1, 2]


async def test_a_run_that_stopped_just_before_its_last_event_is_a_success_and_pays_nothing(shelf: Shelf) -> None:
    task = await shelf.claimed()
    first = Scripted([Accepted(Submission()), FinalImage(0, picture())])
    await shelf.journal.append(task, NoticeGiven("the server is about to die", None))

    async def die(*_: object, **__: object) -> None:
        raise ConnectionError("the database is away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ending, "finish", die)
        with pytest.raises(ConnectionError):
            await run(shelf, first, task)
    again = await shelf.journal.claim(task.id)
    assert again is not None
    second = Scripted([])
    changes = await run(shelf, second, again)

    assert isinstance(changes[-1], Succeeded)
    assert (first.posts, second.posts) == (1, 0)


async def test_a_second_run_of_a_stream_that_was_lost_never_posts(shelf: Shelf) -> None:
    task = await shelf.claimed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Keeper, "take", _die)
        with pytest.raises(ConnectionError):
            await run(shelf, Scripted([Accepted(Submission())]), task)
    again = await shelf.journal.claim(task.id)
    assert again is not None
    second = Scripted([Accepted(Submission()), FinalImage(0, picture())])
    changes = await run(shelf, second, again)

    last = changes[-1]
    assert isinstance(last, Failed)
    assert last.failure.code == "outcome_unknown"
    assert second.posts == 0


async def _die(*_: object) -> None:
    raise ConnectionError("the database is away")
