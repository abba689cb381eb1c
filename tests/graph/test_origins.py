"""`DARKROOM_ALLOWED_ORIGINS` as people write it: what is meant works, and what cannot is refused before the start."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from graph.settings import ServerSettings
from graph.settings_report import explain
from tests.server import LiveServer, running

APP = "https://app.example.com"
SECRET = "never-to-be-shown"


def allowed(monkeypatch: pytest.MonkeyPatch, text: str) -> list[str]:
    """The origins that a variable with this text allows."""
    monkeypatch.setenv("DARKROOM_ALLOWED_ORIGINS", text)
    return ServerSettings().allowed_origins


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        (APP, [APP]),
        (f"{APP}/", [APP]),
        ("HTTPS://App.Example.com:443", [APP]),
        (f"{APP}, http://localhost:5173/", [APP, "http://localhost:5173"]),
        (f'["{APP}/", "http://[::1]:80"]', [APP, "http://[::1]"]),
        ("*", ["*"]),
        ("", []),
        ("chrome-extension://abcdef", ["chrome-extension://abcdef"]),
    ],
)
def test_origins_are_read_as_they_are_written(monkeypatch: pytest.MonkeyPatch, text: str, origins: list[str]) -> None:
    assert allowed(monkeypatch, text) == origins


@pytest.mark.parametrize(
    "text",
    [
        "app",
        '["app"]',
        "[app]",
        "app.example.com",
        "null",
        f"{APP}/path",
        f"https://me:{SECRET}@app.example.com?key={SECRET}",
        "https://*.example.com",
        "https://app.example.com:port",
        "https://[",
        "[1]",
    ],
)
def test_what_is_no_origin_is_refused_by_the_name_of_the_variable(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        allowed(monkeypatch, text)

    (line,) = explain(caught.value)
    assert line.startswith("DARKROOM_ALLOWED_ORIGINS")
    assert SECRET not in line


def test_a_page_with_a_slash_in_the_setting_may_fetch(tmp_path: Path) -> None:
    with running(tmp_path, allowed_origins=[f"{APP}/"]) as server, httpx.Client(trust_env=False) as client:
        answer = client.post(f"{server.url}/graphql", json={"query": "{ __typename }"}, headers={"origin": APP})

    assert answer.headers["access-control-allow-origin"] == APP


@pytest.mark.anyio
async def test_a_refused_websocket_names_the_setting(server: LiveServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(InvalidStatus):
        async with connect(
            f"{server.websocket_url}/graphql",
            origin=Origin(APP),
            subprotocols=[Subprotocol("graphql-transport-ws")],
            proxy=None,
        ):
            pass

    (line,) = [one.getMessage() for one in caplog.records if one.name.startswith("graph")]
    assert repr(APP) in line
    assert "DARKROOM_ALLOWED_ORIGINS" in line
