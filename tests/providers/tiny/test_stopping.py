"""The one provider that can really be stopped: what the rest of Darkroom may expect of one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from providers.contract import Accepted, CancelOutcome, FinalImage, Submission
from providers.errors import Transport, TruncatedError
from providers.sandbox.ledger import Ledger
from tests.providers.tiny.adapter import Tiny
from tests.providers.tiny.request import TinyRequest
from tests.providers.tiny.simulator import simulator
from tests.serving import serving

pytestmark = pytest.mark.anyio


@pytest.fixture
async def tiny(tmp_path: Path) -> AsyncIterator[Tiny]:
    ledger = Ledger(tmp_path / "ledger.db")
    async with serving(simulator(ledger)) as url:
        provider = Tiny(url)
        yield provider
        await provider.aclose()
    ledger.close()


async def test_what_is_stopped_ends_without_a_picture(tiny: Tiny) -> None:
    async with aclosing(tiny.run(TinyRequest(prompt="a square", seconds=50), reference="task")) as events:
        accepted = await anext(events)
        assert isinstance(accepted, Accepted)
        assert await tiny.cancel(accepted.submission) is CancelOutcome.STOPPED
        with pytest.raises(TruncatedError) as ended:
            await anext(events)

    assert (ended.value.transport, ended.value.billed) == (Transport.ACCEPTED, None)
    assert await tiny.cancel(accepted.submission) is CancelOutcome.TOO_LATE, "it is over"


async def test_what_is_done_cannot_be_stopped(tiny: Tiny) -> None:
    async with aclosing(tiny.run(TinyRequest(prompt="a square"), reference="task")) as events:
        accepted, picture = [event async for event in events]
    assert isinstance(accepted, Accepted)
    assert isinstance(picture, FinalImage)
    assert await tiny.cancel(accepted.submission) is CancelOutcome.TOO_LATE


async def test_a_provider_that_cannot_be_asked_has_not_stopped() -> None:
    nobody = Tiny("http://127.0.0.1:1")
    assert await nobody.cancel(Submission("1")) is CancelOutcome.ABANDONED
    await nobody.aclose()
