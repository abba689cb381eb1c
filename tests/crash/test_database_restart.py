"""The database stops in the middle of everything, as in a crash, and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import START, all_images, execute, openai_images, placewise, until
from tests.crash.evidence import Vendor, all_tasks, collect, follow, loopback
from tests.crash.matrix import click_all
from tests.crash.oracle import assert_sound
from tests.postgres import PostgresServer, postgres
from tests.process import serve

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def mortal() -> Iterator[PostgresServer]:
    """A PostgreSQL that only these tests use, and that waits for the disk, as a real one does."""
    with postgres(durable=True) as server:
        yield server


def _clicks(pause: float) -> list[tuple[dict[str, Any], int]]:
    """Clicks of every kind, with the number of pictures each of them asks for."""
    made = []
    for number in range(3):
        words = f"A bridge {number} [[sandbox: pause={pause:g}]]"
        made += [
            (openai_images(words, partialImages=3), 1),
            (openai_images(f"{words}", stream=False), 1),
            (placewise(words), 1),
            (all_images(words), 4),
        ]
    for number, (click, _) in enumerate(made):
        click["input"]["idempotencyKey"] = f"{number}"
    return made


async def test_a_database_that_crashes_again_and_again_loses_nothing_and_pays_nothing_twice(
    mortal: PostgresServer, vendor: Vendor, tmp_path: Path
) -> None:
    clicks = _clicks(pause=0.6)
    with (
        mortal.database() as url,
        serve(tmp_path, DARKROOM_DATABASE_URL=url, DARKROOM_SANDBOX_URL=vendor.url) as server,
    ):
        tasks = await click_all(server, [click for click, _ in clicks])
        following = asyncio.gather(*(follow(lambda: [server], task_id) for task_id in tasks))
        for moment in ("SUBMITTING", "RUNNING", "ImageReady"):
            await until(server, tasks[-1], moment)
            mortal.stop()
            mortal.start()
        told = await following
        for (_, expected), task_id, events in zip(clicks, tasks, told, strict=True):
            found = await collect(server, vendor, task_id, expected=expected)
            assert_sound(found)
            assert found.task["status"] == "SUCCEEDED", f"{found}\n{''.join(server.log)}"
            assert [event["id"] for event in events] == [event["id"] for event in found.events]
    assert "Traceback" not in "".join(server.log), "".join(server.log)


async def test_while_the_database_is_away_everybody_is_told_to_come_again(
    mortal: PostgresServer, vendor: Vendor, tmp_path: Path
) -> None:
    click = openai_images("A ferry")
    click["input"]["idempotencyKey"] = "a ferry"
    with (
        mortal.database() as url,
        serve(tmp_path, DARKROOM_DATABASE_URL=url, DARKROOM_SANDBOX_URL=vendor.url) as server,
    ):
        mortal.stop()
        answer = await execute(server, START, click)
        async with loopback(base_url=server.url) as client:
            others = [await client.get("/images/x"), await client.post("/callbacks/x", content=b"{}")]
        mortal.start()
        task_id, again = await click_all(server, [click, click])
        found = await collect(server, vendor, task_id, expected=1)

        assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAVAILABLE"]
        assert [(other.status_code, other.headers["retry-after"]) for other in others] == [(503, "1")] * 2
        assert again == task_id
        assert len(await all_tasks(server)) == 1
        assert_sound(found)
        assert found.task["status"] == "SUCCEEDED"
    assert "Traceback" not in "".join(server.log), "".join(server.log)
