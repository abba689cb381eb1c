"""The words at the start are true: who is paid, where everything is, who runs the tasks, and what stopping does."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from graph.welcome import welcome
from providers.registry import PROVIDERS
from tasks.darkroom import Darkroom
from tasks.settings import TaskSettings

SECRET = "never-to-be-shown"


def words(home: Path, *, works: bool = True, **settings: Any) -> str:
    """What is printed, in one line for each line of it."""

    async def say() -> str:
        darkroom = Darkroom(
            TaskSettings(home=home, **settings),
            PROVIDERS,
            sandbox_url="http://127.0.0.1:1/sandbox",
            public_url=None,
            base_url="http://127.0.0.1:1",
            works=works,
        )
        console = Console(file=io.StringIO(), width=1000)
        welcome(console, "http://127.0.0.1:1", darkroom, works=works)
        await darkroom.close()
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert isinstance(text, str)
        return text

    return asyncio.run(say())


def request(text: str) -> Mapping[str, Any]:
    """The body of the request in the command to copy."""
    body: Mapping[str, Any] = json.loads(text.partition("-d '")[2].partition("}'")[0] + "}")
    return body


def test_where_nothing_is_set_everything_is_in_the_data_folder_and_free(tmp_path: Path) -> None:
    text = words(tmp_path)

    assert f"Everything is kept in {tmp_path}" in text
    assert text.count("the simulator, which costs nothing") == len(PROVIDERS)
    assert "billed" not in text


def test_an_account_is_said_to_be_billed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_OPENAI_IMAGES_TOKEN", SECRET)
    monkeypatch.setenv("DARKROOM_OPENAI_IMAGES_BASE_URL", "http://127.0.0.1:9/v1")
    text = words(tmp_path)

    assert "OpenAI Images: your account; each picture is billed" in text
    assert "which your account is billed for, once for each idempotencyKey" in text
    assert SECRET not in text


def test_the_command_to_copy_pays_once_however_often_it_is_sent(tmp_path: Path) -> None:
    first, second = (request(words(tmp_path))["variables"]["input"]["idempotencyKey"] for _ in range(2))

    assert first
    assert first != second, "what was made in the sandbox would be the answer to the account's first request"


def test_the_database_and_the_picture_store_in_force_are_named_without_their_passwords(tmp_path: Path) -> None:
    text = words(
        tmp_path,
        works=False,
        database_url=f"postgresql://me:{SECRET}@db.example:5433/darkroom",
        storage_url="s3://pictures/here",
    )

    assert "Tasks are kept in PostgreSQL at db.example:5433, database darkroom" in text
    assert "Pictures are kept in s3://pictures/here" in text
    assert "Everything is kept" not in text
    assert SECRET not in text


def test_a_database_elsewhere_leaves_the_pictures_in_the_data_folder(tmp_path: Path) -> None:
    text = words(tmp_path, database_url=f"sqlite:///{tmp_path}/elsewhere.db")

    assert f"Tasks are kept in {tmp_path}/elsewhere.db" in text
    assert f"Pictures are kept in {tmp_path}/images" in text


def test_a_server_that_runs_no_tasks_says_who_does(tmp_path: Path) -> None:
    text = words(tmp_path, works=False)

    assert "Tasks are run by `darkroom worker`: start at least one" in text
    assert "DARKROOM_SHUTDOWN_SECONDS" not in text


def test_stopping_is_said_to_lose_what_cannot_be_watched_again(tmp_path: Path) -> None:
    text = words(tmp_path, shutdown_seconds=7)

    assert "get 7 s (DARKROOM_SHUTDOWN_SECONDS) to end" in text
    assert "not those of OpenAI Images: they end as OUTCOME_UNKNOWN" in text
    assert "nothing is lost" not in text
