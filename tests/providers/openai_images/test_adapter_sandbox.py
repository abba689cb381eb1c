"""The adapter against the simulated vendor: whatever the fault script does, one request is one charge at most."""

from __future__ import annotations

import io
import uuid
from contextlib import aclosing

import pytest
from PIL import Image

from providers import openai_images
from providers.contract import FinalImage, ProviderEvent, Usage
from providers.errors import (
    BadResponseError,
    InvalidRequestError,
    OutcomeUnknownError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitedError,
    RefusedError,
    ResultUnavailableError,
    TimedOutError,
    Transport,
    TruncatedError,
    UnauthorizedError,
    UnavailableError,
)
from providers.openai_images.request import OpenAIImagesRequest
from tests.providers.openai_images.conftest import Vendor
from tests.providers.upstream import Outcome, account, kinds, request

pytestmark = pytest.mark.anyio


async def made(vendor: Vendor, asked: OpenAIImagesRequest) -> tuple[Outcome, int]:
    """What came of it, and how many pictures the vendor charged for."""
    reference = uuid.uuid4().hex
    provider = openai_images.connect(vendor.url)
    assert provider.sandbox
    events: list[ProviderEvent] = []
    error: ProviderError | None = None
    try:
        async with aclosing(provider.run(asked, reference=reference)) as stream:
            async for event in stream:
                events.append(event)
    except ProviderError as exc:
        error = exc
    finally:
        await provider.aclose()
    charges = [charge for charge in await vendor.ledger.charges() if charge.reference == reference]
    assert len(charges) <= 1
    return Outcome(events, error), sum(charge.images for charge in charges)


def scripted(script: str, **parameters: object) -> OpenAIImagesRequest:
    return request(prompt=f"a red fox [[sandbox: {script}]]", size="1024x1024", **parameters)


async def test_a_picture_develops(vendor: Vendor) -> None:
    outcome, charged = await made(vendor, request(partial_images=3, quality="low", output_format="webp"))
    assert outcome.error is None
    assert charged == 1
    assert [place[:2] for place in outcome.partials] == [(0, 0), (0, 1), (0, 2)]
    (final,) = [event for event in outcome.events if isinstance(event, FinalImage)]
    assert final.effective.quality == "low"
    assert final.effective.output_format == "webp"
    for data in (final.data, *(stage for _, _, stage in outcome.partials)):
        with Image.open(io.BytesIO(data)) as image:
            assert f"{image.width}x{image.height}" == final.effective.size
            assert image.format == "WEBP"
    (usage,) = [event for event in outcome.events if isinstance(event, Usage)]
    assert usage.input_tokens is not None
    assert usage.output_tokens is not None
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


@pytest.mark.parametrize(
    "script",
    [
        "duplicate",
        "crlf",
        "done",
        "keepalive",
        "extra_fields",
        "omit_fields",
        "chunk=1000",
        "partials=1",
        "final_first",
        "answer_json",
        "url",
        "url answer_json",
        "sequential",
        "duplicate crlf done keepalive extra_fields omit_fields chunk=4096 sequential",
    ],
)
@pytest.mark.parametrize("n", [1, 2])
async def test_however_it_is_told_the_pictures_are_the_same(vendor: Vendor, script: str, n: int) -> None:
    plain, _ = await made(vendor, scripted("seed=0", n=n, partial_images=2))
    outcome, charged = await made(vendor, scripted(script, n=n, partial_images=2))
    assert outcome.error is None
    assert outcome.finals == plain.finals
    assert len(set(outcome.finals)) == n
    assert charged == n
    if "url" not in script:  # the simulated store has no links to stages, only to finished pictures
        assert set(outcome.partials) <= set(plain.partials)


async def test_several_pictures_without_a_stream(vendor: Vendor) -> None:
    outcome, charged = await made(vendor, request(n=3))
    assert outcome.error is None
    assert len(set(outcome.finals)) == charged == 3


@pytest.mark.parametrize("response_format", ["url", "b64_json", None])
async def test_dall_e_hands_over_its_picture_either_way(vendor: Vendor, response_format: str | None) -> None:
    outcome, _ = await made(vendor, request(model="dall-e-3", response_format=response_format, style="natural"))
    assert outcome.error is None
    (final,) = [event for event in outcome.events if isinstance(event, FinalImage)]
    assert final.effective.revised_prompt


async def test_an_event_of_64_mib_and_more(vendor: Vendor) -> None:
    outcome, _ = await made(vendor, scripted(f"padding={66 * 1024 * 1024}", stream=True))
    assert outcome.error is None
    assert kinds(outcome.events) == ["Accepted", "FinalImage", "Usage"]


@pytest.mark.parametrize(
    ("script", "error", "transport", "billed", "charged"),
    [
        ("status=400", InvalidRequestError, Transport.ACCEPTED, False, 0),
        ("status=401", UnauthorizedError, Transport.ACCEPTED, False, 0),
        ("status=403 error_shape=truefoundry", UnauthorizedError, Transport.ACCEPTED, False, 0),
        ("status=404", InvalidRequestError, Transport.ACCEPTED, False, 0),
        ("status=404 error_shape=html", BadResponseError, Transport.ACCEPTED, False, 0),
        ("status=408", TimedOutError, Transport.PERHAPS_SENT, None, 0),
        ("status=409 error_shape=empty", UnavailableError, Transport.ACCEPTED, False, 0),
        ("status=429 retry_after=7", RateLimitedError, Transport.ACCEPTED, False, 0),
        ("status=429 code=insufficient_quota", QuotaExhaustedError, Transport.ACCEPTED, False, 0),
        ("status=500", UnavailableError, Transport.PERHAPS_SENT, None, 0),
        ("status=502 error_shape=html", UnavailableError, Transport.PERHAPS_SENT, None, 0),
        ("status=504 error_shape=empty", TimedOutError, Transport.PERHAPS_SENT, None, 0),
        ("refuse=input", RefusedError, Transport.ACCEPTED, False, 0),
        ("refuse=output", RefusedError, Transport.ACCEPTED, None, 0),
        ("lose=request", OutcomeUnknownError, Transport.PERHAPS_SENT, None, 0),
        ("lose=response", OutcomeUnknownError, Transport.PERHAPS_SENT, None, 1),
        ("cut_after=0", TruncatedError, Transport.ACCEPTED, None, 1),
        ("cut_after=1", TruncatedError, Transport.ACCEPTED, None, 1),
        ("cut_inside", TruncatedError, Transport.ACCEPTED, None, 1),
        ("cut_inside answer_json", TruncatedError, Transport.ACCEPTED, None, 1),
        ("cut_after=2 cut_inside", TruncatedError, Transport.ACCEPTED, None, 1),
        ("no_final", TruncatedError, Transport.ACCEPTED, None, 1),
        ("no_final done", TruncatedError, Transport.ACCEPTED, None, 1),
        ("no_final answer_json", BadResponseError, Transport.ACCEPTED, None, 1),
        ("truncate=2", TruncatedError, Transport.ACCEPTED, True, 1),
        ("truncate=0 answer_json", TruncatedError, Transport.ACCEPTED, True, 1),
        ("error_after=1", UnavailableError, Transport.ACCEPTED, None, 1),
        ("error_after=0 code=moderation_blocked", RefusedError, Transport.ACCEPTED, None, 1),
        ("url answer_json expired", ResultUnavailableError, Transport.ACCEPTED, True, 1),
    ],
)
async def test_a_fault_is_what_it_is_and_never_costs_twice(
    vendor: Vendor,
    script: str,
    error: type[ProviderError],
    transport: Transport,
    billed: bool | None,
    charged: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DARKROOM_OPENAI_IMAGES_LINK_TIMEOUT_SECONDS", "0.5")
    outcome, paid = await made(vendor, scripted(script, partial_images=2))
    failure = outcome.failure()
    assert isinstance(failure, error)
    assert (failure.transport, failure.billed) == (transport, billed)
    assert paid == charged
    assert outcome.finals == []
    if failure.billed is not None:
        assert failure.billed == (paid > 0), "what is claimed about the bill is what the vendor's books say"
    if "lose" not in script:
        assert (failure.request_id or "").startswith("req_")


async def test_a_broken_stage_is_left_out(vendor: Vendor) -> None:
    outcome, _ = await made(vendor, scripted("truncate=0", partial_images=2))
    assert outcome.error is None
    assert [place[:2] for place in outcome.partials] == [(0, 1)]
    assert "Notice" in kinds(outcome.events)


async def test_when_to_come_back_and_whether_to_is_kept(vendor: Vendor) -> None:
    outcome, _ = await made(vendor, scripted("status=429 retry_after=7 should_retry=false"))
    assert outcome.failure().retry_after == 7
    assert not outcome.failure().retryable
    assert "violence" in (await made(vendor, scripted("refuse=input")))[0].failure().message


@pytest.mark.parametrize("path", ["/v1", "/api/llm", "/api/llm/", ""])
async def test_every_address_of_the_api_works(vendor: Vendor, path: str) -> None:
    provider = account(f"{vendor.url}{path}", metadata={"team": "print"})
    async with aclosing(provider.run(request(), reference="r")) as stream:
        events = [event async for event in stream]
    await provider.aclose()
    (final,) = [event for event in events if isinstance(event, FinalImage)]
    assert final.effective.model == ("gpt-image-2" if "api/llm" in path else None)
