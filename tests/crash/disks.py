"""Disks that are full for a while: as real as the machine allows.

A small disk of memory (tmpfs) is the real thing, and takes the right to mount one. A limit on the size of files
(RLIMIT_FSIZE) needs no right at all: whatever would make a file longer fails in the kernel, with "File too large".
"""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from tests.process import Process

SIZE = 24 * 1024 * 1024
CHUNK = bytes(256 * 1024)
FULL_BYTES = 4096
"""How long a file may be on a disk that is full by decree."""


class Disk(Protocol):
    """Where a server keeps its data."""

    folder: Path

    def fill(self, server: Process) -> None:
        """From now on nothing can be written."""
        ...

    def free(self, server: Process) -> None:
        """There is room again."""
        ...


class SmallDisk:
    """A disk of its own, of `SIZE` bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, server: Process) -> None:
        """Take all the room there is, to the last byte."""
        with self._filler.open("wb", buffering=0) as filler:
            for piece in (CHUNK, CHUNK[:4096], CHUNK[:1]):
                with suppress(OSError):
                    while filler.write(piece):
                        pass

    def free(self, server: Process) -> None:
        """Give it back."""
        self._filler.unlink()


class LimitedDisk:
    """The disk of everybody, on which the server may not make files longer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, server: Process) -> None:
        """Nothing may be longer than `FULL_BYTES` now."""
        _limit(server, FULL_BYTES)

    def free(self, server: Process) -> None:
        """As long as you like."""
        _limit(server, resource.RLIM_INFINITY)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk | None]:
    """A disk of its own; None where nobody lets us mount one."""
    folder.mkdir()
    mounted = subprocess.run(("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder)), capture_output=True)
    if mounted.returncode:
        yield None
        return
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(("umount", "--lazy", str(folder)), check=True)


def _limit(server: Process, size: int) -> None:
    _, hard = resource.prlimit(server.popen.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.popen.pid, resource.RLIMIT_FSIZE, (size, hard))
