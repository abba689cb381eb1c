"""Processor time of other processes, as the kernel counts it: exact, whatever else the machine does meanwhile."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROCESSES = Path("/proc")


@dataclass(frozen=True, slots=True)
class _Times:
    parent: int
    seconds: float
    """Its own, and that of children that have ended and have been waited for."""


def seconds_used(pid: int) -> float | None:
    """What a process and all its children have used so far; None where there is no `/proc` to look into."""
    if not (_PROCESSES / "stat").exists():
        return None
    times = {each: found for each in _pids() if (found := _times(each)) is not None}
    family = {pid}
    while more := {each for each, found in times.items() if found.parent in family} - family:
        family |= more
    return sum(times[each].seconds for each in family if each in times)


def since(before: float | None, now: float | None) -> float | None:
    """What was used between two of these; None if either is unknown."""
    return None if before is None or now is None else now - before


def _pids() -> list[int]:
    return [int(entry.name) for entry in _PROCESSES.iterdir() if entry.name.isdecimal()]


def _times(pid: int) -> _Times | None:
    try:
        text = (_PROCESSES / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None  # it has just ended
    # Behind the name, which stands in parentheses and may hold anything (proc(5), fields 4 and 14 to 17).
    fields = text.rpartition(")")[2].split()
    return _Times(int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK"))
