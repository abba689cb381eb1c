"""What the figures were measured on, in plain words."""

from __future__ import annotations

import os
import platform
import resource
import sqlite3
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from bench.figures import percentile

_PARTS = ("strawberry-graphql", "uvicorn", "websockets", "httpx", "httpx-sse", "sqlalchemy", "dbos")
_FLUSHES = 50
_STAT = Path("/proc/stat")
_CALM = 0.1
"""Cores that others may use before the figures suffer."""


def machine(folder: Path, *, pinned: bool) -> list[str]:
    """Sentences about this machine; `folder` is where the data is kept."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    spread = "for the added time, Darkroom on one and client and upstream on another" if pinned else "shared by all"
    parts = ", ".join(f"{name} {version(name)}" for name in _PARTS)
    return [
        f"{cores} cores ({spread}), {platform.system()} {platform.machine()}, "
        f"{platform.python_implementation()} {platform.python_version()}, SQLite {sqlite3.sqlite_version}.",
        f"{parts}",
        f"The data is on {file_system(folder)}; a flush to that disk takes {flush_milliseconds(folder):.2f} ms, and "
        "Darkroom waits for one before it shows an event.",
    ]


def file_system(folder: Path) -> str:
    """The kind of file system a folder is on, like `ext4`."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "a file system of unknown kind"
    entries = [line.split() for line in mounts.read_text().splitlines()]
    holding = [entry for entry in entries if folder.resolve().is_relative_to(entry[1])]
    return max(holding, key=lambda entry: len(entry[1]))[2]


def flush_milliseconds(folder: Path) -> float:
    """The median time of one flush to the disk."""
    took = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(_FLUSHES):
            file.write(b"\0" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1e3)
    return percentile(took, 50)


class OtherWork:
    """How busy this machine was with something else, from the making of this object to `sentence`.

    Processes that this one started count as its own once they have ended and have been waited for.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._others = _busy_seconds() - _own_seconds()

    def sentence(self) -> str:
        """For the reader of the figures."""
        if not _STAT.exists():
            return "Whether the machine did anything else meanwhile is not known."
        cores = max(0.0, (_busy_seconds() - _own_seconds() - self._others) / (time.monotonic() - self._began))
        verdict = "nothing to speak of" if cores < _CALM else "an idle machine gives better figures"
        return f"Other work took {cores:.2f} cores meanwhile: {verdict}."


def _busy_seconds() -> float:
    """Processor time of the whole machine since it started, waiting left out."""
    if not _STAT.exists():
        return 0
    user, nice, system, _idle, _waiting, *interrupts = map(int, _STAT.read_text().splitlines()[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)
