"""Placewise that pushes its results, killed at every step."""

from __future__ import annotations

from tests.crash.matrix import die_and_recover
from tests.crash.matrix_tests import (
    test_a_click_that_is_repeated_after_a_crash_makes_no_second_task,
    test_a_task_killed_there_ends_with_the_truth,
    test_nothing_is_left_undone_and_nothing_is_complained_about,
)
from tests.crash.rows import rows
from tests.crash.variants import PUSHED

__all__ = [
    "test_a_click_that_is_repeated_after_a_crash_makes_no_second_task",
    "test_a_task_killed_there_ends_with_the_truth",
    "test_nothing_is_left_undone_and_nothing_is_complained_about",
]

ROWS = rows(die_and_recover, (PUSHED,))
