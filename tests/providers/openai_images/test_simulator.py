"""The simulated vendor satisfies the vendor's own client, unmodified, over a real socket."""

from __future__ import annotations

import base64
import io
import itertools
import time
from pathlib import Path

import httpx
import openai
import pytest
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent
from PIL import Image, ImageChops, ImageStat

from providers.openai_images.families import known_models
from providers.openai_images.simulator import simulator
from providers.sandbox.ledger import Ledger
from tests.providers.openai_images.conftest import Vendor
from tests.serving import serving

pytestmark = pytest.mark.anyio


def picture(text: str | None) -> Image.Image:
    assert text is not None
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
        image.load()
        return image


def distance(first: Image.Image, second: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(first, second)).mean)


async def test_it_generates_a_picture(vendor: Vendor) -> None:
    answer = await vendor.client.images.generate(prompt="A fox", model="gpt-image-2", size="1536x864", quality="low")
    assert answer.data is not None
    [made] = answer.data
    assert picture(made.b64_json).size == (1536, 864)
    assert (made.url, made.revised_prompt) == (None, None)
    assert abs(answer.created - time.time()) < 60
    assert (answer.size, answer.quality) == ("1536x864", "low")
    assert (answer.background, answer.output_format) == ("opaque", "png")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
async def test_the_file_is_in_the_format_that_was_asked_for(vendor: Vendor, output_format: str) -> None:
    answer = await vendor.client.post(
        "/images/generations",
        cast_to=openai.types.ImagesResponse,
        body={"model": "gpt-image-1", "prompt": "A fox", "output_format": output_format},
    )
    assert answer.data is not None
    assert picture(answer.data[0].b64_json).format == output_format.upper()
    assert answer.output_format == output_format


async def test_several_pictures_of_one_request_differ(vendor: Vendor) -> None:
    answer = await vendor.client.images.generate(prompt="A fox", model="dall-e-2", n=3, size="256x256")
    assert answer.data is not None
    assert len(answer.data) == 3
    assert len({made.url for made in answer.data}) == 3
    answer = await vendor.client.images.generate(
        prompt="A fox", model="dall-e-2", n=3, size="256x256", response_format="b64_json"
    )
    assert answer.data is not None
    first, second, third = (picture(made.b64_json) for made in answer.data)
    assert distance(first, second) > 1
    assert distance(second, third) > 1


async def test_dall_e_answers_with_a_link_that_anybody_can_open(vendor: Vendor) -> None:
    answer = await vendor.client.images.generate(prompt="A fox", model="dall-e-3", size="1792x1024", style="natural")
    assert answer.data is not None
    [made] = answer.data
    assert made.b64_json is None
    assert made.revised_prompt
    assert "A fox" in made.revised_prompt
    assert (answer.usage, answer.size, answer.quality) == (None, None, None)
    assert made.url is not None
    async with httpx.AsyncClient() as anybody:
        file = await anybody.get(made.url)
        assert (await anybody.get(f"{made.url}x")).status_code == 404
    assert file.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(file.content)) as image:
        assert image.size == (1792, 1024)


async def test_a_link_dies_after_its_time(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    async with (
        serving(simulator(ledger, pace=0, link_seconds=0)) as url,
        openai.AsyncOpenAI(api_key="any", base_url=url, max_retries=0) as client,
        httpx.AsyncClient() as anybody,
    ):
        answer = await client.images.generate(prompt="A fox", model="dall-e-2", size="256x256")
        assert answer.data is not None
        assert answer.data[0].url is not None
        assert (await anybody.get(answer.data[0].url)).status_code == 403
    ledger.close()


async def test_a_stream_develops_the_picture(vendor: Vendor) -> None:
    stream = await vendor.client.images.generate(
        prompt="A fox", model="gpt-image-2", size="1024x1024", stream=True, partial_images=3
    )
    events = [event async for event in stream]
    assert [event.type for event in events] == ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    assert [e.partial_image_index for e in events if isinstance(e, ImageGenPartialImageEvent)] == [0, 1, 2]
    last = events[-1]
    assert isinstance(last, ImageGenCompletedEvent)
    assert (last.size, last.quality, last.background, last.output_format) == ("1024x1024", "medium", "opaque", "png")
    assert abs(last.created_at - time.time()) < 60
    stages = [picture(event.b64_json) for event in events]
    distances = [distance(stage, stages[-1]) for stage in stages]
    assert all(later < earlier for earlier, later in itertools.pairwise(distances))
    whole = await vendor.client.images.generate(prompt="A fox", model="gpt-image-2", size="1024x1024")
    assert whole.data is not None
    assert whole.data[0].b64_json == last.b64_json


async def test_a_stream_without_partial_images_is_one_event(vendor: Vendor) -> None:
    stream = await vendor.client.images.generate(prompt="A fox", model="gpt-image-1-mini", stream=True)
    assert [event.type async for event in stream] == ["image_generation.completed"]


async def test_several_pictures_develop_side_by_side_in_one_stream(vendor: Vendor) -> None:
    stream = await vendor.client.images.generate(
        prompt="A fox", model="gpt-image-1", n=2, stream=True, partial_images=2, output_format="jpeg"
    )
    events = [event async for event in stream]
    assert [e.partial_image_index for e in events if isinstance(e, ImageGenPartialImageEvent)] == [0, 0, 1, 1]
    first, second = (picture(event.b64_json) for event in events[4:])
    assert distance(first, second) > 1
    assert distance(picture(events[2].b64_json), first) < distance(picture(events[2].b64_json), second)


async def test_streaming_several_pictures_can_be_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    async with (
        serving(simulator(ledger, pace=0, streams_many=False)) as url,
        openai.AsyncOpenAI(api_key="any", base_url=url, max_retries=0) as client,
    ):
        with pytest.raises(openai.BadRequestError, match="n=1"):
            await client.images.generate(prompt="A fox", model="gpt-image-1", n=2, stream=True)
    ledger.close()


@pytest.mark.parametrize(
    ("model", "size", "quality", "tokens"),
    [
        ("gpt-image-1", "1024x1024", "low", 272),
        ("gpt-image-1", "1024x1536", "medium", 1584),
        ("gpt-image-1.5", "1536x1024", "high", 6208),
        ("gpt-image-2", "1024x1024", "high", 7024),
        ("gpt-image-2", "1536x1024", "high", 5488),
        ("gpt-image-2.5-flare", "1024x1024", "max", 7024),
        ("gpt-image-2.5-flare", "1024x1024", "medium", 439),
    ],
)
async def test_usage_follows_the_published_formulas(
    vendor: Vendor, model: str, size: str, quality: str, tokens: int
) -> None:
    body = {"model": model, "prompt": "A fox", "size": size, "quality": quality, "output_format": "jpeg", "n": 2}
    answer = await vendor.client.post("/images/generations", cast_to=openai.types.ImagesResponse, body=body)
    assert answer.usage is not None
    assert answer.usage.output_tokens == 2 * tokens
    assert answer.usage.output_tokens_details is not None
    assert answer.usage.output_tokens_details.image_tokens == 2 * tokens


async def test_each_partial_image_delivered_costs_100_tokens(vendor: Vendor) -> None:
    stream = await vendor.client.images.generate(
        prompt="A fox [[sandbox: partials=2]]", model="gpt-image-1", quality="low", size="1024x1024",
        stream=True, partial_images=3,
    )  # fmt: skip
    last = [event async for event in stream][-1]
    assert isinstance(last, ImageGenCompletedEvent)
    assert last.usage.output_tokens == 272 + 2 * 100


async def test_null_is_the_same_as_leaving_it_out(vendor: Vendor) -> None:
    answer = await vendor.client.images.generate(
        prompt="A fox", model="gpt-image-1", n=None, output_compression=None, partial_images=None, quality=None,
        size=None, stream=None, background=None, moderation=None, output_format=None,
    )  # fmt: skip
    assert answer.data is not None
    assert len(answer.data) == 1
    assert answer.size == "1024x1024"


async def test_auto_is_always_decided(vendor: Vendor) -> None:
    answer = await vendor.client.images.generate(
        prompt="A portrait of a fox", model="gpt-image-2", quality="auto", size="auto", background="auto"
    )
    assert (answer.size, answer.quality, answer.background) == ("1024x1536", "medium", "opaque")


async def test_a_transparent_background_is_transparent(vendor: Vendor) -> None:
    answer = await vendor.client.images.generate(prompt="A fox", model="gpt-image-2.5-flare", background="transparent")
    assert answer.background == "transparent"
    assert answer.data is not None
    assert picture(answer.data[0].b64_json).getpixel((0, 0)) == (16, 12, 20, 0)


@pytest.mark.parametrize("model", known_models())
async def test_every_model_of_the_table_is_served(vendor: Vendor, model: str) -> None:
    answer = await vendor.client.images.generate(prompt="A fox", model=model)
    assert answer.data


@pytest.mark.parametrize("path", ["/images/generations", "/v1/images/generations", "/api/llm/images/generations"])
async def test_every_documented_path_is_served(vendor: Vendor, path: str) -> None:
    async with httpx.AsyncClient(base_url=vendor.url, headers={"authorization": "Bearer any"}) as client:
        answer = await client.post(path, json={"prompt": "A fox", "model": "gpt-image-1"})
        assert (await client.get(path)).status_code == 405
    assert answer.status_code == 200
    assert answer.headers["x-request-id"].startswith("req_")
    assert ("x-tfy-resolved-model" in answer.headers) == path.startswith("/api/llm")


async def test_the_gateway_takes_account_prefixes_and_names_the_model(vendor: Vendor) -> None:
    async with openai.AsyncOpenAI(api_key="any", base_url=f"{vendor.url}/api/llm", max_retries=0) as client:
        raw = await client.images.with_raw_response.generate(prompt="A fox", model="openai-main/gpt-image-1")
        assert raw.headers["x-tfy-resolved-model"] == "openai-main/gpt-image-1"
        assert "server-timing" in raw.headers
        stream = await client.images.with_raw_response.generate(
            prompt="A fox", model="openai-main/gpt-image-1", stream=True
        )
        assert "server-timing" not in stream.headers
        assert [event.type async for event in stream.parse()] == ["image_generation.completed"]


async def test_an_accepted_request_is_charged_under_its_reference(vendor: Vendor) -> None:
    raw = await vendor.client.images.with_raw_response.generate(
        prompt="A fox", model="dall-e-2", n=4, extra_headers={"X-Client-Request-Id": "task-41"}
    )
    [charge] = await vendor.ledger.charges("task-41")
    assert (charge.provider, charge.images) == ("openai_images", 4)
    assert charge.submission == raw.headers["x-request-id"]


async def test_the_reference_may_come_in_the_gateways_metadata(vendor: Vendor) -> None:
    await vendor.client.images.generate(
        prompt="A fox", model="dall-e-2", extra_headers={"x-tfy-metadata": '{"darkroom_reference": "task-42"}'}
    )
    assert len(await vendor.ledger.charges("task-42")) == 1


async def test_the_charge_is_on_record_before_the_first_byte(vendor: Vendor) -> None:
    with pytest.raises(openai.APIConnectionError):
        await vendor.client.images.generate(
            prompt="A fox [[sandbox: cut_after=0]]",
            model="gpt-image-1",
            extra_headers={"X-Client-Request-Id": "task-43"},
        )
    assert len(await vendor.ledger.charges("task-43")) == 1


async def test_the_pace_comes_from_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_SANDBOX_PACE", "0.05")
    ledger = Ledger(tmp_path / "ledger.db")
    async with (
        serving(simulator(ledger)) as url,
        openai.AsyncOpenAI(api_key="any", base_url=url, max_retries=0) as client,
    ):
        started = time.monotonic()
        stream = await client.images.generate(prompt="A fox", model="gpt-image-1", stream=True, partial_images=3)
        assert len([event async for event in stream]) == 4
        assert time.monotonic() - started >= 4 * 0.05
    ledger.close()


@pytest.mark.parametrize(
    ("era", "model", "works"),
    [("2026", "dall-e-3", False), ("2026", "gpt-image-2", True), ("2025", None, True), ("all", None, False)],
)
async def test_the_era_decides_which_models_exist(tmp_path: Path, era: str, model: str | None, works: bool) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    body = {"prompt": "A fox", "model": model}
    async with (
        serving(simulator(ledger, pace=0, era=era)) as url,  # type: ignore[arg-type]
        httpx.AsyncClient(base_url=url, headers={"authorization": "Bearer any"}) as client,
    ):
        answer = await client.post("/images/generations", json=body)
    assert answer.is_success == works
    assert len(await ledger.charges()) == works
    ledger.close()
