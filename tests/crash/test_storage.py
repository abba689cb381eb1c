"""No room on the disk, or no picture store, for a while: what was paid for waits until it can be kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients import START, all_images, eventually, execute, openai_images, placewise, until
from tests.crash.disks import Disk, LimitedDisk, small_disk
from tests.crash.evidence import Evidence, Vendor, collect, history
from tests.crash.matrix import click_all
from tests.crash.oracle import assert_sound, generations
from tests.process import Process, serve

pytestmark = pytest.mark.anyio

SCRIPT = "[[sandbox: pause=0.5]]"
CLICKS: list[tuple[dict[str, Any], int]] = [
    (openai_images(f"A barn {SCRIPT}", partialImages=2), 1),
    (openai_images(f"A mill {SCRIPT}", stream=False), 1),
    (placewise(f"A barn {SCRIPT}"), 1),
    (all_images(f"A barn {SCRIPT}"), 4),
]


@contextmanager
def broken(store: Path) -> Iterator[None]:
    """Nothing can be written to a folder, or read from it: there is a file in its place."""
    away = store.with_name("away")
    store.rename(away)
    store.write_text("not a folder")
    yield
    store.unlink()
    away.rename(store)


async def start_all(server: Process) -> list[str]:
    """Start a task of every kind, and wait until the vendor has them all."""
    tasks = await click_all(server, [click for click, _ in CLICKS])
    await asyncio.gather(*(until(server, task_id, "RUNNING") for task_id in tasks))
    return tasks


async def complaints(server: Process, words: str, number: int = 1) -> None:
    """Wait until the log has so many lines with these words."""

    async def complained() -> bool:
        return sum(words in line for line in [*server.log]) >= number

    await eventually(complained)


async def findings(server: Process, vendor: Vendor, tasks: list[str]) -> list[Evidence]:
    """What became of the tasks; none of them contradicts itself."""
    found = [
        await collect(server, vendor, task_id, expected=expected)
        for task_id, (_, expected) in zip(tasks, CLICKS, strict=True)
    ]
    for one in found:
        assert_sound(one)
    return found


def assert_succeeded(found: list[Evidence], server: Process) -> None:
    """Every picture is there, and nothing surprised the server."""
    assert [one.task["status"] for one in found] == ["SUCCEEDED"] * len(found), [*map(str, found), "".join(server.log)]
    assert "Traceback" not in "".join(server.log), "".join(server.log)


async def test_a_picture_that_was_paid_for_waits_until_the_store_is_back(vendor: Vendor, tmp_path: Path) -> None:
    with serve(tmp_path, DARKROOM_SANDBOX_URL=vendor.url) as server:
        tasks = await start_all(server)
        with broken(tmp_path / "images"):
            await complaints(server, "cannot be stored", len(tasks))
        assert_succeeded(await findings(server, vendor, tasks), server)


async def test_a_store_that_stays_away_is_a_failure_that_says_so(vendor: Vendor, tmp_path: Path) -> None:
    with serve(tmp_path, DARKROOM_SANDBOX_URL=vendor.url, DARKROOM_STORAGE_PATIENCE_SECONDS="1") as server:
        tasks = await start_all(server)
        with broken(tmp_path / "images"):
            await asyncio.gather(*(history(server, task_id) for task_id in tasks))
        for found in await findings(server, vendor, tasks):
            assert found.task["failure"]["code"] == "STORAGE_FAILED", str(found)
            assert found.task["failure"]["billed"] is True
            assert "\n" not in found.task["failure"]["message"]
            assert str(tmp_path / "images") in found.task["failure"]["message"]


async def test_a_server_that_is_killed_while_the_store_is_away_fetches_what_can_be_fetched_again(
    vendor: Vendor, tmp_path: Path
) -> None:
    with serve(tmp_path, DARKROOM_SANDBOX_URL=vendor.url) as first:
        tasks = await start_all(first)
        with broken(tmp_path / "images"):
            await complaints(first, "cannot be stored", len(tasks))
            first.kill()
    with serve(tmp_path, DARKROOM_SANDBOX_URL=vendor.url) as second:
        found = await findings(second, vendor, tasks)

        codes = [(one.task["failure"] or {}).get("code") for one in found]
        assert codes == ["OUTCOME_UNKNOWN", "OUTCOME_UNKNOWN", None, None]


@pytest.fixture(params=["a disk of its own", "a limit on the size of files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """A disk that can be filled."""
    if request.param == "a limit on the size of files":
        yield LimitedDisk(tmp_path)
        return
    with small_disk(tmp_path / "disk") as mounted:
        if mounted is None:
            pytest.skip("nobody may mount anything here; the limit on the size of files has to do")
        yield mounted


async def test_a_full_disk_delays_everything_and_loses_nothing(disk: Disk, vendor: Vendor) -> None:
    with serve(disk.folder, DARKROOM_SANDBOX_URL=vendor.url) as server:
        tasks = await start_all(server)
        disk.fill(server)
        await complaints(server, "cannot be", len(tasks))
        answer = await execute(server, START, openai_images("A barn too many"))
        disk.free(server)
        found = await findings(server, vendor, tasks)

        assert answer["errors"][0]["extensions"]["code"] == "UNAVAILABLE", answer
        assert_succeeded(found, server)


async def test_a_server_that_is_killed_on_a_full_disk_goes_on_when_there_is_room(disk: Disk, vendor: Vendor) -> None:
    with serve(disk.folder, DARKROOM_SANDBOX_URL=vendor.url) as first:
        tasks = await start_all(first)
        disk.fill(first)
        await complaints(first, "cannot be", len(tasks))
        first.kill()
        if not isinstance(disk, LimitedDisk):
            disk.free(first)
    with serve(disk.folder, DARKROOM_SANDBOX_URL=vendor.url) as second:
        found = await findings(second, vendor, tasks)

        assert all(len(generations(one)) == 1 for one in found)
        assert [one.task["status"] for one in found[2:]] == ["SUCCEEDED"] * 2, [*map(str, found)]
