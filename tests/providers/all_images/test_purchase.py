"""Money: a picture is bought only when that was asked for, once, and a failed purchase loses nothing."""

from __future__ import annotations

import asyncio
import io
import uuid

import pytest
from PIL import Image, ImageChops, ImageStat
from pydantic import JsonValue

from providers.contract import FinalImage
from providers.errors import (
    BadResponseError,
    OutcomeUnknownError,
    ProviderError,
    QuotaExhaustedError,
    ResultUnavailableError,
)
from tests.providers.all_images.account import Outcome, account, request, run
from tests.providers.all_images.conftest import Vendor
from tests.providers.upstream import Heard, http, json_body, upstream

pytestmark = pytest.mark.anyio


async def made(vendor: Vendor, reference: str, **parameters: object) -> Outcome:
    return await run(account(vendor.url), request(**parameters), reference=reference)


def size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.size


def new() -> str:
    return uuid.uuid4().hex


async def test_without_purchase_there_are_previews_and_no_charge(vendor: Vendor) -> None:
    reference = new()
    outcome = await made(vendor, reference, format="3:2")
    assert outcome.error is None
    assert [(final.index, final.preview) for final in outcome.finals] == [(n, True) for n in range(4)]
    assert len({final.provider_image_id for final in outcome.finals}) == 4
    assert {size(final.data) for final in outcome.finals} == {(672, 448)}
    generations, bought = await vendor.charges(reference)
    assert [charge.images for charge in generations] == [4]
    assert bought == []


async def test_with_purchase_each_picture_is_bought_exactly_once(vendor: Vendor) -> None:
    reference = new()
    outcome = await made(vendor, reference, format="3:2", purchase=True)
    assert outcome.error is None
    assert [(final.index, final.preview) for final in outcome.finals] == [(n, False) for n in range(4)]
    assert {size(final.data) for final in outcome.finals} == {(1344, 896)}
    generations, bought = await vendor.charges(reference)
    assert len(generations) == 1
    assert sorted(charge.submission for charge in bought) == sorted(
        f"image:{final.provider_image_id}" for final in outcome.finals
    )


async def test_a_free_picture_comes_in_full_and_costs_nothing(vendor: Vendor) -> None:
    for purchase in (False, True):
        reference = new()
        outcome = await made(vendor, reference, purchase=purchase, meta_data={"sandbox_free": "2"})
        assert [final.preview for final in outcome.finals] == [not purchase, not purchase, False, False]
        assert {size(final.data) for final in outcome.finals[2:]} == {(1024, 1024)}
        assert len((await vendor.charges(reference))[1]) == (2 if purchase else 0)


async def test_a_preview_can_be_bought_later_and_again_for_free(vendor: Vendor) -> None:
    reference = new()
    preview = (await made(vendor, reference)).finals[1]
    provider = account(vendor.url)
    assert preview.provider_image_id is not None
    full = await provider.purchase(preview.provider_image_id)
    assert await provider.purchase(preview.provider_image_id) == full
    await provider.aclose()
    assert size(full) == (1024, 1024)
    _, bought = await vendor.charges(reference)
    assert [charge.submission for charge in bought] == [f"image:{preview.provider_image_id}"]
    with Image.open(io.BytesIO(full)) as large, Image.open(io.BytesIO(preview.data)) as small:
        difference = ImageChops.difference(large.convert("L").resize(small.size), small.convert("L"))
    assert 0.5 < ImageStat.Stat(difference).mean[0] < 30, "the same picture, with something written across it"


async def test_a_resumed_run_pays_for_no_picture_twice(vendor: Vendor) -> None:
    reference = new()
    await made(vendor, reference, purchase=True)
    found = await account(vendor.url).find(reference)
    again = await run(account(vendor.url), request(purchase=True), reference=reference, resume=found)
    assert len(again.finals) == 4
    generations, bought = await vendor.charges(reference)
    assert (len(generations), len(bought)) == (1, 4)


@pytest.mark.parametrize("fault", [{"lose": "response"}, {"lose": "request"}, {"cut_inside": True}, {"status": 503},
                                   {"status": 429, "retry_after": 0}])  # fmt: skip
async def test_a_lost_download_is_asked_for_again_and_paid_once(vendor: Vendor, fault: dict[str, JsonValue]) -> None:
    reference = new()
    await vendor.script("download", fault, fault)
    outcome = await made(vendor, reference, purchase=True)
    assert outcome.error is None
    assert not any(final.preview for final in outcome.finals)
    assert len((await vendor.charges(reference))[1]) == 4


@pytest.mark.parametrize("status", [402, 400, 401, 500])
async def test_what_cannot_be_bought_is_delivered_as_a_preview_with_a_notice(vendor: Vendor, status: int) -> None:
    reference = new()
    await vendor.script("download", {}, {"status": status})
    outcome = await made(vendor, reference, purchase=True)
    assert outcome.error is None
    assert [final.preview for final in outcome.finals] == [False, True, False, False]
    (notice,) = outcome.notices
    assert notice.parameter == "purchase"
    assert str(outcome.finals[1].provider_image_id) in notice.message
    assert f"HTTP {status}" in notice.message
    assert len((await vendor.charges(reference))[1]) == 3


async def test_a_purchase_that_fails_says_how() -> None:
    async def failure(answer: bytes) -> ProviderError:
        async with upstream(answer) as server:
            provider = account(server.url, download_seconds=0.001)
            with pytest.raises(ProviderError) as caught:
                await provider.purchase("i")
            await provider.aclose()
            assert [heard.json for heard in server.heard] == [{"id": "i"}]
        return caught.value

    nest = json_body({"statusCode": 402, "message": "Not enough credits."}, status="402 Payment Required")
    assert isinstance(await failure(nest), QuotaExhaustedError)
    assert isinstance(await failure(http(b"", status="404 Not Found")), ResultUnavailableError)
    assert isinstance(await failure(b""), OutcomeUnknownError)
    assert isinstance(await failure(json_body({"id": "i"})), BadResponseError)
    assert isinstance(await failure(http(b"<html>", media_type="text/html")), BadResponseError)
    assert isinstance(await failure(http(b"", media_type="image/jpeg")), BadResponseError)


async def test_a_picture_larger_than_the_limit_is_not_taken() -> None:
    async with upstream(http(b"x" * 2000, media_type="image/jpeg")) as server:
        provider = account(server.url, link_max_bytes=1999)
        with pytest.raises(BadResponseError, match="larger than 1,999 bytes"):
            await provider.purchase("i")
        await provider.aclose()


async def test_nothing_is_downloaded_in_full_unless_it_was_asked_for() -> None:
    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        images: list[JsonValue] = [{"id": f"i{n}", "urlFull": "http://127.0.0.1:9/full.jpg"} for n in range(4)]
        done = json_body({"id": "g", "status": 3, "images": images})
        writer.write(http(b"jpg", media_type="image/jpeg") if "/images/" in heard.line else done)

    async with upstream(answer) as server:
        outcome = await run(account(server.url))
    assert [type(event) for event in outcome.finals] == [FinalImage] * 4
    assert all("/images/preview/" in heard.line for heard in server.heard if "/images/" in heard.line)
