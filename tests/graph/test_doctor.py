"""`darkroom doctor` without a proxy: what it says of a healthy server, of one that is not, and of what is none."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from socket import create_server

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from typer.testing import CliRunner

from graph.cli import cli
from graph.doctor import examination, live
from graph.doctor.examination import examine
from graph.doctor.finding import Finding, Site
from tests.clients import execute, generate
from tests.process import free_port, serve
from tests.server import LiveServer, running
from tests.serving import serving

pytestmark = pytest.mark.anyio

SECRET = "never-to-be-shown"


async def findings(url: str, seconds: float = 0.2) -> dict[str, Finding]:
    """What is found, by the name of the check."""
    async with aclosing(examine(Site.of(url), seconds)) as found:
        return {finding.name: finding async for finding in found}


async def test_a_healthy_server_passes_and_nothing_is_started(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        found = await findings(server.url)
        tasks = await execute(server, "{ tasks { totalCount } }")
        async with httpx.AsyncClient(trust_env=False) as client:
            charges = (await client.get(f"{server.url}/sandbox/ledger")).json()

    assert {finding.name: finding.ok for finding in found.values() if not finding.ok} == {"pictures": None}
    assert len(found) == 12
    assert tasks["data"]["tasks"]["totalCount"] == 0
    assert charges == []


async def test_a_picture_is_fetched_where_there_is_one(server: LiveServer) -> None:
    await generate(server, "A mill")
    found = await findings(f"{server.url}/graphql")

    assert found["pictures"].ok
    assert f"{server.url}/images/" in found["pictures"].message


async def test_links_that_lead_elsewhere_are_found_by_the_setting_that_mends_them(tmp_path: Path) -> None:
    with running(tmp_path, public_url="https://pictures.invalid") as server:
        await generate(server, "A mill")
        found = (await findings(server.url))["pictures"]

    assert found.ok is False
    assert found.message == "links to pictures begin with https://pictures.invalid"
    assert f"DARKROOM_PUBLIC_URL={server.url}." in found.remedy


async def test_a_server_that_reads_less_on_purpose_is_healthy(tmp_path: Path) -> None:
    with running(tmp_path, max_body_bytes=2048) as server:
        found = (await findings(server.url))["request size"]

    assert found.ok
    assert "DARKROOM_MAX_BODY_BYTES" in found.message


async def test_silence_is_listened_to_for_longer_than_any_answer_may_take(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PATIENCE", 1.0)
    monkeypatch.setattr(examination, "PATIENCE", 1.0)
    found = await findings(server.url, seconds=1.5)

    assert found["websocket stays open"].ok
    assert found["event stream stays open"].ok


async def test_signs_of_life_are_counted(tmp_path: Path) -> None:
    with running(tmp_path, ping_seconds=0.2) as server:
        found = await findings(server.url, seconds=1)

    signs = int(found["event stream stays open"].message.split()[-4])
    assert 1 <= signs <= 5


async def test_a_server_that_stops_meanwhile_is_told_from_a_proxy_that_cuts(tmp_path: Path) -> None:
    found: dict[str, Finding] = {}
    with serve(tmp_path) as server:
        async with aclosing(examine(Site.of(server.url), 30)) as examined:
            async for finding in examined:
                found[finding.name] = finding
                if finding.name == "event stream encoding":
                    stopped = asyncio.create_task(asyncio.to_thread(server.stop))
        await stopped

    assert "with code 1012" in found["websocket stays open"].message
    assert "it was stopped" in found["websocket stays open"].remedy
    assert found["event stream stays open"].message.startswith("ended after")


async def test_a_caller_with_too_many_connections_is_told_why(tmp_path: Path) -> None:
    with running(tmp_path, max_connections_per_caller=1) as server:
        found = await findings(server.url)

    assert found["websocket"].ok
    assert "DARKROOM_MAX_CONNECTIONS_PER_CALLER" in found["event stream"].message
    assert "X-Forwarded-For" in found["event stream"].remedy


async def test_an_address_where_nobody_is_ends_the_examination() -> None:
    port = free_port()

    assert [(one.name, one.ok) for one in (await findings(f"http://127.0.0.1:{port}")).values()] == [
        ("connection", False)
    ]


async def test_a_name_that_nobody_has_is_named() -> None:
    found = await findings("http://darkroom.invalid")

    assert found["connection"].message == "the name darkroom.invalid is not known"


async def test_a_port_without_tls_is_named(server: LiveServer) -> None:
    found = await findings(server.url.replace("http://", "https://"))

    assert "does not speak TLS" in found["connection"].message
    assert "http://" in found["connection"].remedy


async def test_what_is_no_darkroom_is_told_apart() -> None:
    async def page(_: Request) -> Response:
        return PlainTextResponse("hello")

    async def elsewhere(_: Request) -> Response:
        return RedirectResponse("https://darkroom.invalid/healthz")

    async with serving(Starlette(routes=[Route("/healthz", page)])) as url:
        other = (await findings(url))["Darkroom"]
    async with serving(Starlette(routes=[Route("/healthz", elsewhere)])) as url:
        moved = (await findings(url))["Darkroom"]

    assert (other.ok, moved.ok) == (False, False)
    assert "Something else answers here" in other.remedy
    assert "https://darkroom.invalid/healthz" in moved.message


async def test_a_server_that_accepts_and_says_nothing_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "PATIENCE", 0.2)
    with create_server(("127.0.0.1", 0)) as silent:  # connected to by the kernel, and read by nobody
        found = (await findings(f"http://127.0.0.1:{silent.getsockname()[1]}"))["Darkroom"]

    assert found.message == "it did not answer within 0.2 s"
    assert "accepts the connection and says nothing" in found.remedy


async def test_a_login_that_is_asked_for_is_told_from_one_that_is_refused() -> None:
    async def closed(_: Request) -> Response:
        return PlainTextResponse("who are you?", 401)

    async with serving(Starlette(routes=[Route("/healthz", closed)])) as url:
        asked = (await findings(url))["Darkroom"]
        refused = (await findings(url.replace("//", f"//anna:{SECRET}@")))["Darkroom"]

    assert "Put it into the address" in asked.remedy
    assert "refused the login in the address" in refused.remedy
    assert SECRET not in f"{refused}"


async def test_a_redirect_in_a_circle_is_told_from_one_that_leads_somewhere() -> None:
    async def again(request: Request) -> Response:
        return RedirectResponse(str(request.url))

    async with serving(Starlette(routes=[Route("/healthz", again)])) as url:
        found = (await findings(url))["Darkroom"]

    assert found.message == "/healthz leads to itself"
    assert "X-Forwarded-Proto" in found.remedy


def test_findings_are_printed_for_a_person_and_for_a_program(server: LiveServer) -> None:
    text = CliRunner().invoke(cli, ["doctor", server.url, "--seconds", "1"])
    program = CliRunner().invoke(cli, ["doctor", server.url, "--seconds", "1", "--json"])
    report = json.loads(program.stdout)

    assert (text.exit_code, program.exit_code) == (0, 0)
    assert text.stdout.count("✓") >= 11
    assert "✗" not in text.stdout
    assert (report["ok"], report["url"], len(report["checks"])) == (True, server.url, 12)
    assert report["checks"][0].keys() == {"name", "ok", "message", "remedy"}


def test_a_fault_is_printed_with_its_remedy_and_fails_the_command() -> None:
    done = CliRunner().invoke(cli, ["doctor", f"http://anna:{SECRET}@127.0.0.1:{free_port()}/?key={SECRET}"])

    assert done.exit_code == 1
    assert done.stdout.startswith("✗ connection")
    assert "Start the proxy" in done.stdout
    assert SECRET not in done.output


@pytest.mark.parametrize(
    "address",
    [
        "darkroom.example.com",
        f"ws://anna:{SECRET}@host",
        f"http://anna:{SECRET}@:x",
        f"//{SECRET}@",
        "http:",
        "http://127.0.0.1:99999",
        f"http://{SECRET}@host:0",
    ],
)
def test_what_is_no_address_is_refused_without_its_secrets(address: str) -> None:
    done = CliRunner().invoke(cli, ["doctor", address])

    assert done.exit_code == 2
    assert "is not the address of a server" in done.output
    assert SECRET not in done.output
