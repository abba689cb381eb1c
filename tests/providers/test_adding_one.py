"""A new provider is a folder and a line in the registry; everything else follows from its request model."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.clients import START, execute, start, watch
from tests.process import serve

pytestmark = pytest.mark.anyio

WITH_TINY = """
import providers.registry
from tests.providers.tiny import DEFINITION
providers.registry.PROVIDERS = (*providers.registry.PROVIDERS, DEFINITION)
from graph.cli import main
main()
"""

ASKED = """
query($id: ID!) { task(id: $id) { provider { name title } request { ... on TinyRequest { colour side } } } }
"""


async def test_a_provider_is_served_without_a_change_outside_its_folder(tmp_path: Path) -> None:
    with serve(tmp_path, command=[sys.executable, "-c", WITH_TINY, "serve"]) as server:
        request = {"tiny": {"prompt": "a square", "colour": "BLUE", "side": 8}}
        task_id = await start(server, {"input": {"request": request}})
        events = await watch(server, task_id)
        async with httpx.AsyncClient(trust_env=False) as client:
            picture = Image.open(io.BytesIO((await client.get(events[-2]["image"]["url"])).content))
            charges = (await client.get(f"{server.url}/sandbox/ledger")).json()
        asked = await execute(
            server,
            ASKED,
            {"id": task_id},
        )
        catalogue = await execute(server, "{ providers { name parameters { name type maximum options { name } } } }")
        refused = await execute(server, START, {"input": {"request": {"tiny": {"prompt": "", "side": 65}}}})

    assert events[-1]["__typename"] == "TaskSucceeded"
    assert (picture.size, picture.getpixel((0, 0))) == ((8, 8), (0, 0, 255))
    assert [charge["provider"] for charge in charges] == ["tiny"]
    assert asked["data"]["task"] == {
        "provider": {"name": "tiny", "title": "Tiny"},
        "request": {"colour": "BLUE", "side": 8},
    }
    tiny = next(one for one in catalogue["data"]["providers"] if one["name"] == "tiny")
    assert [parameter["name"] for parameter in tiny["parameters"]] == ["prompt", "colour", "side", "seconds"]
    problems = refused["data"]["startGeneration"]["problems"]
    assert [problem["path"][-1] for problem in problems] == ["prompt", "side"]
