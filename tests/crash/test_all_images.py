"""All-Images.ai, with and without buying, killed at every step."""

from __future__ import annotations

from tests.crash.matrix import BOUGHT, PREVIEWED
from tests.crash.matrix_tests import (
    aftermaths,
    pytest_generate_tests,
    test_a_click_that_is_repeated_after_a_crash_makes_no_second_task,
    test_a_task_killed_there_ends_with_the_truth,
    test_nothing_is_left_undone_and_nothing_is_complained_about,
)

__all__ = [
    "aftermaths",
    "pytest_generate_tests",
    "test_a_click_that_is_repeated_after_a_crash_makes_no_second_task",
    "test_a_task_killed_there_ends_with_the_truth",
    "test_nothing_is_left_undone_and_nothing_is_complained_about",
]

VARIANTS = (PREVIEWED, BOUGHT)
