"""What a process that runs tasks says when it stops: how long it waits for them, and what becomes of the rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from tasks.darkroom import Darkroom
from tasks.errors import DatabaseUnavailableError
from tasks.records import TaskRecord
from tasks.status import TaskStatus

log = logging.getLogger(__name__)

READING_SECONDS = 0.5
"""How long to look what has become of the generations, when the database may hang."""


async def drain(darkroom: Darkroom) -> None:
    """Let short work end, and leave the rest to another run; the log has both."""
    running, seconds = darkroom.running, darkroom.settings.shutdown_seconds
    if running and seconds:
        log.info("Waiting up to %g s (DARKROOM_SHUTDOWN_SECONDS) for %s", seconds, counted(len(running)))
    await darkroom.drain()
    if running:
        await _tell_rest(darkroom, running)


async def _tell_rest(darkroom: Darkroom, running: Collection[str]) -> None:
    try:
        async with asyncio.timeout(READING_SECONDS):
            tasks = [await darkroom.history.task(task_id) for task_id in running]
    except (TimeoutError, DatabaseUnavailableError):
        log.warning("What became of %s shows at the next start: the database does not answer", counted(len(running)))
        return
    left = [task for task in tasks if task is not None and not task.status.terminal]
    lost = [task for task in left if _is_lost(darkroom, task)]
    if lost:
        billed = "" if all(task.sandbox for task in lost) else ", and may have been billed"
        log.warning(
            "%s cut off that cannot be watched again: OUTCOME_UNKNOWN is how that ends%s. A longer "
            "DARKROOM_SHUTDOWN_SECONDS gives it the time",
            counted(len(lost), "was", "were"),
            billed,
        )
    if goes_on := len(left) - len(lost):
        where = "at the next start" if darkroom.settings.local else "on another node, or at the next start"
        log.info("%s on %s", counted(goes_on, "goes", "go"), where)


def _is_lost(darkroom: Darkroom, task: TaskRecord) -> bool:
    """Whether the next run of a task that has not ended can only say that nobody knows how it ended."""
    provider = darkroom.providers.get(task.provider)
    if provider is None or task.status is TaskStatus.QUEUED:
        return False
    able = provider.capabilities
    return not (able.findable if task.submission is None else able.resumable)


def counted(number: int, one: str = "", many: str = "") -> str:
    """So many generations, and what they do."""
    return f"{number} {'generation' if number == 1 else 'generations'} {one if number == 1 else many}".rstrip()
