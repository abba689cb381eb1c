"""Percentiles on known data, and what is made of them."""

from __future__ import annotations

import random

import pytest

from bench.figures import Comparison, Throughput, percentile


@pytest.mark.parametrize(
    ("percent", "expected"), [(1, 1), (50, 50), (50.5, 51), (99, 99), (99.1, 100), (100, 100)], ids=str
)
def test_percentiles_of_the_numbers_from_1_to_100_in_any_order(percent: float, expected: float) -> None:
    values = [float(value) for value in range(1, 101)]
    random.Random(1).shuffle(values)
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([7.0], 50, 7.0),
        ([7.0], 99, 7.0),
        ([3.0, 1.0], 50, 1.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([1.0] * 98 + [9.0], 99, 9.0),
    ],
)
def test_percentiles_of_few_values_are_among_them(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_percentiles_leave_the_values_as_they_were() -> None:
    values = [3.0, 1.0, 2.0]
    percentile(values, 50)
    assert values == [3.0, 1.0, 2.0]


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)], ids=["none", "below", "above"])
def test_there_are_no_percentiles_of_nothing_and_none_beyond_100(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percent"):
        percentile(values, percent)


def test_what_is_added_is_the_difference_of_percentiles() -> None:
    comparison = Comparison("frames", direct=[1.0, 2.0, 3.0], darkroom=[12.0, 8.0, 4.0])
    assert comparison.added(50) == 6.0
    assert comparison.added(99) == 9.0
    assert comparison.ratio == 4.0
    assert comparison.met is None


@pytest.mark.parametrize(("darkroom", "met"), [(10.9, True), (11.0, False), (11.1, False)])
def test_a_target_is_met_when_less_is_added(darkroom: float, met: bool) -> None:
    assert Comparison("frames", [1.0], [darkroom], target=10.0).met is met


def test_throughput_counts_what_ended_in_the_time_it_took() -> None:
    throughput = Throughput(2, seconds=4.0, tasks=[100.0] * 8, direct_seconds=2.0, direct=[1.0] * 10)
    assert throughput.per_second == 2.0
    assert throughput.direct_per_second == 5.0
