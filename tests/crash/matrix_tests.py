"""The tests of the crash matrix. A test file imports them, and says in `ROWS` which rows it is about.

The rows are spread over files because a file is the least that one test process takes.
"""

from __future__ import annotations

import pytest

from tests.crash.oracle import assert_sound
from tests.crash.rows import Aftermaths, Cell, Row


@pytest.mark.anyio
async def test_a_task_killed_there_ends_with_the_truth(aftermaths: Aftermaths, cell: Cell) -> None:
    aftermath, variant, point = await aftermaths.of(cell.row), cell.case.variant, cell.case.point
    found = aftermath.evidence[cell.case]

    assert_sound(found)
    assert aftermath.answered[cell.case] in (None, aftermath.repeated[cell.case])
    if (point.again or point.passage) not in variant.losing:
        assert found.task["status"] == "SUCCEEDED", str(found)


@pytest.mark.anyio
async def test_a_click_that_is_repeated_after_a_crash_makes_no_second_task(aftermaths: Aftermaths, row: Row) -> None:
    aftermath = await aftermaths.of(row)

    assert sorted(task["id"] for task in aftermath.tasks) == sorted(aftermath.repeated.values())


@pytest.mark.anyio
async def test_nothing_is_left_undone_and_nothing_is_complained_about(aftermaths: Aftermaths, row: Row) -> None:
    aftermath = await aftermaths.of(row)

    assert not aftermath.pending
    assert "Traceback" not in aftermath.log, aftermath.log
