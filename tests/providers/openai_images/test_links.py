"""Links in an answer: fetched at once, within limits, and never from where this server must not look."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from pydantic import JsonValue

from providers.contract import FinalImage
from providers.errors import ResultUnavailableError, Transport
from providers.http import AddressRule, async_client
from providers.links import LinkFetcher, LinkLimits, is_public
from tests.providers.upstream import (
    TOKEN,
    Heard,
    account,
    answered,
    final,
    frame,
    http,
    json_body,
    kinds,
    request,
    run,
    sse,
    upstream,
)

pytestmark = pytest.mark.anyio

PICTURE = http(b"the picture", media_type="image/png")


def fetcher(
    *,
    max_bytes: int = 1000,
    seconds: float = 60,
    first_wait: float = 0,
    appear: float = 0,
    loopback: bool = True,
    private: bool = False,
    waits: list[float] | None = None,
) -> LinkFetcher:
    """It waits for nothing, and notes in `waits` how long it would have."""

    async def pause(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)

    return LinkFetcher(
        LinkLimits(max_bytes=max_bytes, seconds=seconds, first_wait_seconds=first_wait, appear_seconds=appear),
        allow_loopback=loopback,
        allow_private=private,
        private_setting="SOME_SETTING",
        seconds_setting="TIME_SETTING",
        pause=pause,
    )


def in_turn(*answers: bytes) -> Callable[[Heard, asyncio.StreamWriter], Awaitable[None]]:
    """One after the other; the last one for ever."""
    left = list(answers)

    async def answer(_heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])

    return answer


async def refused(fetching: Awaitable[bytes]) -> ResultUnavailableError:
    with pytest.raises(ResultUnavailableError) as caught:
        await fetching
    assert (caught.value.transport, caught.value.billed, caught.value.retryable) == (Transport.ACCEPTED, True, False)
    return caught.value


def redirect(to: str, status: str = "302 Found") -> bytes:
    return http(b"", status=status, Location=to)


def by_path(routes: dict[str, bytes]) -> Callable[[Heard, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(routes[heard.line.split()[1]])

    return answer


@contextmanager
def names(monkeypatch: pytest.MonkeyPatch, known: dict[str, list[str]]) -> Iterator[list[str]]:
    """Host names of our own, since tests ask no name server; yields what was looked up."""
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **more: int) -> list[tuple[object, ...]]:
        asked.append(host)
        if host not in known:
            return list(await real(host, port, **more))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "getaddrinfo", getaddrinfo)
        yield asked


async def test_a_link_is_fetched_at_once_and_without_our_token() -> None:
    async with upstream(PICTURE) as store:
        link = f"{store.url}/a.png?sig=abc"
        outcome = await answered(json_body({"data": [{"url": link, "revised_prompt": "a fox"}]}))
    assert outcome.error is None
    assert outcome.finals == [b"the picture"]
    (heard,) = store.heard
    assert heard.line == "GET /a.png?sig=abc HTTP/1.1"
    assert "authorization" not in heard.headers
    assert not [value for value in heard.headers.values() if TOKEN in value]
    assert not [name for name in heard.headers if name.startswith("x-")]


async def test_links_in_a_stream_are_fetched_as_well() -> None:
    async with upstream(by_path({"/p": http(b"stage"), "/f": PICTURE})) as store:
        stage = frame(
            {
                "type": "image_generation.partial_image",
                "url": f"{store.url}/p",
                "partial_image_index": 0,
                "b64_json": None,
            }
        )
        end = frame({"type": "image_generation.completed", "url": f"{store.url}/f"})
        outcome = await answered(sse(stage, end), request(partial_images=1))
    # JSON is no picture, so the stage is lost and the picture is not
    assert kinds(outcome.events) == ["Accepted", "Notice", "FinalImage"]
    assert outcome.finals == [b"the picture"]


async def test_a_link_that_fails_never_sends_the_request_again() -> None:
    async with upstream(http(b"", status="403 Forbidden")) as store:
        async with upstream(
            json_body({"data": [{"url": f"{store.url}/gone"}, {"url": "data:;base64,eA=="}]})
        ) as server:
            outcome = await run(account(server.url, link_timeout_seconds=0.2), request(n=2))
        assert len(server.heard) == 1
        assert store.heard
    assert isinstance(outcome.failure(), ResultUnavailableError)
    assert "403" in outcome.failure().message
    assert outcome.finals == [b"x"], "the other picture is kept"


async def test_a_passing_failure_is_tried_again_for_as_long_as_there_is_time() -> None:
    passing = [b"", *(http(b"", status=f"{status} No") for status in (503, 408, 425, 429, 500, 502, 504, 507))]
    async with upstream(in_turn(*passing, *passing, PICTURE)) as store:
        assert await fetcher().fetch(f"{store.url}/a.png") == b"the picture"
        assert len(store.heard) == 19


async def test_the_time_between_attempts_grows_up_to_five_seconds_and_is_never_quite_the_same() -> None:
    waits: list[float] = []
    async with upstream(in_turn(*[http(b"", status="503 Busy")] * 8, PICTURE)) as store:
        await fetcher(first_wait=0.2, waits=waits).fetch(store.url)
    for wait, about in zip(waits, [0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5], strict=True):
        assert about * 0.8 <= wait <= about * 1.2
    assert len(set(waits)) == len(waits)


async def test_a_store_that_says_when_to_come_back_is_obeyed_if_there_is_time_for_it() -> None:
    waits: list[float] = []
    asked = [http(b"", status="503 Busy", Retry_After=seconds) for seconds in ("7", "3600", "0")]
    async with upstream(in_turn(*asked, PICTURE)) as store:
        await fetcher(first_wait=0.2, waits=waits).fetch(store.url)
    assert waits[0] == 7
    assert waits[1] < 1
    assert 0.6 < waits[2] < 1, "no sooner than without being asked"


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found"])
async def test_a_file_that_is_not_there_yet_is_waited_for_at_first(status: str) -> None:
    async with upstream(in_turn(*[http(b"", status=status)] * 5, PICTURE)) as store:
        assert await fetcher(appear=15).fetch(store.url) == b"the picture"
    async with upstream(in_turn(http(b"", status=status), PICTURE)) as store:
        await refused(fetcher(first_wait=100, appear=3).fetch(store.url))
        assert len(store.heard) == 1, "the next attempt would be too late"


async def test_the_failure_says_what_was_tried_and_what_to_do() -> None:
    async with upstream(in_turn(b"", http(b"", status="503 Busy"), http(b"", status="404 Gone"))) as store:
        failure = await refused(fetcher().fetch(f"{store.url}/a.png?sig=secret"))
    assert "the answer was 404, after 3 attempts in " in failure.message
    assert "Look for it at the provider" in failure.message
    assert "TIME_SETTING" in failure.message
    assert "secret" not in failure.message


async def test_when_the_time_is_over_the_failure_says_what_the_trouble_was() -> None:
    async def over(_seconds: float) -> None:
        raise TimeoutError

    async with upstream(http(b"", status="503 Busy")) as store:
        failure = await refused(replace(fetcher(), pause=over).fetch(store.url))
    assert "longer than 60 seconds; before that 1 attempt failed" in failure.message
    assert "because the answer was 503" in failure.message
    assert "TIME_SETTING" in failure.message


async def test_without_patience_there_is_one_attempt() -> None:
    async with upstream(in_turn(http(b"", status="503 Busy"), PICTURE)) as store:
        await refused(fetcher(appear=15).fetch(store.url, patient=False))
        assert len(store.heard) == 1


async def test_a_connection_that_hangs_leaves_time_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def hurried(*, connect_seconds: float, read_seconds: float, rule: AddressRule | None) -> httpx.AsyncClient:
        assert read_seconds == 30, "half of the time"
        return async_client(connect_seconds=connect_seconds, read_seconds=0.1, rule=rule)

    heard_before = asyncio.Event()

    async def answer(_heard: Heard, writer: asyncio.StreamWriter) -> None:
        if not heard_before.is_set():
            heard_before.set()
            await asyncio.Event().wait()
        writer.write(PICTURE)

    monkeypatch.setattr("providers.links.async_client", hurried)
    async with upstream(answer) as store:
        assert await fetcher().fetch(store.url) == b"the picture"


GARBLED = http(b"no gzip at all", media_type="image/png", Content_Encoding="gzip")


@pytest.mark.parametrize(
    ("answer", "passing", "said"),
    [
        (http(b"", status="503 Busy"), True, "503"),
        (http(b"", media_type="image/png"), True, "empty"),
        (PICTURE[:-3], True, "connection failed"),
        (http(b"", status="404 Not Found"), False, "404"),
        (http(b"", status="410 Gone"), False, "410"),
        (http(b"<html>", media_type="text/html; charset=utf-8"), False, "text/html"),
        (http(b"x" * 1001, media_type="image/png"), False, "larger than 1,000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + b"x" * 1001, False, "larger than 1,000 bytes"),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", False, "304"),
        (GARBLED, False, "compressed"),
    ],
)
async def test_what_cannot_be_fetched_says_why(answer: bytes, passing: bool, said: str) -> None:
    async with upstream(answer) as store:
        limited = fetcher(first_wait=100, seconds=3) if passing else fetcher(seconds=3)  # no time, or much of it
        failure = await refused(limited.fetch(f"{store.url}/a.png?sig=secret"))
        assert len(store.heard) == 1
    assert said in failure.message
    assert "secret" not in failure.message


async def test_a_file_that_is_announced_as_too_large_is_not_waited_for() -> None:
    async def announce(_heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1001\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(10)

    async with upstream(announce) as store:
        assert "larger than" in (await refused(fetcher(seconds=3).fetch(store.url))).message


async def test_a_store_that_drips_is_given_up() -> None:
    async def drip(_heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with upstream(drip) as store:
        failure = await refused(fetcher(seconds=0.2).fetch(store.url))
    assert "longer than 0.2 seconds" in failure.message


@pytest.mark.parametrize(
    "link",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/a",
        "gopher://x",
        "//host/a",
        "/a.png",
        "",
        "http://",
        "ht tp:",
    ],
)
async def test_only_http_links_are_followed(link: str) -> None:
    assert "http" in (await refused(fetcher(private=True).fetch(link))).message


async def test_redirects_are_followed_up_to_three() -> None:
    async with upstream(
        by_path({"/3": redirect("/2"), "/2": redirect("1", "307 T"), "/1": redirect("/0", "301 M"), "/0": PICTURE})
    ) as store:
        assert await fetcher().fetch(f"{store.url}/3") == b"the picture"
    async with upstream(redirect("/again")) as store:
        failure = await refused(fetcher().fetch(store.url))
        assert len(store.heard) == 4
    assert "more than 3 times" in failure.message


@pytest.mark.parametrize(
    "target",
    [
        "http://10.0.0.1/a",
        "http://192.168.1.1/a",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.100.100.200/",
        "http://168.63.129.16/",
        "http://[fd00:ec2::254]/",
        "http://[fe80::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2002:0a00:0001::1]/",
        "http://0.0.0.0/",
        "http://2130706433.nip/",
        "file:///etc/passwd",
    ],
)
async def test_a_redirect_into_a_private_address_is_refused(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_NETWORK", "open")  # so that it is the rule for links that refuses
    async with upstream(redirect(target)) as store:
        with names(monkeypatch, {"2130706433.nip": ["10.0.0.1"]}):
            failure = await refused(fetcher().fetch(store.url))
        assert len(store.heard) == 1
    assert "public internet" in failure.message or "not an http" in failure.message
    if "http" in target:
        assert "SOME_SETTING=true" in failure.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433", "0x7f.1"])
async def test_this_machine_is_private_unless_the_upstream_itself_is_on_it(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_NETWORK", "open")
    async with upstream(PICTURE) as store:
        port = store.url.rpartition(":")[2]
        await refused(fetcher(loopback=False).fetch(f"http://{host}:{port}/"))
        assert store.heard == []


async def test_private_addresses_can_be_allowed() -> None:
    async with upstream(PICTURE) as store:
        assert await fetcher(loopback=False, private=True).fetch(store.url) == b"the picture"


async def test_a_host_with_one_private_address_is_refused_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_NETWORK", "open")
    with names(monkeypatch, {"pictures.example": ["93.184.216.34", "10.0.0.1"]}):
        failure = await refused(fetcher().fetch("http://pictures.example/a.png"))
    assert "10.0.0.1" in failure.message


async def test_a_name_is_looked_up_once_and_the_checked_address_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstream(PICTURE) as store:
        port = store.url.rpartition(":")[2]
        with names(monkeypatch, {"pictures.example": ["127.0.0.1"]}) as asked:
            assert await fetcher().fetch(f"http://pictures.example:{port}/a.png") == b"the picture"
        assert [name for name in asked if name == "pictures.example"] == ["pictures.example"]
        assert store.heard[0].headers["host"] == f"pictures.example:{port}"


@pytest.mark.parametrize("addresses", [["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
async def test_an_address_that_does_not_answer_is_passed_over(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with upstream(PICTURE) as store:
        port = store.url.rpartition(":")[2]
        with names(monkeypatch, {"pictures.example": addresses}):
            assert await fetcher().fetch(f"http://pictures.example:{port}/") == b"the picture"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for pictures.example, with its key, that nobody else has ever seen."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("NO OPENSSL: there is no openssl program to make a certificate with, so TLS was not tested")
    subject = ["-subj", "/CN=pictures.example", "-addext", "subjectAltName=DNS:pictures.example"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = [openssl, "req", "-x509", *curve, *subject, "-keyout", str(file), "-out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return file


async def test_tls_is_checked_against_the_name_in_the_link_and_not_the_address(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr("providers.http._tls", lambda: trusting)
    presenting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    presenting.load_cert_chain(certificate)
    known = {"pictures.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}
    async with upstream(PICTURE, tls=presenting) as store:
        port = store.url.rpartition(":")[2]
        with names(monkeypatch, known):
            assert await fetcher().fetch(f"https://pictures.example:{port}/a.png") == b"the picture"
            for host in ("other.example", "127.0.0.1"):
                at_once = fetcher(first_wait=100, seconds=3)
                assert "certificate" in (await refused(at_once.fetch(f"https://{host}:{port}/a.png"))).message
        assert len(store.heard) == 1


async def test_the_network_switch_holds_for_links_too() -> None:
    failure = await refused(fetcher(private=True).fetch("http://192.0.2.1/a.png"))
    assert "DARKROOM_NETWORK=loopback" in failure.message


async def test_cookies_are_not_kept() -> None:
    async with upstream(
        by_path({"/a": http(b"", status="302 F", Location="/b", Set_Cookie="a=b"), "/b": PICTURE})
    ) as store:
        await fetcher().fetch(f"{store.url}/a")
        assert "cookie" not in store.heard[1].headers


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "100.64.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "0.0.0.0"),
        *("::1", "::", "fc00::1", "fe80::1", "ff02::1", "::ffff:10.0.0.1", "2001:db8::1", "64:ff9b::7f00:1"),
        "2002:7f00:1::",
    ],
)
def test_other_addresses_are_not(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


async def test_a_picture_that_waits_behind_a_final_event_is_not_forgotten() -> None:
    async with upstream(PICTURE) as store:
        outcome = await answered(sse(final(b"one"), frame({"data": [{"url": store.url}]})), request(n=2))
    assert outcome.finals == [b"one", b"the picture"]


async def test_a_picture_whose_link_works_only_later_keeps_no_other_waiting_and_keeps_its_place() -> None:
    asked: list[str] = []

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        path = heard.line.split()[1]
        asked.append(path)
        missing = path == "/1" and asked.count("/1") < 3
        writer.write(http(b"", status="404 Not Found") if missing else http(path.encode(), media_type="image/png"))

    async with upstream(answer) as store:
        links: list[JsonValue] = [{"url": f"{store.url}/{number}"} for number in (1, 2, 3)]
        streamed = sse(*[frame({"type": "image_generation.completed", "url": f"{store.url}/{n}"}) for n in (1, 2, 3)])
        for whole in (json_body({"data": links}), streamed):
            asked.clear()
            outcome = await answered(whole, request(n=3))
            assert outcome.error is None
            assert asked == ["/1", "/2", "/3", "/1", "/1"]
            finals = [(event.index, event.data) for event in outcome.events if isinstance(event, FinalImage)]
            assert finals == [(1, b"/2"), (2, b"/3"), (0, b"/1")]


async def test_a_picture_that_is_told_again_takes_the_place_of_its_link_that_did_not_work() -> None:
    asked: list[str] = []

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        asked.append(heard.line)
        writer.write(http(b"", status="404 Not Found") if len(asked) == 1 else http(b"done", media_type="image/png"))

    async with upstream(answer) as store:
        first = frame({"type": "image_generation.completed", "url": f"{store.url}/1"})
        outcome = await answered(sse(first, frame({"data": [{"url": f"{store.url}/1"}]})))

    assert outcome.error is None
    assert [event.index for event in outcome.events if isinstance(event, FinalImage)] == [0]
    assert len(asked) == 2


async def test_a_stage_whose_link_does_not_work_is_not_waited_for() -> None:
    async with upstream(http(b"", status="503 Busy")) as store:
        stage = frame({"type": "image_generation.partial_image", "url": store.url, "partial_image_index": 0})
        outcome = await answered(sse(stage, final(b"done")), request(partial_images=1))
        assert len(store.heard) == 1
    assert kinds(outcome.events) == ["Accepted", "Notice", "FinalImage"]
