"""A picture store belongs to one database, and a copy of that is another one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from tasks.database import Database
from tasks.errors import StorageError
from tasks.images import ImageStore, image_record
from tasks.ownership import FOLDER, PROTEST, Ownership
from tasks.records import ImageKind
from tasks.tables import IMAGES, STORES, row_of
from tests.tasks.conftest import Shelf
from tests.tasks.node import Vendor, ended, node, order, pictures, vendor
from tests.tasks.test_repair import age, files, idle
from tests.tasks.test_run import picture

pytestmark = pytest.mark.anyio


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Vendor]:
    """The vendor of this test."""
    async with vendor(tmp_path) as made:
        yield made


def tokens(home: Path) -> set[str]:
    """What the store says about its owner."""
    return {key for key in files(home) if key.startswith(FOLDER)}


async def token(shelf: Shelf) -> str:
    """What the database says about it."""
    return await shelf.database.read(lambda connection: connection.execute(select(STORES.c.id)).scalar_one())


async def used(shelf: Shelf) -> Ownership:
    """The ownership of a database that has a picture."""
    image = image_record(await shelf.claimed(), await shelf.images.put(picture()), ImageKind.FINAL, 0)
    await shelf.database.write(lambda connection: connection.execute(IMAGES.insert(), row_of(image)))
    return Ownership(shelf.database, shelf.images)


async def forked(shelf: Shelf, work: Callable[[], Any]) -> Any:
    """Do something as a copy of the database, made now, would do it: with tokens of its own."""
    before = await token(shelf)
    done = await work()
    await shelf.database.write(lambda connection: connection.execute(STORES.update().values(id=before)))
    return done


async def test_the_token_is_another_one_after_each_sweep(shelf: Shelf, tmp_path: Path) -> None:
    owner, seen = await used(shelf), []
    for _ in range(3):
        assert await owner.renew()
        seen.append(await token(shelf))
        assert tokens(tmp_path) == {f"{FOLDER}/{seen[-1]}"}

    assert len(set(seen)) == 3


async def test_a_copy_from_before_the_last_sweep_owns_nothing_and_stops_the_original(
    shelf: Shelf, tmp_path: Path
) -> None:
    owner = await used(shelf)
    await owner.renew()
    await forked(shelf, owner.renew)  # what is left here is the copy

    assert not await owner.renew()
    assert PROTEST in tokens(tmp_path)
    assert not await forked(shelf, owner.renew)


async def test_an_original_whose_copy_came_first_stops_it(shelf: Shelf, tmp_path: Path) -> None:
    owner = await used(shelf)
    await owner.renew()
    original = await token(shelf)
    assert await owner.renew(), "the copy cannot know that it is one"
    copy = await token(shelf)

    async def back_to(one: str) -> bool:
        await shelf.database.write(lambda connection: connection.execute(STORES.update().values(id=one)))
        return await owner.renew()

    assert not await back_to(original)
    assert not await back_to(copy)
    shutil.rmtree(tmp_path / "images" / FOLDER)
    assert await owner.renew(), "a person has decided"


async def test_an_empty_database_stops_nobody(shelf: Shelf, tmp_path: Path) -> None:
    await shelf.images.keep(f"{FOLDER}/theirs", b"")

    assert not await Ownership(shelf.database, shelf.images).renew()
    assert tokens(tmp_path) == {f"{FOLDER}/theirs"}


class Doomed(ImageStore):
    """A store that dies after so many writes and deletions."""

    left = 0

    async def keep(self, key: str, data: bytes) -> None:
        self._step()
        await super().keep(key, data)

    async def forget(self, keys: Sequence[str], **options: Any) -> int:
        self._step()
        return await super().forget(keys, **options)

    def _step(self) -> None:
        if not self.left:
            raise StorageError("the server has just died")
        self.left -= 1


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("first", [False, True], ids=["later", "the first time"])
async def test_a_crash_while_the_token_is_changed_costs_nobody_the_store(
    shelf: Shelf, tmp_path: Path, steps: int, first: bool
) -> None:
    owner = await used(shelf)
    if not first:
        await owner.renew()
    doomed = Doomed((tmp_path / "images").as_uri(), shelf.database)
    doomed.left = steps
    if first or steps < 2:
        with pytest.raises(StorageError):
            await Ownership(shelf.database, doomed).renew()

    assert await owner.renew()
    assert tokens(tmp_path) == {f"{FOLDER}/{await token(shelf)}"}


async def test_a_database_that_is_away_in_between_costs_nobody_the_store(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await used(shelf)
    await owner.renew()
    write, calls = shelf.database.write, iter([1])

    async def once(work: Callable[[Connection], Any]) -> Any:
        for _ in calls:
            return await write(work)
        raise ConnectionError("the server has just died")

    with monkeypatch.context() as patch:
        patch.setattr(shelf.database, "write", once)
        with pytest.raises(ConnectionError):
            await owner.renew()
    assert len(tokens(tmp_path)) == 2

    assert await owner.renew()
    assert tokens(tmp_path) == {f"{FOLDER}/{await token(shelf)}"}


async def test_a_node_that_is_overtaken_by_another_one_does_not_take_it_for_a_stranger(
    shelf: Shelf, tmp_path: Path
) -> None:
    other = await used(shelf)
    await other.renew()

    class Overtaken(ImageStore):
        """A store that another node is quicker to look into."""

        async def keys(self, prefix: str, **options: Any) -> list[str]:
            await other.renew()
            return await super().keys(prefix, **options)

    slow = Ownership(shelf.database, Overtaken((tmp_path / "images").as_uri(), shelf.database))

    assert not await slow.renew(), "the other one sweeps"
    assert tokens(tmp_path) == {f"{FOLDER}/{await token(shelf)}"}


async def test_nodes_that_begin_together_make_one_token(postgres_with_tables: str, tmp_path: Path) -> None:
    databases = [Database(postgres_with_tables) for _ in range(4)]
    images = ImageStore((tmp_path / "images").as_uri(), databases[0])
    counts = []
    for _ in range(10):
        await asyncio.gather(*(Ownership(database, images).renew() for database in databases))
        delete = STORES.delete()
        counts.append(await databases[0].write(lambda connection: connection.execute(delete).rowcount))  # noqa: B023
    for database in databases:
        await database.close()

    assert counts == [1] * 10


async def test_a_copy_of_the_database_deletes_no_picture_of_the_original(
    studio: Vendor, tmp_path: Path, sqlite_template: Path
) -> None:
    original, copy = tmp_path / "original.db", tmp_path / "copy.db"
    shutil.copyfile(sqlite_template, original)
    async with node(studio, tmp_path, f"sqlite:///{original}") as at:
        await ended(at, await at.start(order("tiny", prompt="before")))
        await idle(at)
    shutil.copyfile(original, copy)
    async with node(studio, tmp_path, f"sqlite:///{original}") as at:
        task = await at.start(order("tiny", prompt="after"))
        await ended(at, task)
        await idle(at)
        await at._upkeep._repair.sweep()
        age(tmp_path, *files(tmp_path))
        async with node(studio, tmp_path, f"sqlite:///{copy}") as rehearsed:
            for _ in range(2):
                await rehearsed._upkeep._repair.sweep()
                await at._upkeep._repair.sweep()
        (image,) = await pictures(at, task)

        assert await at.images.read(image)
