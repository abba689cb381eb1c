"""How the adapter creates once, watches, and reads whatever comes; the vendor is made of bare sockets."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import httpx
import pytest
from pydantic import JsonValue

from providers.all_images.answer import generation_of
from providers.contract import (
    Accepted,
    FinalImage,
    ProgressOrigin,
    ProviderEvent,
    Submission,
)
from providers.errors import (
    BadResponseError,
    OutcomeUnknownError,
    ResultUnavailableError,
    TimedOutError,
    Transport,
    UnavailableError,
)
from tests.providers.all_images.account import (
    KEY,
    REFERENCE,
    account,
    kinds,
    path_of,
    request,
    run,
)
from tests.providers.all_images.bare import CREATE, LIST, NOT_FOUND, READ, Vendor, generation, made, paths
from tests.providers.upstream import Heard, http, json_body, upstream

pytestmark = pytest.mark.anyio


async def test_the_request_is_what_the_api_documents() -> None:
    async with upstream(Vendor(generation(3, 4))) as server:
        assert (await run(account(f"{server.url}/"), request(chaos=5, tags=["t"]))).error is None
    create, look = server.heard[0], server.heard[1]
    assert create.line == "POST /image-generations HTTP/1.1"
    assert create.headers["api-key"] == KEY
    assert create.headers["content-type"] == "application/json"
    assert "authorization" not in create.headers
    assert create.json == {
        "name": "A fox",
        "mode": "simple",
        "prompt": "a red fox",
        "params": [{"name": "chaos", "value": "5"}],
        "tags": ["t", "darkroom:task-7"],
        "metaData": {"darkroom_reference": "task-7"},
    }
    assert look.line == "GET /image-generations/g HTTP/1.1"
    assert (look.headers["api-key"], look.body) == (KEY, b"")
    for heard in server.heard[2:]:
        assert "api-key" not in heard.headers, "a link is somebody else's text: it gets no key"


async def test_any_base_path_is_kept() -> None:
    async with upstream(json_body(generation(4))) as server:
        await run(account(f"{server.url}/proxy/v1/"))
        assert paths(server)[:2] == [("POST", "/proxy/v1/image-generations"), ("GET", "/proxy/v1/image-generations/g")]


async def test_a_generation_is_told_in_order() -> None:
    outcome, _ = await made(
        Vendor(generation(0), generation(1), generation(2, 0), generation(2, 1), generation(2, 3), generation(3, 4))
    )
    assert outcome.error is None
    assert outcome.events[0] == Accepted(Submission("g", state={"reference": REFERENCE}))
    told = [event for event in outcome.progress if event.origin is ProgressOrigin.REPORTED]
    assert [(event.fraction, event.message) for event in told] == [
        (None, "Create"), (None, "Pending"), (None, "Processing"), (None, "Done"),
    ]  # fmt: skip
    estimated = [event.fraction for event in outcome.progress if event.origin is ProgressOrigin.ESTIMATED]
    assert estimated == [0.25, 0.75], "how much of the work a picture is, nobody has said"
    assert [final.index for final in outcome.finals] == [0, 1, 2, 3]
    assert outcome.finals[2] == FinalImage(2, b"/images/preview/i2.jpg", preview=True, provider_image_id="i2")


async def test_pictures_are_told_as_they_appear_not_all_at_the_end() -> None:
    there = asyncio.Event()
    asked = 0

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        if path_of(heard.line) == READ:
            asked += 1
            writer.write(json_body(generation(3, 4) if there.is_set() else generation(2, 1)))
        else:
            writer.write(http(b"jpg", media_type="image/jpeg"))

    async def between(event: ProviderEvent) -> None:
        if isinstance(event, FinalImage):
            there.set()  # the others only come once the first was told

    async with upstream(answer) as server, asyncio.timeout(5):
        outcome = await run(account(server.url), resume=Submission("g"), between=between)
    assert [final.index for final in outcome.finals] == [0, 1, 2, 3]


async def test_repeated_and_reordered_pictures_are_told_once_with_their_own_number() -> None:
    a: JsonValue = {"id": "a"}
    b: JsonValue = {"id": "b"}
    c: JsonValue = {"id": "c"}
    outcome, _ = await made(
        Vendor(generation(2, [a, a]), generation(2, [b, a]), generation(2, []), generation(3, [c, b, a, a, b]))
    )
    assert [(final.index, final.provider_image_id) for final in outcome.finals] == [(0, "a"), (1, "b"), (2, "c")]


async def test_after_a_restart_pictures_keep_their_numbers_however_they_are_listed() -> None:
    known = {"a": 0, "c": 2}
    reordered: list[JsonValue] = [{"id": "d"}, {"id": "c"}, {"id": "b"}, {"id": "a"}]
    outcome, server = await made(Vendor(generation(2, reordered[:1]), generation(3, reordered)), Submission("g"), known)

    assert [(final.index, final.provider_image_id) for final in outcome.finals] == [(1, "d"), (3, "b")]
    assert outcome.error is None
    fetched = {path for _, path in paths(server) if path.startswith("/images/")}
    assert fetched == {"/images/preview/d.jpg", "/images/preview/b.jpg"}, "what is here is not fetched again"


async def test_after_a_restart_a_picture_that_is_here_is_not_bought_again() -> None:
    async with upstream(Vendor(generation(3, 4))) as server:
        known = {"i0": 0, "i1": 1, "i2": 2}
        outcome = await run(account(server.url), request(purchase=True), resume=Submission("g"), known=known)
        bought = [heard.json["id"] for heard in server.heard if path_of(heard.line)[1] == "/images/download"]

    assert [final.index for final in outcome.finals] == [3]
    assert bought == ["i3"]


async def test_a_generation_whose_pictures_are_all_here_is_over_once_the_vendor_says_so() -> None:
    known = {f"i{number}": number for number in range(4)}
    outcome, _ = await made(Vendor(generation(3, 4)), Submission("g"), known)
    assert (outcome.finals, outcome.error) == ([], None)


async def test_unknown_fields_are_ignored_and_missing_or_odd_ones_survived() -> None:
    odd: list[JsonValue] = [None, 7, {}, {"id": 7}, {"id": "a", "url": 5, "free": "yes", "x": {}}, {"url": "/relative"}]
    look = generation(3, odd, nbImages="four", metaData=None, tags=[1, None], params=None, surprise=[1])
    outcome, _ = await made(Vendor({"id": "g"}, {"id": "g", "status": "3", "images": {}}, look))
    assert [(final.index, final.provider_image_id) for final in outcome.finals] == [(0, "a")]
    assert isinstance(outcome.failure(), ResultUnavailableError), "the picture with the broken link is not kept secret"
    assert generation_of({}).pictures == ()


async def test_a_status_nobody_has_named_goes_on_until_the_deadline() -> None:
    outcome, server = await made(Vendor(generation(5), generation(77)), deadline_seconds=0.2)
    failure = outcome.failure()
    assert isinstance(failure, TimedOutError)
    assert (failure.transport, failure.billed) == (Transport.ACCEPTED, None)
    assert "status 77" in failure.message
    assert paths(server).count(CREATE) == 1
    outcome, _ = await made(Vendor(*[generation(5, 1)] * 5, generation(3, 2)))
    assert outcome.error is None
    assert len(outcome.finals) == 2


async def test_relaxed_generations_have_more_time() -> None:
    vendor = Vendor(*[generation(1)] * 5, generation(3, 1))
    async with upstream(vendor) as server:
        provider = account(server.url, deadline_seconds=0.001)
        assert (await run(provider, request(process_mode="relax"))).error is None
        vendor.looks = [json_body(generation(1))]
        provider = account(server.url, deadline_seconds=0.001)
        assert isinstance((await run(provider, request(process_mode="fast"))).failure(), TimedOutError)


async def test_a_failure_has_no_reason_and_says_what_can_be_done() -> None:
    outcome, _ = await made(Vendor(generation(2, 1), generation(4, 1)))
    failure = outcome.failure()
    assert isinstance(failure, UnavailableError)
    assert (failure.transport, failure.billed, failure.vendor_code) == (Transport.ACCEPTED, None, "4")
    assert "never says why" in failure.message
    assert "retry" in failure.message
    assert [final.index for final in outcome.finals] == [0], "what there was is kept"


async def test_done_without_pictures_is_believed_only_when_it_stays_so() -> None:
    outcome, _ = await made(Vendor(generation(3), generation(3), generation(3, 4)))
    assert outcome.error is None
    assert len(outcome.finals) == 4
    outcome, server = await made(Vendor(generation(3)))
    assert isinstance(outcome.failure(), BadResponseError)
    assert paths(server).count(READ) == 3


async def test_an_id_the_vendor_does_not_know_yet_is_looked_at_again() -> None:
    assert (await made(Vendor(NOT_FOUND, NOT_FOUND, generation(3, 1))))[0].error is None
    outcome, _ = await made(Vendor(generation(2), NOT_FOUND))
    assert isinstance(outcome.failure(), ResultUnavailableError)
    assert outcome.failure().transport is Transport.ACCEPTED


async def test_a_generation_that_is_unknown_while_the_vendor_is_updated_is_not_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcome, _ = await made(Vendor(generation(2), *[NOT_FOUND] * 10, generation(3, 1)), doubt_seconds=60)
    assert outcome.error is None
    assert len(outcome.finals) == 1
    outcome, _ = await made(Vendor(generation(3), *[generation(3)] * 10, generation(3, 1)), doubt_seconds=60)
    assert outcome.error is None
    monkeypatch.setattr("providers.all_images.watch._BELIEVED_AFTER", 1)
    outcome, _ = await made(Vendor(NOT_FOUND), doubt_seconds=60, deadline_seconds=0.1)
    assert isinstance(outcome.failure(), ResultUnavailableError), "the deadline ends the doubt"


async def test_what_the_last_look_found_is_told_when_it_could_not_be_believed_yet() -> None:
    outcome, _ = await made(Vendor(NOT_FOUND), doubt_seconds=60, deadline_seconds=0.001)
    failure = outcome.failure()
    assert isinstance(failure, TimedOutError)
    assert "does not know generation g" in failure.message


async def test_a_preview_that_cannot_be_fetched_at_first_is_fetched_at_the_next_look() -> None:
    vendor = Vendor(generation(2, 2), generation(3, 2))
    vendor.pictures["/images/preview/i0.jpg"] = [NOT_FOUND]
    outcome, _ = await made(vendor)
    assert outcome.error is None
    assert [final.index for final in outcome.finals] == [1, 0]
    vendor = Vendor(generation(3, 2))
    vendor.pictures["/images/preview/i1.jpg"] = [NOT_FOUND] * 2
    outcome, _ = await made(vendor)
    assert outcome.error is None, "done is not over while a picture may still come"
    assert [final.index for final in outcome.finals] == [0, 1]


async def test_a_preview_that_is_gone_fails_the_task_and_keeps_the_others() -> None:
    vendor = Vendor(generation(3, 2))
    vendor.pictures["/images/preview/i0.jpg"] = [NOT_FOUND] * 3
    outcome, _ = await made(vendor)
    assert [final.index for final in outcome.finals] == [1]
    assert isinstance(outcome.failure(), ResultUnavailableError)


async def test_links_are_fetched_where_the_vendor_says() -> None:
    async with upstream(http(b"elsewhere", media_type="image/jpeg")) as store:
        image: JsonValue = {"id": "a", "url": f"{store.url}/p.jpg", "urlFull": f"{store.url}/f.jpg", "free": False}
        free: JsonValue = {"id": "b", "url": f"{store.url}/p2.jpg", "urlFull": f"{store.url}/f2.jpg", "free": True}
        bare: JsonValue = {"id": "c", "free": True}
        outcome, server = await made(Vendor(generation(3, [image, free, bare])))
        assert [heard.line.split()[1] for heard in store.heard] == ["/p.jpg", "/f2.jpg"]
    assert [(final.preview, final.data) for final in outcome.finals] == [
        (True, b"elsewhere"), (False, b"elsewhere"), (False, b"/images/full/c.jpg"),
    ]  # fmt: skip
    assert ("POST", "/images/download") not in paths(server)


@pytest.mark.parametrize(
    ("link", "fetched"),
    [
        ("http://api.all-images.ai/v1/a.jpg", "https://api.all-images.ai/v1/a.jpg"),
        ("http://api.all-images.ai:80/a.jpg?x=1", "https://api.all-images.ai/a.jpg?x=1"),
        ("https://api.all-images.ai/a.jpg", "https://api.all-images.ai/a.jpg"),
        ("http://127.0.0.1/a.jpg", "http://127.0.0.1/a.jpg"),
        ("http://localhost:8000/a.jpg", "http://localhost:8000/a.jpg"),
        ("http://gateway.example:8080/a.jpg", "http://gateway.example:8080/a.jpg"),
        ("http://host:port/a.jpg", "http://host:port/a.jpg"),
    ],
)
def test_a_plain_link_is_upgraded_except_on_this_machine(link: str, fetched: str) -> None:
    (picture,) = generation_of({"images": [{"id": "a", "url": link}]}).pictures
    assert picture.url == fetched


async def test_what_the_vendor_made_of_the_prompt_is_told() -> None:
    outcome, _ = await made(Vendor(generation(3, 1, prompt="a small red fox on fresh leaves")))
    assert outcome.finals[0].effective.revised_prompt == "a small red fox on fresh leaves"
    outcome, _ = await made(Vendor(generation(3, 1, prompt="a red fox")))
    assert outcome.finals[0].effective.revised_prompt is None


async def test_stylize_above_the_documented_text_is_sent_with_a_notice() -> None:
    for stylize, told in ((100, []), (101, ["stylize"]), (None, [])):
        async with upstream(Vendor(generation(3, 1))) as server:
            outcome = await run(account(server.url), request(stylize=stylize))
        assert [notice.parameter for notice in outcome.notices] == told


async def test_a_resumed_run_never_posts() -> None:
    outcome, server = await made(Vendor(generation(2, 1), generation(3, 4)), resume=Submission("g"))
    assert outcome.error is None
    assert kinds(outcome)[0] != "Accepted"
    assert len(outcome.finals) == 4
    assert {method for method, _ in paths(server)} == {"GET"}
    outcome, server = await made(Vendor(generation(3, 1)), resume=Submission(None))
    assert isinstance(outcome.failure(), OutcomeUnknownError)
    assert server.heard == []


async def test_closing_a_run_ends_it_at_once() -> None:
    async with upstream(Vendor(generation(1))) as server, asyncio.timeout(5):
        provider = account(server.url, poll_first_seconds=60, poll_longest_seconds=60)
        async with aclosing(provider.run(request(), reference=REFERENCE)) as events:
            assert isinstance(await anext(events), Accepted)
        await provider.aclose()
        assert paths(server) == [CREATE]


async def test_the_waits_grow_to_the_longest_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def wait(self: object, seconds: float) -> bool:
        waits.append(seconds)
        return False

    monkeypatch.setattr("providers.all_images.hints.Hints.wait", wait)
    await made(Vendor(*[generation(1)] * 6, generation(3, 1)), poll_first_seconds=5, poll_longest_seconds=15,
               deadline_seconds=900)  # fmt: skip
    limits = [5, 7.5, 11.25, 15, 15, 15, 15]
    assert len(waits) == len(limits)
    assert all(0.8 * limit <= wait <= limit for wait, limit in zip(waits, limits, strict=True)), waits


LOST = [b"", http(b"", status="502 Bad Gateway"), http(b"", status="500 Oops"), json_body({"status": 0}),
        http(b"<html>", media_type="text/html"), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]  # fmt: skip


@pytest.mark.parametrize("create", LOST)
async def test_after_a_lost_answer_it_finds_its_own_generation_and_goes_on(create: bytes) -> None:
    others: list[JsonValue] = [
        {**generation(3, 4), "id": "x", "metaData": {"darkroom_reference": "task-77"}},
        {**generation(3, 4), "id": "y", "metaData": None, "tags": ["darkroom:task-70"]},
        {**generation(3, 4), "id": None},
    ]
    listed = json_body({"filteredResults": 4, "prints": [*others, generation(2)]})
    outcome, server = await made(Vendor(generation(3, 4), create=create, list=listed))
    assert outcome.error is None
    assert outcome.events[0] == Accepted(Submission("g", state={"reference": REFERENCE}))
    assert paths(server).count(CREATE) == 1
    asked = next(heard for heard in server.heard if path_of(heard.line) == LIST)
    query = httpx.URL(asked.line.split()[1]).params
    assert dict(query) == {"tag": "darkroom:task-7", "limit": "20", "offset": "0"}


async def test_a_generation_is_known_by_its_tag_where_the_metadata_is_missing() -> None:
    tagged: JsonValue = {**generation(3, 4), "metaData": None, "tags": ["a", "darkroom:task-7"]}
    async with upstream(Vendor(list=json_body({"prints": [tagged]}))) as server:
        provider = account(server.url)
        assert await provider.find("task-7") == Submission("g", state={"reference": "task-7"})
        assert await provider.find("task") is None
        await provider.aclose()


async def test_a_list_that_ignores_the_tag_is_searched_page_by_page() -> None:
    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        offset = int(httpx.URL(heard.line.split()[1]).params["offset"])
        prints: list[JsonValue] = [{"id": f"o{offset + n}", "metaData": {"darkroom_reference": "z"}} for n in range(2)]
        writer.write(json_body({"prints": [prints[0], generation(1)] if offset == 4 else prints}))

    async with upstream(answer) as server:
        provider = account(server.url, list_limit=2)
        found = await provider.find(REFERENCE)
        await provider.aclose()
    assert found is not None
    assert found.id == "g"
    assert len(server.heard) == 3


async def test_while_the_vendor_cannot_be_asked_the_outcome_is_unknown() -> None:
    async with upstream(http(b"", status="503 Busy")) as server:
        provider = account(server.url)
        with pytest.raises(OutcomeUnknownError) as caught:
            await provider.find(REFERENCE)
        await provider.aclose()
    assert (caught.value.transport, caught.value.billed) == (Transport.PERHAPS_SENT, None)
