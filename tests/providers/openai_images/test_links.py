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
from pathlib import Path

import pytest

from providers.errors import ResultUnavailableError, Transport
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


def fetcher(*, max_bytes: int = 1000, seconds: float = 5, loopback: bool = True, private: bool = False) -> LinkFetcher:
    return LinkFetcher(
        LinkLimits(max_bytes=max_bytes, seconds=seconds, first_wait_seconds=0),
        allow_loopback=loopback,
        allow_private=private,
        private_setting="SOME_SETTING",
    )


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
            outcome = await run(account(server.url), request(n=2))
        assert len(server.heard) == 1
        assert len(store.heard) == 1
    assert isinstance(outcome.failure(), ResultUnavailableError)
    assert "403" in outcome.failure().message
    assert outcome.finals == [b"x"], "the other picture is kept"


async def test_a_passing_failure_is_tried_again() -> None:
    answers = iter([b"", http(b"", status="503 Busy"), PICTURE])

    async def answer(_heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(next(answers))

    async with upstream(answer) as store:
        assert await fetcher().fetch(f"{store.url}/a.png") == b"the picture"
        assert len(store.heard) == 3


@pytest.mark.parametrize(
    ("answer", "attempts", "said"),
    [
        (http(b"", status="503 Busy"), 3, "503"),
        (http(b"", status="404 Not Found"), 1, "404"),
        (http(b"<html>", media_type="text/html; charset=utf-8"), 1, "text/html"),
        (http(b"", media_type="image/png"), 3, "empty"),
        (PICTURE[:-3], 3, "connection failed"),
        (http(b"x" * 1001, media_type="image/png"), 1, "larger than 1,000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + b"x" * 1001, 1, "larger than 1,000 bytes"),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", 1, "304"),
    ],
)
async def test_what_cannot_be_fetched_says_why(answer: bytes, attempts: int, said: str) -> None:
    async with upstream(answer) as store:
        failure = await refused(fetcher().fetch(f"{store.url}/a.png?sig=secret"))
        assert len(store.heard) == attempts
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
            await refused(fetcher().fetch(f"https://other.example:{port}/a.png"))
            await refused(fetcher().fetch(f"https://127.0.0.1:{port}/a.png"))
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
