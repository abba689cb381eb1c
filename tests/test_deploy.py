"""What docs/deploy.md says about proxies: its configurations are run, and `darkroom doctor` sees what breaks them."""

from __future__ import annotations

import asyncio
import configparser
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from graph.callbacks import LARGEST
from graph.cli import cli
from graph.settings import ServerSettings
from tests.clients import WATCH, generate, subscribe
from tests.postgres import PostgresServer
from tests.process import Process, free_port, serve
from tests.proxies import Certificate, Proxy, blocks, caddy, certify, nginx, program, traefik

pytestmark = pytest.mark.anyio

Starter = Callable[[Path, tuple[str, ...], Certificate], AbstractContextManager[Proxy]]
SECRET = "never-to-be-shown"
CHECKS = (
    "connection",
    "Darkroom",
    "latency",
    "request size",
    "report size",
    "pictures",
    "websocket",
    "websocket events",
    "event stream",
    "event stream encoding",
    "websocket stays open",
    "event stream stays open",
)
NGINX = blocks("nginx", "nginx")[0]
UPGRADE = "    proxy_set_header Upgrade $http_upgrade;\n"
WRONG = {
    "no upgrade": ((UPGRADE, ""), {"websocket": "$http_upgrade"}),
    "no subprotocol": (
        (UPGRADE, f'{UPGRADE}proxy_set_header Sec-WebSocket-Protocol "";'),
        {"websocket": "Sec-WebSocket-Protocol"},
    ),
    "answers are collected": (
        ("proxy_buffering off;", "proxy_ignore_headers X-Accel-Buffering;"),
        {"event stream": "proxy_buffering off"},
    ),
    "answers are compressed": (
        ("proxy_buffering off;", "gzip on; gzip_types text/event-stream;"),
        {"event stream encoding": "gzip_types"},
    ),
    "silence is cut": (
        ("proxy_read_timeout 60s;", "proxy_read_timeout 400ms;"),
        {"websocket stays open": "proxy_read_timeout", "event stream stays open": "proxy_read_timeout"},
    ),
    "small requests only": (
        ("client_max_body_size 1m;", "client_max_body_size 100k;"),
        {"request size": "client_max_body_size"},
    ),
    "small reports only": (
        ("client_max_body_size 64m;", ""),
        {"report size": "client_max_body_size"},
    ),
    "another host": (
        ("    proxy_set_header Host $http_host;\n", ""),
        {"pictures": "$http_host", "websocket": "$http_host"},
    ),
    "another scheme": (
        ("    proxy_set_header X-Forwarded-Proto $scheme;\n", ""),
        {"pictures": "X-Forwarded-Proto"},
    ),
    "another page": (("location = /graphql {", "location = /graphql { return 200 hello;"), {"Darkroom": "/graphql"}),
}


@dataclass(frozen=True)
class Site:
    """Two nodes on one PostgreSQL, with a picture, and what a proxy needs to stand before them."""

    server: Process
    nodes: tuple[str, ...]
    certificate: Certificate


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Shared by all tests here. The nodes ping every half second, so that seconds show what minutes would."""
    program("nginx")
    folder = tmp_path_factory.mktemp("site")
    with postgres_server.database() as url, ExitStack() as stack:
        settings = {
            "DARKROOM_DATABASE_URL": url,
            "DARKROOM_STORAGE_URL": f"file://{folder}/images",
            "DARKROOM_PING_SECONDS": "0.5",
        }
        nodes = [stack.enter_context(serve(folder / name, **settings)) for name in ("one", "other")]
        asyncio.run(generate(nodes[0]))
        yield Site(nodes[0], tuple(node.url.removeprefix("http://") for node in nodes), certify(folder))


def doctor(url: str, certificate: Certificate, seconds: float = 1) -> tuple[int, dict[str, tuple[bool | None, str]]]:
    """What `darkroom doctor` finds: its exit code, and for each check whether it passed, and the remedy."""
    command = ["doctor", url, "--json", "--seconds", str(seconds)]
    done = CliRunner().invoke(cli, command, env={"SSL_CERT_FILE": str(certificate.file)})
    report = json.loads(done.stdout)
    return done.exit_code, {one["name"]: (one["ok"], one["remedy"]) for one in report["checks"]}


@pytest.mark.parametrize("start_proxy", [nginx, traefik, caddy])
def test_a_proxy_as_documented_passes_every_check(start_proxy: Starter, site: Site, tmp_path: Path) -> None:
    with start_proxy(tmp_path, site.nodes, site.certificate) as proxy:
        code, found = doctor(proxy.url, site.certificate, seconds=2)

    assert {name: remedy for name, (ok, remedy) in found.items() if not ok} == {}
    assert (code, tuple(found)) == (0, CHECKS)


@pytest.mark.parametrize("fault", WRONG)
def test_the_doctor_names_what_is_wrong_with_nginx(fault: str, site: Site, tmp_path: Path) -> None:
    (old, new), expected = WRONG[fault]
    assert old in NGINX
    with nginx(tmp_path, site.nodes, site.certificate, NGINX.replace(old, new)) as proxy:
        code, found = doctor(proxy.url, site.certificate)

    wrong = {name: remedy for name, (ok, remedy) in found.items() if not ok}
    assert code == 1
    assert wrong.keys() == expected.keys(), wrong
    assert all(word in wrong[name] for name, word in expected.items()), wrong


def test_pings_keep_open_what_a_proxy_would_cut(site: Site, tmp_path: Path) -> None:
    shorter = NGINX.replace("proxy_read_timeout 60s;", "proxy_read_timeout 2s;")
    with nginx(tmp_path, site.nodes, site.certificate, shorter) as proxy:
        code, _ = doctor(proxy.url, site.certificate, seconds=4)

    assert code == 0


def test_a_node_that_is_away_is_not_noticed_behind_the_proxy(site: Site, tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with nginx(tmp_path, (site.nodes[0], nobody), site.certificate) as proxy:
        code, _ = doctor(proxy.url, site.certificate)

    assert code == 0


def test_a_proxy_that_reaches_no_node_is_told_from_a_darkroom_that_is_not_well(site: Site, tmp_path: Path) -> None:
    with nginx(tmp_path, [f"127.0.0.1:{free_port()}" for _ in site.nodes], site.certificate) as proxy:
        code, found = doctor(proxy.url, site.certificate)

    assert code == 1
    assert "The proxy does not reach Darkroom" in found["Darkroom"][1]
    assert found.keys() == {"connection", "Darkroom"}


async def test_a_client_goes_on_through_the_proxy_at_whichever_node_it_comes_to(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.certificate.file))
    whole = await generate(site.server, "A ferry", partialImages=3)
    seen: list[dict[str, Any]] = []
    with nginx(tmp_path, site.nodes, site.certificate) as proxy:
        while len(seen) < len(whole):
            after = {"id": whole[0]["task"]["id"], "after": len(seen)}
            async with aclosing(subscribe(proxy, WATCH, after)) as messages:
                seen.append((await anext(messages))["payload"]["data"]["taskEvents"])

    assert [event["id"] for event in seen] == [event["id"] for event in whole]


def test_a_login_lets_the_doctor_in_and_is_never_printed(site: Site, tmp_path: Path) -> None:
    server, callbacks = blocks("A login", "nginx")
    hashed = subprocess.run(["openssl", "passwd", "-apr1", SECRET], check=True, capture_output=True, text=True).stdout
    (tmp_path / "users").write_text(f"anna:{hashed}")
    server = server.replace("/etc/nginx/darkroom.users", str(tmp_path / "users"))
    text = NGINX.replace("    location / {", server + "    location / {").replace("64m;\n", f"64m;\n{callbacks}")
    with nginx(tmp_path, site.nodes, site.certificate, text) as proxy:
        refused = doctor(proxy.url, site.certificate)
        trusting = {"SSL_CERT_FILE": str(site.certificate.file)}
        address = proxy.url.replace("://", f"://anna:{SECRET}@")
        output = [
            CliRunner().invoke(cli, ["doctor", address, "--seconds", "1", *more], env=trusting)
            for more in ([], ["--json"])
        ]

    assert refused[0] == 1
    assert "https://user:password@" in refused[1]["Darkroom"][1]
    assert [one.exit_code for one in output] == [0, 0]
    assert SECRET not in "".join(one.output for one in output)


def test_a_certificate_that_nobody_vouches_for_is_named(site: Site, tmp_path: Path) -> None:
    with nginx(tmp_path, site.nodes, site.certificate) as proxy:
        done = CliRunner().invoke(cli, ["doctor", proxy.url])

    assert done.exit_code == 1
    assert "self-signed certificate" in done.output
    assert "SSL_CERT_FILE" in done.output


def test_caddy_leaves_event_streams_alone_where_it_compresses_as_documented(site: Site, tmp_path: Path) -> None:
    with caddy(tmp_path, site.nodes, site.certificate, blocks("Caddy", "caddyfile")[1]) as proxy:
        code, _ = doctor(proxy.url, site.certificate)

    assert code == 0


def test_a_provider_may_report_as_much_as_darkroom_takes() -> None:
    location = re.search(r"location /callbacks/ \{.*?client_max_body_size (\d+)m;", NGINX, re.S)
    assert location is not None

    assert int(location[1]) * 1024 * 1024 == LARGEST
    assert "client_max_body_size 1m;" in NGINX
    assert ServerSettings.model_fields["max_body_bytes"].default == 1024 * 1024
    assert ServerSettings.model_fields["ping_seconds"].default == 20


def test_systemd_waits_for_longer_than_darkroom_does(tmp_path: Path) -> None:
    text = blocks("Two nodes on one machine", "ini")[0]
    unit = configparser.RawConfigParser(strict=False, interpolation=None)
    unit.read_string(text)
    shutdown = re.search(r"DARKROOM_SHUTDOWN_SECONDS=(\d+)", text)
    assert shutdown is not None

    assert unit.getint("Service", "TimeoutStopSec") >= int(shutdown[1]) + 15


def test_systemd_takes_the_unit_as_it_is(tmp_path: Path) -> None:
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed")
    text = blocks("Two nodes on one machine", "ini")[0]
    unit = tmp_path / "darkroom@8000.service"
    unit.write_text(
        text.replace("/opt/darkroom/.venv/bin/darkroom", sys.executable).replace("User=darkroom", "User=root")
    )
    done = subprocess.run([analyze, "verify", "--recursive-errors=no", unit], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
