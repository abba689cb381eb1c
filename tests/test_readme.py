"""What the README promises is what there is."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
from typer.main import get_command

from graph.cli import cli
from graph.docs import written
from providers.registry import PROVIDERS
from tasks.status import TaskStatus
from tests.clients import execute, openai_images, start, subscribe, watch
from tests.process import serve
from tests.server import LiveServer

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def example(name: str) -> str:
    """A GraphQL document of the README, by the name of its operation."""
    found = re.search(rf"```graphql\n(\w+ {name}\b.*?)```", TEXT, re.S)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", ["README.md", "docs/providers.md"])
def test_the_tables_in_the_documents_are_those_of_the_code(name: str) -> None:
    text = (ROOT / name).read_text()

    assert written(text) == text, "run `make docs`"


def test_every_provider_is_documented() -> None:
    text = (ROOT / "docs/providers.md").read_text()

    assert not [one.name for one in PROVIDERS if f"<!-- parameters {one.name}: make docs -->" not in text]


def test_every_file_and_command_the_readme_names_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", TEXT)
    commands = set(re.findall(r"^darkroom (\w+)|`darkroom (\w+)`", TEXT, re.MULTILINE))
    targets = set(re.findall(r"`make ([a-z]+)`|^make ([a-z]+)", TEXT, re.MULTILINE))

    assert not [link for link in links if not (ROOT / link).exists()]
    makefile = (ROOT / "Makefile").read_text()
    assert not [name for pair in targets for name in pair if name and f"\n{name}:" not in makefile]
    known = set(get_command(cli).commands)  # type: ignore[attr-defined]
    assert not [name for pair in commands for name in pair if name and name not in known]


async def test_the_first_mutation_can_be_pasted(server: LiveServer) -> None:
    body = re.search(
        r"curl -s http://127.0.0.1:8000/graphql [^']*'content-type: application/json' -d '(.*?)'\n", TEXT, re.S
    )
    assert body is not None
    request = json.loads(body[1])
    answer = await execute(server, request["query"], request["variables"])

    assert answer["data"]["startGeneration"]["__typename"] == "StartGenerationSuccess"


async def test_the_history_query_can_be_pasted(server: LiveServer) -> None:
    assert "errors" not in await execute(server, example("History"))


def test_the_states_the_readme_lists_are_those_there_are() -> None:
    sentence = re.search(r"^A task is .*$", TEXT, re.MULTILINE)
    assert sentence is not None

    assert re.findall(r"`([A-Z_]+)`", sentence[0]) == [status.name for status in TaskStatus]


async def test_the_dashboard_example_can_be_pasted(server: LiveServer) -> None:
    async with aclosing(subscribe(server, example("Wall"), {})) as messages:
        kinds = [(await anext(messages))["payload"]["data"]["activity"]["__typename"] for _ in range(2)]

    assert kinds == ["ActivityStarted", "ActivityCounted"]


async def test_the_cancel_example_can_be_pasted(server: LiveServer) -> None:
    task_id = await start(server, openai_images("A pond [[sandbox: latency=1]]"))
    answer = await execute(server, example("Cancel"), {"id": task_id})

    result = answer["data"]["cancelTask"]
    assert result["task"]["status"] == "CANCELED"
    assert result["cancellation"]["outcome"] in ("NEVER_SENT", "ABANDONED")


async def test_the_retry_example_can_be_pasted(server: LiveServer) -> None:
    failed = await start(server, openai_images("A marsh [[sandbox: refuse=input]]"))
    assert (await watch(server, failed))[-1]["__typename"] == "TaskFailed"
    answer = await execute(server, example("Retry"), {"id": failed})

    assert answer["data"]["retryTask"]["task"]["retriedFrom"]["id"] == failed


def test_the_watcher_without_a_task_says_what_it_needs() -> None:
    command = [sys.executable, str(ROOT / "docs/examples/watch.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert done.stderr.startswith("usage:")
    assert "TASK_ID" in done.stderr


async def test_the_watcher_saves_every_stage_of_a_picture_and_the_history_survives(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        body = re.search(r"-d '(.*?)'\n", TEXT, re.S)
        assert body is not None
        request = json.loads(body[1])
        answer = await execute(server, request["query"], request["variables"])
        task_id = answer["data"]["startGeneration"]["task"]["id"]
        command = [sys.executable, str(ROOT / "docs/examples/watch.py"), task_id, f"{server.url}/"]
        process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()

    assert out.decode().splitlines()[-1].split() == ["12", "TaskSucceeded"]
    saved = await asyncio.to_thread(lambda: sorted(path.name for path in tmp_path.glob("*.png")))
    assert saved == [
        "picture-0-partial-0.png",
        "picture-0-partial-1.png",
        "picture-0-partial-2.png",
        "picture-0.png",
    ]
