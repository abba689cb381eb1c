"""The adapter against the simulated vendor: whatever goes wrong, one task is one generation that is paid once."""

from __future__ import annotations

import uuid
from contextlib import aclosing

import pytest
from pydantic import JsonValue

from providers import all_images
from providers.contract import Accepted, CancelOutcome, FinalImage, ProviderEvent, Submission
from providers.errors import (
    BadResponseError,
    InvalidRequestError,
    OutcomeUnknownError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitedError,
    ResultUnavailableError,
    Transport,
    UnauthorizedError,
    UnavailableError,
)
from providers.sandbox.ledger import Ledger
from tests.providers.all_images.account import Outcome, account, kinds, request, run
from tests.providers.all_images.conftest import Vendor, simulated

pytestmark = pytest.mark.anyio


async def made(vendor: Vendor, script: str = "", **parameters: object) -> tuple[Outcome, int]:
    """What came of it, and for how many generations the vendor charged."""
    reference = uuid.uuid4().hex
    directive = f" [[sandbox: {script}]]" if script else ""
    asked = request(**{"prompt": f"a red fox{directive}", **parameters})
    outcome = await run(account(vendor.url), asked, reference=reference)
    generations, _ = await vendor.charges(reference)
    assert len(generations) <= 1
    return outcome, len(generations)


async def test_it_works_out_of_the_box(vendor: Vendor) -> None:
    provider = all_images.connect(vendor.url)
    assert provider.sandbox
    outcome = await run(provider, reference=uuid.uuid4().hex)
    assert outcome.error is None
    assert kinds(outcome)[0] == "Accepted"
    assert len(outcome.finals) == 4
    assert len({final.data for final in outcome.finals}) == 4


async def test_everything_that_can_be_asked_for_is_accepted(vendor: Vendor) -> None:
    outcome, charged = await made(
        vendor,
        optimize_prompt=True,
        additional_prompt="in front",
        template_prompt="realisticManuel",
        format="9:16",
        weather="rainy",
        time="golden hour",
        camera="GoPro",
        chaos=100,
        stylize=1000,
        interdiction=["hands", "word"],
        sujet_mode="a",
        angle="b",
        photographe="c",
        version="d",
        from_image_url="e",
        process_mode="relax",
        tags=["t"],
        meta_data={"k": "v"},
    )
    assert outcome.error is None
    assert charged == 1
    outcome, _ = await made(vendor, mode="advanced", prompt="a fox --ar 16:9 --chaos 3", process_mode="fast")
    assert outcome.error is None


async def test_four_pictures_appear_one_by_one(slow: Vendor) -> None:
    """The vendor's clock only moves when the test has seen what there is to see."""
    seen: list[int] = []
    provider = account(slow.url)
    async with aclosing(provider.run(request(), reference="r")) as events:
        async for event in events:
            if isinstance(event, Accepted):
                slow.clock.stages(3)  # the first picture
            elif isinstance(event, FinalImage):
                seen.append(event.index)
                listed = (await slow.http.get("/image-generations", params={"tag": "darkroom:r"})).json()
                assert listed["prints"][0]["nbImages"] == len(seen)
                slow.clock.stages(1)
    await provider.aclose()
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("script", "error", "transport", "billed", "charged"),
    [
        ("status=400", InvalidRequestError, Transport.ACCEPTED, False, 0),
        ('status=400 message="prompt must be a string;mode is odd"', InvalidRequestError, Transport.ACCEPTED, False, 0),
        ("status=401", UnauthorizedError, Transport.ACCEPTED, False, 0),
        ("status=402", QuotaExhaustedError, Transport.ACCEPTED, False, 0),
        ("status=404 error_shape=html", BadResponseError, Transport.ACCEPTED, False, 0),
        ("status=429 retry_after=7", RateLimitedError, Transport.ACCEPTED, False, 0),
        ("status=500", UnavailableError, Transport.PERHAPS_SENT, None, 0),
        ("status=503 error_shape=empty", UnavailableError, Transport.PERHAPS_SENT, None, 0),
        ("lose=request", OutcomeUnknownError, Transport.PERHAPS_SENT, None, 0),
        ("refuse=input", UnavailableError, Transport.ACCEPTED, None, 0),
        ("refuse=output", UnavailableError, Transport.ACCEPTED, None, 1),
        ("error_after=2", UnavailableError, Transport.ACCEPTED, None, 1),
        ("no_final", BadResponseError, Transport.ACCEPTED, None, 1),
        ("expired", ResultUnavailableError, Transport.ACCEPTED, True, 1),
    ],
)
async def test_a_fault_is_what_it_is_and_never_costs_twice(
    vendor: Vendor,
    script: str,
    error: type[ProviderError],
    transport: Transport,
    billed: bool | None,
    charged: int,
) -> None:
    outcome, paid = await made(vendor, script)
    failure = outcome.failure()
    assert isinstance(failure, error)
    assert (failure.transport, failure.billed) == (transport, billed)
    assert paid == charged
    assert len(outcome.finals) == (2 if "error_after" in script else 0)
    if failure.billed is not None:
        assert failure.billed == (paid > 0), "what is claimed about the bill is what the vendor's books say"
    if "retry_after" in script:
        assert failure.retry_after == 7


@pytest.mark.parametrize("script", ["lose=response", "cut_inside"])
async def test_a_lost_answer_loses_nothing_and_costs_once(vendor: Vendor, script: str) -> None:
    outcome, charged = await made(vendor, script)
    assert outcome.error is None
    assert len(outcome.finals) == 4
    assert charged == 1


async def test_a_lost_answer_is_found_although_the_list_ignores_its_filter(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("books") / "ledger.db")
    async with simulated(ledger, pace=0, ignore_tags=True) as vendor:
        for _ in range(3):
            await made(vendor)
        outcome, charged = await made(vendor, "lose=response")
        assert outcome.error is None
        assert charged == 1
        assert len(await ledger.charges()) == 4


@pytest.mark.parametrize(
    "script", ["extra_fields", "omit_fields", "extra_fields omit_fields duplicate final_first", "pause=0"]
)
async def test_however_it_is_told_the_pictures_are_the_same(vendor: Vendor, script: str) -> None:
    plain, _ = await made(vendor)
    outcome, _ = await made(vendor, script)
    assert outcome.error is None
    assert [final.data for final in outcome.finals] == [final.data for final in plain.finals]


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429, "retry_after": 0}, {"lose": "response"},
                                   {"lose": "request"}, {"cut_inside": True}])  # fmt: skip
async def test_watching_survives_what_passes(vendor: Vendor, fault: dict[str, JsonValue]) -> None:
    await vendor.script("read", fault, fault, fault)
    outcome, charged = await made(vendor)
    assert outcome.error is None
    assert len(outcome.finals) == 4
    assert charged == 1


async def test_after_a_crash_inside_the_creation_it_is_found_and_goes_on(slow: Vendor) -> None:
    provider = account(slow.url)
    assert await provider.find("r") is None
    accepted: Submission | None = None
    async with aclosing(provider.run(request(), reference="r")) as events:
        async for event in events:
            assert isinstance(event, Accepted)
            accepted = event.submission
            break  # the crash
    found = await provider.find("r")
    assert found == accepted
    slow.clock.stages(7)
    outcome = await run(provider, reference="r", resume=found)
    assert len(outcome.finals) == 4
    assert len(await slow.ledger.charges()) == 1


async def test_a_failed_generation_is_retried_in_place(vendor: Vendor) -> None:
    outcome, charged = await made(vendor, "refuse=input")
    assert charged == 0
    (accepted,) = [event for event in outcome.events if isinstance(event, Accepted)]
    reference = str(accepted.submission.state["reference"])
    provider = account(vendor.url)
    again = await provider.retry(accepted.submission, request(prompt="a blue fox", weather="snowy"))
    assert again.id == accepted.submission.id
    told = (await vendor.http.get(f"/image-generations/{again.id}")).json()
    assert told["prompt"] == "a blue fox"
    assert told["metaData"] == {"darkroom_reference": reference}
    outcome = await run(account(vendor.url), request(prompt="a blue fox"), reference=reference, resume=again)
    assert outcome.error is None
    assert len(outcome.finals) == 4
    assert len((await vendor.charges(reference))[0]) == 1
    with pytest.raises(InvalidRequestError, match="in error can be retried"):
        await provider.retry(again, request())
    await provider.aclose()


async def test_a_generation_in_progress_cannot_be_retried(slow: Vendor) -> None:
    provider = account(slow.url)
    async with aclosing(provider.run(request(), reference="r")) as events:
        accepted = await anext(events)
        assert isinstance(accepted, Accepted)
        slow.clock.stages(2)
        with pytest.raises(InvalidRequestError, match="pending or in progress"):
            await provider.retry(accepted.submission, request())
        assert await provider.cancel(accepted.submission) is CancelOutcome.ABANDONED
        slow.clock.stages(5)
        assert await provider.cancel(accepted.submission) is CancelOutcome.TOO_LATE
    await provider.aclose()


async def test_a_deleted_generation_is_gone_and_deleting_it_again_is_fine(vendor: Vendor) -> None:
    outcome, _ = await made(vendor)
    (accepted,) = [event for event in outcome.events if isinstance(event, Accepted)]
    provider = account(vendor.url)
    await provider.delete(accepted.submission)
    await provider.delete(accepted.submission)
    assert (await vendor.http.get(f"/image-generations/{accepted.submission.id}")).status_code == 404
    with pytest.raises(ResultUnavailableError):
        await provider.purchase(str(outcome.finals[0].provider_image_id))
    await provider.aclose()
    gone = await run(account(vendor.url), reference="r", resume=accepted.submission)
    assert isinstance(gone.failure(), ResultUnavailableError)


async def test_health_tells_the_credits_as_they_go_down(vendor: Vendor) -> None:
    async def left() -> dict[str, float | None]:
        provider = account(vendor.url)
        health = await provider.health()
        await provider.aclose()
        assert health is not None
        assert health.usable
        return {credit.kind: credit.left for credit in health.credits}

    before = await left()
    await made(vendor, purchase=True)
    after = await left()
    assert (before["f_images_print"], before["f_images"]) == (
        (after["f_images_print"] or 0) + 1,
        (after["f_images"] or 0) + 4,
    )


async def test_a_key_that_is_refused_and_an_account_without_credits(vendor: Vendor) -> None:
    failure = (await run(account(vendor.url, api_key="sandbox-invalid"))).failure()
    assert isinstance(failure, UnauthorizedError)
    failure = (await run(account(vendor.url, api_key="sandbox-no-credits"))).failure()
    assert isinstance(failure, QuotaExhaustedError)


async def test_events_follow_the_contract(vendor: Vendor) -> None:
    """Accepted first, pictures numbered from 0 without a gap, nothing after the end."""
    provider = all_images.connect(vendor.url)
    events: list[ProviderEvent] = []
    async with aclosing(provider.run(request(stylize=500), reference=uuid.uuid4().hex)) as stream:
        async for event in stream:
            events.append(event)
    await provider.aclose()
    assert isinstance(events[0], Accepted)
    assert sorted(event.index for event in events if isinstance(event, FinalImage)) == [0, 1, 2, 3]
    assert all_images.DEFINITION.expected_images(request()) == provider.capabilities.max_images == 4
