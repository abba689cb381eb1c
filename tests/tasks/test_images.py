"""The image store: originals stay what they were, and nothing that was paid for is thrown away."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from tasks.errors import NotAnImageError, StorageError
from tasks.images import ImageStore
from tasks.imaging import ImageFormat, measure
from tasks.records import ImageKind, ImageRecord
from tests.tasks.conftest import Shelf

pytestmark = pytest.mark.anyio


def picture(format: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (320, 200)) -> bytes:
    made = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(made, format)
    return made.getvalue()


async def stored(store: ImageStore, data: bytes) -> ImageRecord:
    found = await store.put(data)
    return ImageRecord(
        project="default",
        task_id="x",
        kind=ImageKind.FINAL,
        index=0,
        sha256=found.sha256,
        media_type=found.measured.format.value,
        width=found.measured.width,
        height=found.measured.height,
        byte_size=found.byte_size,
    )


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_an_original_comes_back_byte_for_byte(shelf: Shelf, format: str) -> None:
    data = picture(format)
    image = await stored(shelf.images, data)

    assert await shelf.images.read(image) == data
    assert (image.media_type, image.width, image.height) == (f"image/{format.lower()}", 320, 200)
    assert b"".join([chunk async for chunk in await shelf.images.open(image)]) == data


async def test_storing_the_same_picture_twice_stores_it_once(shelf: Shelf, tmp_path: Path) -> None:
    data = picture()
    await shelf.images.put(data)
    await shelf.images.put(data)

    assert len([path for path in (tmp_path / "images").rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize(
    ("svg", "size"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30px"/>', (40, 30)),
        (b'<?xml version="1.0"?>\n<!-- hi -->\n<svg viewBox="0 0 24 12"></svg>', (24, 12)),
        (b"<svg><path/></svg>", (0, 0)),
        (b'<svg width="1.2.3" height="99999999999999999999"/>', (0, 0)),
    ],
)
async def test_a_drawing_is_kept_with_the_size_it_claims(shelf: Shelf, svg: bytes, size: tuple[int, int]) -> None:
    image = await stored(shelf.images, svg)

    assert (image.media_type, image.width, image.height) == ("image/svg+xml", *size)
    assert await shelf.images.placeholder_of(image) is None


async def test_bytes_that_are_no_picture_are_refused_but_kept(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(NotAnImageError, match="unrecognised/") as refused:
        await shelf.images.put(b"<html>not a picture</html>")

    kept = list((tmp_path / "images" / "unrecognised").iterdir())
    assert [path.read_bytes() for path in kept] == [b"<html>not a picture</html>"]
    assert kept[0].name in str(refused.value)


async def test_half_a_picture_is_found_out(shelf: Shelf) -> None:
    whole = picture(size=(640, 640))
    half = whole[: len(whole) // 2]

    assert measure(half).width == 640
    with pytest.raises(NotAnImageError):
        await shelf.images.placeholder(half, ImageFormat.PNG)


async def test_a_placeholder_is_tiny_and_looks_like_the_picture(shelf: Shelf) -> None:
    image = await stored(shelf.images, picture(size=(1024, 512)))
    uri = await shelf.images.placeholder_of(image)

    assert uri is not None
    assert uri.startswith("data:image/webp;base64,")
    assert len(uri) < 1_000


async def test_a_transparent_picture_keeps_its_transparency_in_its_thumbnail(shelf: Shelf) -> None:
    made = io.BytesIO()
    Image.new("RGBA", (300, 300), (200, 0, 0, 90)).save(made, "PNG")
    image = await stored(shelf.images, made.getvalue())
    small = Image.open(io.BytesIO(await shelf.images.thumbnail(image, 128)))

    assert small.size == (128, 128)
    assert small.mode == "RGBA"


async def test_a_thumbnail_is_never_larger_than_the_picture(shelf: Shelf) -> None:
    image = await stored(shelf.images, picture(size=(100, 50)))

    assert Image.open(io.BytesIO(await shelf.images.thumbnail(image, 512))).size == (100, 50)


async def test_a_store_that_cannot_be_written_says_so_without_a_secret(shelf: Shelf, tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "originals").write_text("a file where a folder belongs")

    with pytest.raises(StorageError, match="cannot be stored"):
        await shelf.images.put(picture())


async def test_a_picture_that_has_gone_says_so(shelf: Shelf, tmp_path: Path) -> None:
    image = await stored(shelf.images, picture())
    next((tmp_path / "images" / "originals").rglob("*.png")).unlink()

    with pytest.raises(StorageError, match="cannot be read"):
        await shelf.images.open(image)


async def test_something_like_a_drawing_does_not_stop_the_clock(shelf: Shelf) -> None:
    with pytest.raises(NotAnImageError):
        await shelf.images.put(b"<!---->" * 2_000 + b"<html>")


async def test_a_very_tall_picture_has_a_thumbnail(shelf: Shelf) -> None:
    image = await stored(shelf.images, picture(size=(64, 20_000)))
    small = Image.open(io.BytesIO(await shelf.images.thumbnail(image, 64)))

    assert small.height <= 16_383


async def test_a_picture_is_on_the_disk_with_its_folders_before_it_is_called_stored(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, int] = {}
    sync, loop_thread = os.fsync, threading.get_ident()

    def seen(file: int) -> None:
        assert threading.get_ident() != loop_thread
        about = os.fstat(file)
        synced[about.st_ino] = about.st_size
        sync(file)

    monkeypatch.setattr(os, "fsync", seen)
    data = picture()
    await shelf.images.put(data)
    (file,) = (tmp_path / "images" / "originals").rglob("*.png")

    assert synced[file.stat().st_ino] == len(data)
    assert synced.keys() == {path.stat().st_ino for path in (file, *file.parents[:3])}
    assert file.parents[2] == tmp_path / "images"


async def test_folders_that_the_disk_knows_are_not_waited_for_again(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shelf.images.keep("deliveries/first", b"1")
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: waited.append(os.fstat(file).st_ino))
    await shelf.images.keep("deliveries/second", b"2")
    folder = tmp_path / "images" / "deliveries"

    assert waited == [(folder / "second").stat().st_ino, folder.stat().st_ino]


@pytest.mark.parametrize("left", [b"", b"half"])
async def test_what_a_power_cut_left_of_a_picture_is_replaced_when_it_comes_again(
    shelf: Shelf, tmp_path: Path, left: bytes
) -> None:
    data = picture()
    image = await stored(shelf.images, data)
    (file,) = (tmp_path / "images" / "originals").rglob("*.png")
    file.write_bytes(left)
    await shelf.images.put(data)

    assert await shelf.images.read(image) == data


async def test_a_picture_that_comes_again_is_young_again_and_is_written_once_an_hour_at_most(
    shelf: Shelf, tmp_path: Path
) -> None:
    data = picture()
    await shelf.images.put(data)
    (file,) = (tmp_path / "images" / "originals").rglob("*.png")
    ages = []
    for minutes in (50, 70):
        before = time.time() - 60 * minutes
        os.utime(file, (before, before))
        await shelf.images.put(data)
        ages.append(round((time.time() - file.stat().st_mtime) / 60))

    assert ages == [50, 0]


async def test_a_store_that_is_no_folder_is_not_waited_for_twice(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_disk(_: int) -> None:
        raise AssertionError("there is no disk of ours behind it")

    monkeypatch.setattr(os, "fsync", no_disk)
    bucket = ImageStore("memory:///", shelf.database)
    for _ in range(2):
        image = await stored(bucket, picture())

    assert await bucket.read(image) == picture()
