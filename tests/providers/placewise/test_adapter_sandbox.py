"""The adapter against the simulated vendor: whatever the fault script does, one request is one charge at most."""

from __future__ import annotations

import io
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image
from pydantic import JsonValue

from providers.contract import Callback, Submission
from providers.errors import (
    InvalidRequestError,
    OutcomeUnknownError,
    ProviderError,
    RateLimitedError,
    RefusedError,
    ResultUnavailableError,
    TimedOutError,
    Transport,
    TruncatedError,
    UnauthorizedError,
    UnavailableError,
)
from providers.placewise.adapter import Placewise
from providers.placewise.request import PlacewiseImageSize
from providers.placewise.settings import PlacewiseSettings
from providers.placewise.simulator import simulator
from providers.placewise.simulator_results import PushAs
from providers.sandbox.ledger import Ledger
from tests.providers.placewise.account import Outcome, kinds_of, listening, request, run
from tests.providers.placewise.conftest import Vendor
from tests.serving import serving

pytestmark = pytest.mark.anyio

QUICK: Mapping[str, object] = {"poll_interval_seconds": 0.005, "deadline_seconds": 5, "doubt_seconds": 0}


def sandbox(vendor: Vendor, **settings: object) -> Placewise:
    values = PlacewiseSettings.model_validate({**QUICK, **settings})
    return Placewise(values, base_url=vendor.url, sandbox=True)


async def made(
    vendor: Vendor, script: str = "", *, callback: Callback | None = None, settings: Mapping[str, object] | None = None
) -> tuple[Outcome, int]:
    """What came of it, and how many pictures the vendor charged for."""
    reference = uuid.uuid4().hex
    asked = request(prompt=f"a red fox [[sandbox: {script}]]" if script else "a red fox", random_seed=7)
    outcome = await run(sandbox(vendor, **(settings or {})), asked, reference=reference, callback=callback)
    charges = [charge for charge in await vendor.ledger.charges() if charge.reference == reference]
    assert len(charges) <= 1
    return outcome, len(charges)


@pytest.mark.parametrize("encoding", ["multipart", "json"])
async def test_a_picture_is_made_and_fetched(vendor: Vendor, encoding: str) -> None:
    outcome, charged = await made(vendor, settings={"encoding": encoding})
    assert outcome.error is None
    assert charged == 1
    assert kinds_of(outcome) == ["Accepted", "Progress", "FinalImage"]
    with Image.open(io.BytesIO(outcome.finals[0])) as image:
        assert image.size == (256, 256)


async def test_its_states_are_told_as_they_come(vendor: Vendor) -> None:
    outcome, _ = await made(vendor, "pause=0.05")
    in_order = ["waiting", "working", "finished"]
    assert outcome.states == [state for state in in_order if state in outcome.states]
    assert outcome.states[-1] == "finished"


@pytest.mark.parametrize("script", ["extra_fields", "omit_fields", "chunk=3", "padding=100000", "url"])
async def test_however_it_is_told_the_picture_is_the_same(vendor: Vendor, script: str) -> None:
    plain, _ = await made(vendor)
    outcome, charged = await made(vendor, script)
    assert outcome.error is None
    assert outcome.finals == plain.finals
    assert charged == 1


async def test_without_a_channel_it_ends_with_its_id(vendor: Vendor) -> None:
    outcome, charged = await made(vendor, settings={"results": "none"})
    assert outcome.error is None
    assert kinds_of(outcome) == ["Accepted"]
    assert charged == 1


@pytest.mark.parametrize(
    ("script", "error", "transport", "billed", "charged"),
    [
        ("status=400", InvalidRequestError, Transport.ACCEPTED, False, 0),
        ("status=401", UnauthorizedError, Transport.ACCEPTED, False, 0),
        ("status=402 error_shape=empty", UnauthorizedError, Transport.ACCEPTED, False, 0),
        ("status=403", UnauthorizedError, Transport.ACCEPTED, False, 0),
        ("status=405", InvalidRequestError, Transport.ACCEPTED, False, 0),
        ("status=422", InvalidRequestError, Transport.ACCEPTED, False, 0),
        ("status=422 code=blank", InvalidRequestError, Transport.ACCEPTED, False, 0),
        ("status=429 retry_after=7", RateLimitedError, Transport.ACCEPTED, False, 0),
        ("status=444 error_shape=html", RefusedError, Transport.ACCEPTED, False, 0),
        ("refuse=input", RefusedError, Transport.ACCEPTED, False, 0),
        ("status=460", UnauthorizedError, Transport.ACCEPTED, False, 0),
        ("status=470", UnauthorizedError, Transport.ACCEPTED, False, 0),
        ("status=471", UnauthorizedError, Transport.ACCEPTED, False, 0),
        ("status=500", UnavailableError, Transport.PERHAPS_SENT, None, 0),
        ("status=503 error_shape=html", UnavailableError, Transport.PERHAPS_SENT, None, 0),
        ("lose=request", OutcomeUnknownError, Transport.PERHAPS_SENT, None, 0),
        ("lose=response", OutcomeUnknownError, Transport.PERHAPS_SENT, None, 1),
        ("cut_after=0", OutcomeUnknownError, Transport.ACCEPTED, None, 1),
        ("cut_inside", OutcomeUnknownError, Transport.ACCEPTED, None, 1),
        ("error_after=0", UnavailableError, Transport.ACCEPTED, None, 1),
        ("error_after=2 message='no paint'", UnavailableError, Transport.ACCEPTED, None, 1),
        ("refuse=output", UnavailableError, Transport.ACCEPTED, None, 1),
        ("no_final", ProviderError, Transport.ACCEPTED, None, 1),
        ("expired", ResultUnavailableError, Transport.ACCEPTED, True, 1),
        ("truncate=0", TruncatedError, Transport.ACCEPTED, True, 1),
        ("pause=600", TimedOutError, Transport.ACCEPTED, None, 1),
    ],
)
async def test_a_fault_is_what_it_is_and_never_costs_twice(
    vendor: Vendor, script: str, error: type[ProviderError], transport: Transport, billed: bool | None, charged: int
) -> None:
    outcome, paid = await made(vendor, script, settings={"deadline_seconds": 0.5 if billed is None else 30})
    failure = outcome.failure()
    assert isinstance(failure, error)
    assert (failure.transport, failure.billed) == (transport, billed)
    assert paid == charged
    assert outcome.finals == []
    if failure.billed is not None:
        assert failure.billed == (paid > 0), "what is claimed about the bill is what the vendor's books say"
    assert ("Accepted" in kinds_of(outcome)) == (charged == 1 and not script.startswith(("lose", "cut"))), (
        "a task is accepted exactly when its id is known"
    )


async def test_what_the_rules_leave_to_the_vendor_the_vendor_refuses(vendor: Vendor) -> None:
    asked = request().model_copy(update={"image_size": PlacewiseImageSize.SMALL})
    failure = (await run(sandbox(vendor), asked)).failure()
    assert isinstance(failure, InvalidRequestError)
    assert failure.parameter == "image_size"
    assert "in: thumbnail | medium" in failure.message


@pytest.mark.parametrize(
    "scripts",
    [
        [
            {"status": 503},
            {"status": 429, "retry_after": 0},
            {"lose": "request"},
            {"status": 502, "error_shape": "html"},
        ],
        [{"status": 404}, {"status": 404, "error_shape": "empty"}],
    ],
)
async def test_questions_that_fail_cost_nothing_but_time(vendor: Vendor, scripts: list[JsonValue]) -> None:
    async with httpx.AsyncClient(base_url=vendor.url, trust_env=False) as client:
        await client.put("/script/results", json=scripts)
        outcome, charged = await made(vendor)
        assert (await client.get("/script/results")).json() == []
    assert outcome.error is None
    assert len(outcome.finals) == charged == 1


async def test_after_a_kill_the_task_is_watched_again_and_nothing_is_posted(vendor: Vendor) -> None:
    reference = uuid.uuid4().hex
    first = sandbox(vendor)
    events = first.run(request(prompt="a red fox [[sandbox: pause=0.03]]"), reference=reference)
    accepted = await anext(events)
    await events.aclose()  # as far as the vendor can tell, this is what a kill looks like
    await first.aclose()
    submission = getattr(accepted, "submission", None)
    assert isinstance(submission, Submission)
    for _ in range(3):
        again = await run(sandbox(vendor), reference=reference, resume=submission)
        assert again.error is None
        assert len(again.finals) == 1
    assert len(await vendor.ledger.charges(reference)) == 1


@asynccontextmanager
async def reporting(tmp_path: Path, push_as: PushAs) -> AsyncIterator[Vendor]:
    """A vendor that sends results. Listen around it: whoever stops listening first leaves it talking to a wall."""
    ledger = Ledger(tmp_path / "ledger.db")
    async with serving(simulator(ledger, pace=0.01, assumed_results=True, push_as=push_as)) as url:
        yield Vendor(url, ledger)
    ledger.close()


@pytest.mark.parametrize("push_as", ["link", "base64", "picture"])
@pytest.mark.parametrize("script", ["", "duplicate", "final_first", "duplicate final_first extra_fields"])
async def test_a_result_is_sent_to_the_callback(tmp_path: Path, push_as: PushAs, script: str) -> None:
    async with listening() as listener, reporting(tmp_path, push_as) as vendor:
        outcome, charged = await made(vendor, script, callback=listener, settings={"results": "push"})
    assert outcome.error is None
    assert len(outcome.finals) == charged == 1
    with Image.open(io.BytesIO(outcome.finals[0])) as image:
        assert image.size == (256, 256)
    if "final_first" not in script:
        assert outcome.states[0] == "working"


async def test_a_failure_is_sent_to_the_callback(tmp_path: Path) -> None:
    async with listening() as listener, reporting(tmp_path, "link") as vendor:
        settings: dict[str, object] = {"results": "push"}
        outcome, charged = await made(vendor, "refuse=output message=Oops", callback=listener, settings=settings)
    assert "Oops" in outcome.failure().message
    assert charged == 1


async def test_what_was_sent_during_a_restart_is_heard_afterwards(tmp_path: Path) -> None:
    async with listening() as listener, reporting(tmp_path, "link") as vendor:
        first = sandbox(vendor, results="push")
        events = first.run(request(), reference="r", callback=listener)
        accepted = await anext(events)
        await events.aclose()
        await first.aclose()
        while len(listener.arrived) < 2:
            listener.news.clear()
            await listener.news.wait()
        submission = getattr(accepted, "submission", None)
        outcome = await run(sandbox(vendor, results="push"), resume=submission, callback=listener)
        assert len(outcome.finals) == 1
        assert len(await vendor.ledger.charges()) == 1
