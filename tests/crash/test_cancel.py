"""Canceling at every step: whoever wins, what is said about it is true, and what was paid for arrives."""

from __future__ import annotations

from functools import partial

import pytest

from tests.crash.canceling import can_be_canceled, cancel_everywhere
from tests.crash.oracle import assert_sound
from tests.crash.rows import Aftermaths, Cell, Row, rows
from tests.crash.variants import POLLED, PREVIEWED, STREAMED

pytestmark = pytest.mark.anyio

ALL = (STREAMED, POLLED, PREVIEWED)
ROWS = [
    *rows(partial(cancel_everywhere, first=True), ALL, databases=("postgresql",), among=can_be_canceled),
    *rows(partial(cancel_everywhere, first=False), ALL, databases=("sqlite",), among=can_be_canceled),
]
"""On PostgreSQL the wish comes from another node, and before the task goes on; on SQLite while it does."""


async def test_a_task_canceled_there_ends_with_the_truth(aftermaths: Aftermaths, cell: Cell) -> None:
    aftermath = await aftermaths.of(cell.row)
    found = aftermath.evidence[cell.case]

    assert_sound(found)
    assert found.task["status"] in ("CANCELED", "SUCCEEDED"), str(found)


async def test_canceling_leaves_nothing_undone_and_no_traceback(aftermaths: Aftermaths, row: Row) -> None:
    aftermath = await aftermaths.of(row)

    assert not aftermath.pending
    assert "Traceback" not in aftermath.log, aftermath.log
