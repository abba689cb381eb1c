"""The simulated vendor on a real socket, and the vendor's own client pointed at it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import openai
import pytest

from providers.openai_images.simulator import simulator
from providers.sandbox.ledger import Ledger
from tests.serving import serving


@dataclass(frozen=True)
class Vendor:
    """One simulated account: `url` is where its simulator is served, `client` is the official one."""

    url: str
    ledger: Ledger
    client: openai.AsyncOpenAI


@pytest.fixture(scope="module")
async def vendor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Vendor]:
    """Answers at once (pace 0). One for a whole test file, so tell requests apart by their reference."""
    ledger = Ledger(tmp_path_factory.mktemp("vendor") / "ledger.db")
    async with (
        serving(simulator(ledger, pace=0)) as url,
        openai.AsyncOpenAI(api_key="any", base_url=f"{url}/v1", max_retries=0) as client,
    ):
        yield Vendor(url, ledger, client)
    ledger.close()
