"""A worker that stands still at every step is taken for dead, and does no harm when it wakes up."""

from __future__ import annotations

import pytest

from tests.crash.freezing import can_wake, freeze_and_take_over
from tests.crash.oracle import assert_sound
from tests.crash.rows import Aftermaths, Cell, Row, rows
from tests.crash.variants import POLLED, PREVIEWED, STREAMED

pytestmark = pytest.mark.anyio

# On SQLite there is nobody who could take over.
ROWS = rows(freeze_and_take_over, (STREAMED, POLLED, PREVIEWED), databases=("postgresql",), among=can_wake)


async def test_a_task_of_a_worker_frozen_there_ends_with_the_truth(aftermaths: Aftermaths, cell: Cell) -> None:
    aftermath = await aftermaths.of(cell.row)
    found = aftermath.evidence[cell.case]

    assert_sound(found)
    assert aftermath.answered[cell.case] == aftermath.repeated[cell.case]
    if cell.case.point.passage not in cell.case.variant.losing:
        assert found.task["status"] == "SUCCEEDED", str(found)


async def test_a_click_that_is_repeated_on_another_node_makes_no_second_task(aftermaths: Aftermaths, row: Row) -> None:
    aftermath = await aftermaths.of(row)

    assert sorted(task["id"] for task in aftermath.tasks) == sorted(aftermath.repeated.values())


async def test_a_worker_that_wakes_up_leaves_nothing_undone_and_no_traceback(aftermaths: Aftermaths, row: Row) -> None:
    aftermath = await aftermaths.of(row)

    assert not aftermath.pending
    assert "Traceback" not in aftermath.log, aftermath.log
