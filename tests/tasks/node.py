"""Whole Darkrooms in the loop of the test, without HTTP before them, and one vendor that outlives them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from providers.registry import PROVIDERS, AnyDefinition
from providers.sandbox.app import sandbox
from providers.sandbox.ledger import Ledger
from tasks.darkroom import Darkroom
from tasks.events import Change, TaskEvent
from tasks.records import DEFAULT_PROJECT, ImageRecord, TaskRecord
from tasks.settings import TaskSettings
from tasks.start import NewTask
from tests.providers.tiny import DEFINITION as TINY
from tests.serving import serving

SAMPLES: dict[str, dict[str, Any]] = {
    "openai_images": {"model": "gpt-image-2", "size": "1024x640", "output_format": "jpeg"},
    "placewise": {"image_size": "thumbnail"},
    "all_images": {"mode": "simple", "name": "sample"},
    "tiny": {"side": 8},
}
DEFINITIONS: Sequence[AnyDefinition] = (*PROVIDERS, cast(AnyDefinition, TINY))


SECONDS = 30
"""How long anything is waited for: what never happens fails the test."""


@dataclass(frozen=True)
class Vendor:
    """All simulators, on a socket of their own."""

    url: str
    ledger: Ledger

    async def charges(self, task_id: str) -> int:
        """How often the generation of a task was paid for; bought pictures are charges of their own."""
        return len([one for one in await self.ledger.charges(task_id) if not one.submission.startswith("image:")])


@asynccontextmanager
async def vendor(folder: Path) -> AsyncIterator[Vendor]:
    """Serve them until the block ends."""
    ledger = Ledger(folder / "sandbox" / "ledger.db")
    async with serving(sandbox({one.name: one.simulator(ledger) for one in DEFINITIONS}, ledger)) as url:
        yield Vendor(url, ledger)
    ledger.close()


def darkroom(
    vendor: Vendor, home: Path, database_url: str, *, works: bool = True, without: str | None = None, **settings: Any
) -> Darkroom:
    """One that has not been opened yet, `without` one of the providers. `settings` are fields of `TaskSettings`."""
    return Darkroom(
        TaskSettings(**{"home": home, "database_url": database_url, "shutdown_seconds": 0, **settings}),
        [one for one in DEFINITIONS if one.name != without],
        sandbox_url=vendor.url,
        public_url=None,
        base_url=vendor.url,
        works=works,
    )


@asynccontextmanager
async def node(
    vendor: Vendor, home: Path, database_url: str, *, works: bool = True, **settings: Any
) -> AsyncIterator[Darkroom]:
    """One that is open until the block ends."""
    made = darkroom(vendor, home, database_url, works=works, **settings)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def order(
    provider: str, prompt: str = "A quiet lake", *, key: str | None = None, project: str = DEFAULT_PROJECT, **given: Any
) -> NewTask:
    """A task to start; `given` are parameters of its request."""
    definition = next(one for one in DEFINITIONS if one.name == provider)
    request = definition.request.model_validate({"prompt": prompt, **SAMPLES[provider], **given})
    return NewTask(provider=provider, request=request, sandbox=True, idempotency_key=key, project=project)


async def until(at: Darkroom, task: TaskRecord, kind: type[Change] | str) -> TaskEvent:
    """Watch a task up to the first event of a kind, or to the first change to a status, and leave."""
    async with asyncio.timeout(SECONDS), aclosing(at.watch(task.id)) as events:
        async for event in events:
            if kind in (type(event.change), getattr(event.change, "status", None)):
                return event
    raise AssertionError(f"the task ended without {kind}")


async def ended(at: Darkroom, task: TaskRecord) -> list[TaskEvent]:
    """The events of a task, to its end."""
    async with asyncio.timeout(SECONDS), aclosing(at.watch(task.id)) as events:
        seen = [event async for event in events]
    assert [event.sequence for event in seen] == list(range(1, len(seen) + 1))
    return seen


async def pictures(at: Darkroom, task: TaskRecord) -> list[ImageRecord]:
    """All pictures of a task."""
    return (await at.history.images_of([task.id]))[task.id]
