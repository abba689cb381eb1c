"""The simulated vendor on a real socket, with a clock that moves when a test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from pydantic import JsonValue

from providers.all_images.simulator import simulator
from providers.sandbox.ledger import Charge, Ledger
from tests.serving import serving

STEP = 1.0
"""Seconds of the simulated clock between two stages of a generation (the pace is twice that)."""


@dataclass
class Clock:
    """Time for a simulated vendor."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def stages(self, count: int) -> None:
        """Let `count` stages of a generation go by."""
        self.now += count * STEP + STEP / 1000


@dataclass(frozen=True)
class Vendor:
    """One simulated account: `url` is where its simulator is served, `http` asks it directly."""

    url: str
    ledger: Ledger
    http: httpx.AsyncClient
    clock: Clock = field(default_factory=Clock)

    async def charges(self, reference: str) -> tuple[list[Charge], list[Charge]]:
        """What was billed for a task: generations, and pictures that were bought."""
        found = await self.ledger.charges(reference)
        bought = [charge for charge in found if charge.submission.startswith("image:")]
        return [charge for charge in found if charge not in bought], bought

    async def script(self, operation: str, *scripts: dict[str, JsonValue]) -> None:
        """What the next requests of that operation meet."""
        answer = await self.http.put(f"/script/{operation}", json=list(scripts))
        assert answer.status_code == 200, answer.text


@asynccontextmanager
async def simulated(ledger: Ledger, **options: object) -> AsyncIterator[Vendor]:
    """Serve a simulator with these options, and with a clock that the test moves."""
    clock = Clock()
    async with (
        serving(simulator(ledger, clock=clock, **options)) as url,  # type: ignore[arg-type]
        httpx.AsyncClient(base_url=url, headers={"api-key": "any"}) as client,
    ):
        yield Vendor(url, ledger, client, clock)
    ledger.close()


@pytest.fixture(scope="module")
async def vendor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Vendor]:
    """Everything is done at once (pace 0). One for a whole test file, so tell tasks apart by their reference."""
    async with simulated(Ledger(tmp_path_factory.mktemp("vendor") / "ledger.db"), pace=0) as each:
        yield each


@pytest.fixture
async def slow(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Vendor]:
    """A vendor whose generations get on only when the test moves its clock."""
    async with simulated(Ledger(tmp_path_factory.mktemp("slow") / "ledger.db"), pace=2 * STEP) as each:
        yield each
