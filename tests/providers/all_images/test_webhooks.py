"""Webhooks end to end over real sockets: they make the next look come sooner, and can do no harm."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
import pytest
from pydantic import JsonValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from providers.all_images.hints import Hints
from providers.contract import Accepted, Delivery, FinalImage, ProviderEvent, Submission
from tests.providers.all_images.account import account, path_of, request, run
from tests.providers.all_images.conftest import Vendor
from tests.providers.upstream import Heard, Upstream, http, json_body, upstream
from tests.serving import serving

pytestmark = pytest.mark.anyio

TOKEN = "unguessable-0123456789"
NEVER = {"poll_first_seconds": 600, "poll_longest_seconds": 600}
"""An adapter that would wait for ten minutes before it looked by itself."""


@dataclass
class Mailbox:
    """A callback URL of ours: what is posted to it is delivered, and kept to look at."""

    url: str = ""
    posted: list[Delivery] = field(default_factory=list)
    ended: bool = False
    read: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while everything posted has been read."""
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def put(self, body: bytes) -> None:
        async with self._arrived:
            self.read.clear()
            self.posted.append(Delivery("application/json", body))
            self._arrived.notify_all()

    async def deliveries(self) -> AsyncGenerator[Delivery, None]:
        read = 0
        try:
            while True:
                await self.until(read + 1)
                read += 1
                yield self.posted[read - 1]
                if read == len(self.posted):
                    self.read.set()
        finally:
            self.ended = True

    def types(self) -> list[str]:
        return [str(orjson.loads(each.body)["type"]) for each in self.posted]

    async def until(self, count: int) -> None:
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.posted) >= count)


@asynccontextmanager
async def mailbox() -> AsyncIterator[Mailbox]:
    """A mailbox on a real socket."""
    box = Mailbox()

    async def receive(http_request: Request) -> Response:
        await box.put(await http_request.body())
        return Response(b"", 200)

    async with serving(Starlette(routes=[Route(f"/{TOKEN}", receive, methods=["POST"])])) as url:
        box.url = f"{url}/{TOKEN}"
        yield box


async def test_a_webhook_brings_the_pictures_long_before_the_next_look(slow: Vendor) -> None:
    async with mailbox() as box, asyncio.timeout(10):

        async def between(event: ProviderEvent) -> None:
            if isinstance(event, Accepted):
                slow.clock.stages(7)

        # The calm between two looks is a second at most, so that a whole run of hints is over in a few.
        outcome = await run(account(slow.url, **NEVER), reference="r", callback=box, between=between)
        assert outcome.error is None
        assert len(outcome.finals) == 4
        assert box.ended
        assert await _webhooks(slow) == []


async def test_all_five_events_and_the_test_are_delivered_and_signed_by_nobody(slow: Vendor) -> None:
    async with mailbox() as box, asyncio.timeout(10):
        answer = await slow.http.post(
            "/api-keys/webhook/subscribe",
            json={"url": box.url, "events": [
                "test", "print.created", "print.active", "print.progress", "print.failed", "print.completed",
            ]},
        )  # fmt: skip
        assert answer.status_code == 201
        await box.until(1)
        made = await slow.http.post("/image-generations", json=request(meta_data={"a": "b"}).body("r"))
        slow.clock.stages(7)
        await box.until(8)
        failed = await slow.http.post(
            "/image-generations", json={"name": "n", "mode": "simple", "prompt": "x [[sandbox: error_after=1]]"}
        )
        slow.clock.stages(7)
        await box.until(12)
        assert box.types() == [
            "test",
            "print.created", "print.active", *["print.progress"] * 4, "print.completed",
            "print.created", "print.active", "print.progress", "print.failed",
        ]  # fmt: skip
        envelopes = [orjson.loads(each.body) for each in box.posted[1:]]
        assert all(set(each) == {"id", "api_version", "created", "type", "data"} for each in envelopes)
        assert len({each["id"] for each in envelopes}) == 11
        assert [each["data"]["status"] for each in envelopes] == [0, 2, 2, 2, 2, 2, 3, 0, 2, 2, 4]
        assert [len(each["data"]["images"]) for each in envelopes] == [0, 0, 1, 2, 3, 4, 4, 0, 0, 1, 1]
        assert {each["data"]["id"] for each in envelopes} == {made.json()["id"], failed.json()["id"]}
        assert envelopes[0]["data"]["metaData"] == {"a": "b", "darkroom_reference": "r"}


async def test_without_a_choice_only_the_end_is_reported(vendor: Vendor) -> None:
    async with mailbox() as box, asyncio.timeout(10):
        answer = await vendor.http.post("/v1/api-keys/webhook/subscribe", json={"url": box.url})
        await vendor.http.post("/v1/image-generations", json=request().body("default"))
        await box.until(1)
        assert box.types() == ["print.completed"]
        assert "/v1/images/preview/" in orjson.loads(box.posted[0].body)["data"]["images"][0]["url"]
        gone = await vendor.http.delete(f"/v1/api-keys/webhook/unsubscribe/{answer.json()['webhookId']}")
        assert (gone.status_code, gone.content) == (201, b"")


@pytest.mark.parametrize("script", ["duplicate", "final_first", "duplicate final_first"])
async def test_repeated_and_out_of_order_deliveries_are_harmless(vendor: Vendor, script: str) -> None:
    async with mailbox() as box:
        asked = request(prompt=f"a fox [[sandbox: {script}]]")
        outcome = await run(account(vendor.url), asked, reference=script, callback=box)
    assert outcome.error is None
    assert [final.index for final in outcome.finals] == [0, 1, 2, 3]
    assert len(await vendor.ledger.charges(script)) == 1


def generation(status: int, images: int = 0) -> JsonValue:
    listed: list[JsonValue] = [{"id": f"i{n}"} for n in range(images)]
    return {"id": "g", "status": status, "images": listed}


def envelope(kind: str, data: JsonValue) -> bytes:
    return orjson.dumps({"id": "e", "api_version": 1, "created": 1, "type": kind, "data": data})


class Slow:
    """A vendor that has the generation done only once `done` is set; counts the looks."""

    def __init__(self) -> None:
        self.done = False
        self.looks = asyncio.Semaphore(0)
        self.subscribe = json_body({"webhookId": "w"}, status="201 Created")

    async def __call__(self, heard: Heard, writer: asyncio.StreamWriter) -> None:
        method, path = path_of(heard.line)
        if path == "/api-keys/webhook/subscribe":
            writer.write(self.subscribe)
        elif path.startswith("/api-keys"):
            writer.write(http(b"", status="201 Created"))
        elif path.startswith("/images"):
            writer.write(http(b"jpg", media_type="image/jpeg"))
        else:
            writer.write(json_body(generation(3, 4) if self.done and method == "GET" else generation(1)))
            if method == "GET":
                self.looks.release()


def looks(server: Upstream) -> int:
    return [path_of(heard.line) for heard in server.heard].count(("GET", "/image-generations/g"))


async def test_a_hint_is_never_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a delivery claims, only the vendor's own answer counts."""
    monkeypatch.setattr("providers.all_images.watch._CALM_SECONDS", 0.0)
    vendor, box = Slow(), Mailbox("http://127.0.0.1:9/x")
    lies = [
        envelope("print.completed", {**dict(generation(3, 9)), "images": [{"id": "evil", "url": "http://evil/"}]}),  # type: ignore[arg-type]
        envelope("print.failed", generation(4)),
        b"\xff\xfe garbage",
        b"",
        b"[]",
        b'{"data": {"id": 7}}',
        b'{"data": "x"}',
        envelope("nothing.known", None),
    ]
    async with upstream(vendor) as server, asyncio.timeout(10):
        running = asyncio.create_task(run(account(server.url, **NEVER), callback=box))
        for lie in lies:
            await box.put(lie)
            await vendor.looks.acquire()  # each is worth a look, and the look says: not yet
            assert not running.done()
        vendor.done = True
        await box.put(lies[0])
        outcome = await running
    assert outcome.error is None
    assert [final.provider_image_id for final in outcome.finals] == ["i0", "i1", "i2", "i3"]
    assert looks(server) == len(lies) + 1


async def test_a_flood_of_hints_is_one_look_at_a_time() -> None:
    vendor, box = Slow(), Mailbox("http://127.0.0.1:9/x")
    async with upstream(vendor) as server, asyncio.timeout(10):
        running = asyncio.create_task(run(account(server.url, **NEVER), callback=box))
        for _ in range(500):
            await box.put(envelope("print.progress", generation(2)))
        await vendor.looks.acquire()
        vendor.done = True
        for _ in range(500):
            await box.put(b"more")
        assert (await running).error is None
    assert looks(server) <= 3


async def test_hints_never_make_it_look_more_often_than_calm_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.all_images.watch._CALM_SECONDS", 0.1)
    vendor, box, clock = Slow(), Mailbox("http://127.0.0.1:9/x"), asyncio.get_running_loop().time
    async with upstream(vendor) as server, asyncio.timeout(10):
        running = asyncio.create_task(run(account(server.url, **NEVER), callback=box))
        began = clock()
        for _ in range(4):
            await box.put(b"?")
            await vendor.looks.acquire()
        assert clock() - began >= 0.25
        vendor.done = True
        await box.put(b"?")
        assert (await running).error is None


async def test_news_about_another_generation_is_no_hint() -> None:
    hints, box = Hints(), Mailbox()
    async with hints.listening(box, "g"), asyncio.timeout(10):
        for _ in range(50):
            await box.put(envelope("print.completed", {"id": "another"}))
        await box.read.wait()
        assert not await hints.wait(0.01)
        await box.put(envelope("print.completed", {"id": "g"}))
        assert await hints.wait(5)
        assert not await hints.wait(0.01), "a hint counts once"
    assert box.ended


async def test_it_subscribes_to_everything_before_it_posts_and_unsubscribes_in_the_end() -> None:
    vendor, box = Slow(), Mailbox("http://127.0.0.1:9/x")
    vendor.done = True
    async with upstream(vendor) as server:
        outcome = await run(account(server.url), callback=box)
    first, second, last = server.heard[0], server.heard[1], server.heard[-1]
    assert first.line == "POST /api-keys/webhook/subscribe HTTP/1.1"
    assert first.json == {
        "url": box.url,
        "events": ["test", "print.created", "print.active", "print.progress", "print.failed", "print.completed"],
    }
    assert second.line == "POST /image-generations HTTP/1.1"
    assert last.line == "DELETE /api-keys/webhook/unsubscribe/w HTTP/1.1"
    assert outcome.events[0] == Accepted(Submission("g", state={"reference": "task-7", "webhook": "w"}))


async def test_a_resumed_run_replaces_the_subscription_of_the_crashed_one() -> None:
    vendor, box = Slow(), Mailbox("http://127.0.0.1:9/x")
    vendor.done = True
    async with upstream(vendor) as server:
        resumed = await run(account(server.url), resume=Submission("g", state={"webhook": "old"}), callback=box)
    assert resumed.error is None
    assert ("POST", "/image-generations") not in [path_of(heard.line) for heard in server.heard]
    ended = [heard.line.split()[1] for heard in server.heard if heard.line.startswith("DELETE")]
    assert ended == ["/api-keys/webhook/unsubscribe/w", "/api-keys/webhook/unsubscribe/old"]


@pytest.mark.parametrize(
    "answer", [http(b"", status="500 Oops"), b"", json_body({}), json_body({"webhookId": 7}), http(b"<html>")]
)
async def test_a_vendor_that_takes_no_webhook_is_polled(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    vendor, box = Slow(), Mailbox(f"http://127.0.0.1:9/{TOKEN}")
    vendor.done, vendor.subscribe = True, answer
    async with upstream(vendor) as server:
        outcome = await run(account(server.url), callback=box)
    assert outcome.error is None
    assert len(outcome.finals) == 4
    assert TOKEN not in caplog.text


async def test_webhooks_can_be_switched_off_and_are_not_used_without_a_callback() -> None:
    vendor, box = Slow(), Mailbox("http://127.0.0.1:9/x")
    vendor.done = True
    async with upstream(vendor) as server:
        await run(account(server.url, webhooks=False), callback=box)
        await run(account(server.url))
    assert not [heard for heard in server.heard if "webhook" in heard.line]


async def test_a_mailbox_that_breaks_costs_nothing_but_hints(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Mailbox):
        async def deliveries(self) -> AsyncGenerator[Delivery, None]:
            raise ConnectionError(TOKEN)
            yield Delivery("", b"")

    vendor = Slow()
    vendor.done = True
    async with upstream(vendor) as server:
        outcome = await run(account(server.url), callback=Broken("http://127.0.0.1:9/x"))
    assert outcome.error is None
    assert [type(event) for event in outcome.finals] == [FinalImage] * 4
    assert "polling went on" in caplog.text
    assert TOKEN not in caplog.text


async def test_the_simulator_reports_to_this_machine_only(vendor: Vendor) -> None:
    for url in ("http://192.0.2.1/x", "https://example.com/x", "http://127.0.0.1.example.com/"):
        answer = await vendor.http.post("/api-keys/webhook/subscribe", json={"url": url, "events": ["test"]})
        assert answer.status_code == 400
        assert "this machine" in answer.text
    wrong = await vendor.http.post("/api-keys/webhook/subscribe", json={"url": "nowhere", "events": ["print.odd"]})
    assert wrong.status_code == 400
    assert len(wrong.json()["message"]) == 2


async def _webhooks(vendor: Vendor) -> list[str]:
    """There is no list of webhooks, so the simulator's own database is asked."""
    path = vendor.ledger.path.with_name(f"{vendor.ledger.path.stem}-all-images.db")
    db = sqlite3.connect(path)
    try:
        return [row[0] for row in db.execute("SELECT url FROM webhooks")]
    finally:
        db.close()
