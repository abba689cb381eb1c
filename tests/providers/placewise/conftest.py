"""The simulated vendor on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from providers.placewise.simulator import simulator
from providers.sandbox.ledger import Ledger
from tests.serving import serving


@dataclass(frozen=True)
class Vendor:
    """One simulated account: `url` is where its simulator is served."""

    url: str
    ledger: Ledger


@pytest.fixture(scope="module")
async def vendor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Vendor]:
    """Answers at once (pace 0) and offers the assumed way to results. One for a whole test file, so tell requests
    apart by their reference."""
    ledger = Ledger(tmp_path_factory.mktemp("placewise") / "ledger.db")
    async with serving(simulator(ledger, pace=0, assumed_results=True)) as url:
        yield Vendor(url, ledger)
    ledger.close()
