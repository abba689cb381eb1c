"""The image store: original bytes under their hash, and what is made from them on demand.

Originals are never changed. Everything derived (thumbnails) lies beside them and can be deleted at any time.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore, from_url
from sqlalchemy import ColumnElement, Connection, select
from sqlalchemy.exc import SQLAlchemyError

from tasks.database import Database
from tasks.errors import DatabaseUnavailableError, NotAnImageError, StorageError
from tasks.imaging import EXTENSIONS, THUMBNAIL_WIDTHS, ImageFormat, Measured, measure, placeholder, thumbnail
from tasks.records import ImageKind, ImageRecord, TaskRecord, now
from tasks.tables import IMAGES, TASKS, image_of, new_image, row_of

log = logging.getLogger(__name__)


CHUNK_BYTES = 256 * 1024
WRITERS = 8
"""Most files that are written into a folder at the same time."""
FRESH = timedelta(hours=1)
"""What is older is written again when it comes again: a sweep that is going on spares it then."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An original that is safely in the store."""

    sha256: str
    byte_size: int
    measured: Measured


def image_record(
    task: TaskRecord,
    stored: Stored,
    kind: ImageKind,
    index: int,
    *,
    partial_image_index: int = -1,
    placeholder: str | None = None,
    provider_image_id: str | None = None,
) -> ImageRecord:
    """The row of a picture that is in the store."""
    return new_image(
        project=task.project,
        task_id=task.id,
        kind=kind,
        index=index,
        partial_image_index=partial_image_index,
        sha256=stored.sha256,
        byte_size=stored.byte_size,
        media_type=stored.measured.format.value,
        width=stored.measured.width,
        height=stored.measured.height,
        placeholder=placeholder,
        provider_image_id=provider_image_id,
    )


def keep_once(connection: Connection, image: ImageRecord, *, late: bool = False) -> ImageRecord:
    """The row of a finished picture: a new one, or the one that is there already. Two who do this for the same picture
    at once take turns."""
    connection.execute(select(TASKS.c.id).where(TASKS.c.id == image.task_id).with_for_update())
    row = connection.execute(select(IMAGES).where(*_same(image))).one_or_none()
    if row is not None:
        return image_of(row)
    connection.execute(IMAGES.insert(), row_of(image) | {"late": late})
    return image


def keep_announced(connection: Connection, image: ImageRecord) -> None:
    """The row of a picture that an event speaks of, where an earlier run may just have kept it as late: that row is
    taken over. The caller has the row of the task locked."""
    known = IMAGES.update().where(*_same(image)).values(id=image.id, late=False)
    if connection.execute(known).rowcount == 0:
        connection.execute(IMAGES.insert(), row_of(image))


def _same(image: ImageRecord) -> tuple[ColumnElement[bool], ...]:
    return (
        IMAGES.c.task_id == image.task_id,
        IMAGES.c.kind == image.kind,
        IMAGES.c.index == image.index,
        IMAGES.c.partial_image_index == image.partial_image_index,
    )


class ImageStore:
    """Pictures by content hash, in a folder or in a bucket (any URL obstore knows).

    `put` returns only after the bytes are stored, in a folder so that they outlive a power cut. Storing the same bytes
    again stores nothing. Every failure of the store is a `StorageError` with the store's own words, also when there is
    no such store at all.
    """

    def __init__(self, url: str, database: Database) -> None:
        self._url = url
        self._database = database
        self._making: dict[str, asyncio.Task[str | None]] = {}
        self._flushed: set[Path] = set()
        # Its own, because a folder that hangs must not hold up anything else.
        self._writing = ThreadPoolExecutor(WRITERS, thread_name_prefix="pictures")
        self._folder = Path(url2pathname(urlsplit(url).path)) if urlsplit(url).scheme == "file" else None
        if self._folder is not None:
            _make(self._folder)
        try:
            self._store: ObjectStore = from_url(url)
        except (BaseError, ValueError) as exc:
            # Its words may repeat the address, which may have a password in it.
            raise StorageError(
                f"There is no picture store at {self._where}. Set DARKROOM_STORAGE_URL to something like "
                "file:///folder or s3://bucket/prefix."
            ) from exc

    async def put(self, data: bytes) -> Stored:
        """Store an original. Raises `NotAnImageError` when it is no picture, `StorageError` when it cannot be kept."""
        try:
            sha256, measured = await asyncio.to_thread(_identify, data)
        except NotAnImageError as exc:
            # Somebody may have paid for it: what cannot be shown is kept all the same.
            key = f"unrecognised/{hashlib.sha256(data).hexdigest()}"
            await self._put(key, data)
            raise NotAnImageError(f"{exc} They are kept as {key}.") from exc
        await self._put(_original(sha256, measured.format), data)
        return Stored(sha256, len(data), measured)

    async def placeholder(self, data: bytes, format: ImageFormat) -> str | None:
        """A tiny `data:` URI of a picture; None for a drawing (SVG), which is small enough itself.

        Raises `NotAnImageError` when a part of the picture is missing.
        """
        return None if format is ImageFormat.SVG else await asyncio.to_thread(placeholder, data)

    async def placeholder_of(self, image: ImageRecord) -> str | None:
        """The placeholder of a stored picture: the one it has, or one made now and kept; None if it is broken."""
        if image.placeholder is not None or image.media_type == ImageFormat.SVG:
            return image.placeholder
        making = self._making.get(image.id)
        if making is None:
            making = self.begin_placeholder(image, await self.read(image))
            await self.keep_placeholder(image.id, making)
        return await asyncio.shield(making)

    def begin_placeholder(self, image: ImageRecord, data: bytes) -> asyncio.Task[str | None]:
        """Start making the placeholder of a picture without holding up its announcement; whoever asks meanwhile waits
        for the same one. It is kept in the row by `keep_placeholder`, once the row is there."""
        making = asyncio.create_task(self._try_placeholder(image, data))
        self._making[image.id] = making
        making.add_done_callback(lambda _: self._making.pop(image.id, None))
        return making

    async def keep_placeholder(self, image_id: str, making: asyncio.Task[str | None]) -> None:
        """Write a placeholder that is being made into the picture's row."""
        if (made := await making) is None:
            return
        statement = IMAGES.update().where(IMAGES.c.id == image_id).values(placeholder=made)
        try:
            await self._database.write(lambda connection: connection.execute(statement))
        except (DatabaseUnavailableError, SQLAlchemyError) as exc:
            # Whoever asks for it next makes it again; the picture itself is safe.
            log.warning("The placeholder of image %s could not be kept: %s", image_id, exc)

    async def _try_placeholder(self, image: ImageRecord, data: bytes) -> str | None:
        try:
            return await self.placeholder(data, ImageFormat(image.media_type))
        except NotAnImageError as exc:
            log.warning("Image %s has no placeholder: %s", image.id, exc)
            return None

    async def open(self, image: ImageRecord) -> AsyncGenerator[bytes, None]:
        """The original bytes in chunks, for sending. Missing bytes are a `StorageError` before the first chunk."""
        try:
            result = await obstore.get_async(self._store, _original(image.sha256, ImageFormat(image.media_type)))
        except (BaseError, OSError) as exc:
            raise StorageError(f"The picture {image.id} cannot be read from {self._where}: {_reason(exc)}") from exc
        return _chunks(result.stream(min_chunk_size=CHUNK_BYTES))

    async def keep(self, key: str, data: bytes) -> None:
        """Store bytes that are not a picture of a task, or not yet. Raises `StorageError`."""
        await self._put(key, data)

    async def kept(self, key: str) -> bytes:
        """What was stored with `keep`. Raises `StorageError`."""
        return await self._get(key)

    async def keys(self, prefix: str, *, before: datetime | None = None) -> list[str]:
        """What is stored under a prefix, if wanted only what was last changed before a time. Raises `StorageError`."""
        found = []
        try:
            async for batch in self._store.list(prefix):
                found += [one["path"] for one in batch if before is None or one["last_modified"] < before]
        except (BaseError, OSError) as exc:
            raise StorageError(f"{prefix} cannot be listed in {self._where}: {_reason(exc)}") from exc
        return found

    async def forget(self, keys: Sequence[str], *, before: datetime | None = None) -> int:
        """Delete for good, if wanted only what was last changed before a time, and say how much that was; what is gone
        already is no error. Raises `StorageError`."""
        return sum([await self._forget(key, before) for key in keys])

    async def _forget(self, key: str, before: datetime | None) -> bool:
        try:
            if before is not None and (await obstore.head_async(self._store, key))["last_modified"] >= before:
                return False
            # Not `delete_async`: obstore 0.12.1 aborts the process when that is its last call.
            await asyncio.to_thread(self._store.delete, key)
        except FileNotFoundError:
            return False
        except (BaseError, OSError) as exc:
            raise StorageError(f"{key} cannot be deleted from {self._where}: {_reason(exc)}") from exc
        return True

    async def read(self, image: ImageRecord) -> bytes:
        """The original bytes, whole."""
        return await self._get(_original(image.sha256, ImageFormat(image.media_type)))

    async def thumbnail(self, image: ImageRecord, width: int) -> bytes:
        """A WebP of the picture, at most `width` pixels wide (one of `THUMBNAIL_WIDTHS`); made once, then kept.

        A drawing (SVG) has no thumbnail, because it has no pixels: send the original. Raises `StorageError`.
        """
        if width not in THUMBNAIL_WIDTHS:
            raise ValueError(f"{width} is not a thumbnail width; use one of {THUMBNAIL_WIDTHS}")
        key = f"thumbnails/{image.sha256[:2]}/{image.sha256}.{width}.webp"
        try:
            return bytes(await (await obstore.get_async(self._store, key)).bytes_async())
        except (BaseError, OSError):
            made = await asyncio.to_thread(thumbnail, await self.read(image), width)
            await self._put(key, made)
            return made

    async def _put(self, key: str, data: bytes) -> None:
        try:
            if self._folder is None:
                await self._put_in_bucket(key, data)
            else:
                work = partial(self._put_in_folder, self._folder, key, data)
                await asyncio.get_running_loop().run_in_executor(self._writing, work)
        except (BaseError, OSError) as exc:
            raise StorageError(f"{len(data)} bytes cannot be stored as {key} in {self._where}: {_reason(exc)}") from exc

    async def _put_in_bucket(self, key: str, data: bytes) -> None:
        try:
            await obstore.put_async(self._store, key, data, mode="create")
        except AlreadyExistsError:
            if not await asyncio.to_thread(self._stays, key, len(data)):
                await obstore.put_async(self._store, key, data, mode="overwrite")

    def _put_in_folder(self, folder: Path, key: str, data: bytes) -> None:
        """The same all in one thread, until the disk has the file, and its name in all folders above it."""
        try:
            obstore.put(self._store, key, data, mode="create")
        except AlreadyExistsError:
            if not self._stays(key, len(data)):
                obstore.put(self._store, key, data, mode="overwrite")
        file = folder / key
        _flush(file)
        for above in file.parents[: key.count("/") + 1]:
            _flush(above)
            if above in self._flushed:
                break  # the folders above have its name already
            self._flushed.add(above)

    def _stays(self, key: str, size: int) -> bool:
        """Whether what is there can be relied on: it has all its bytes, of which a power cut may leave none, and is too
        young to be swept."""
        try:
            found = obstore.head(self._store, key)
        except FileNotFoundError:
            return False
        return found["size"] == size and found["last_modified"] > now() - FRESH

    async def _get(self, key: str) -> bytes:
        try:
            return bytes(await (await obstore.get_async(self._store, key)).bytes_async())
        except (BaseError, OSError) as exc:
            raise StorageError(f"{key} cannot be read from {self._where}: {_reason(exc)}") from exc

    @property
    def _where(self) -> str:
        """The store for a message, without credentials."""
        return place(self._url)


def place(url: str) -> str:
    """Where a picture store is, for messages: no user, no password, no query."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return url2pathname(parts.path)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageError(
            f"Pictures cannot be kept in {folder} ({exc.strerror}). Make that folder, and let this user write there, "
            "or set DARKROOM_HOME or DARKROOM_STORAGE_URL to another place."
        ) from exc


async def _chunks(stream: obstore.BytesStream) -> AsyncGenerator[bytes, None]:
    async for chunk in stream:
        yield bytes(chunk)


def _reason(error: Exception) -> str:
    """What the store said, without the insides that it adds for those who work on it."""
    return str(error).partition("\n")[0]


def _identify(data: bytes) -> tuple[str, Measured]:
    return hashlib.sha256(data).hexdigest(), measure(data)


def _flush(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as exc:
        # Some network file systems do that for files only.
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(opened)


def _original(sha256: str, format: ImageFormat) -> str:
    return f"originals/{sha256[:2]}/{sha256}.{EXTENSIONS[format]}"
