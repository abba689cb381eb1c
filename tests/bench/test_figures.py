"""Percentiles on known data, and what is made of them."""

from __future__ import annotations

import random

import pytest

from bench.figures import Comparison, Idle, Throughput, percentile


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
    assert throughput.ratio == 2.5
    assert throughput.met is None


@pytest.mark.parametrize(("seconds", "met"), [(0.9, True), (1.0, True), (1.1, False)])
def test_a_target_of_tasks_is_met_when_at_least_as_many_end(seconds: float, met: bool) -> None:
    assert Throughput(2, seconds, [1.0] * 100, 1, [1.0], target=100).met is met


@pytest.mark.parametrize(("processor", "percent", "met"), [(0.5, 2.5, True), (0.6, 3.0, False), (None, None, None)])
def test_an_idle_node_is_judged_by_its_share_of_a_core(
    processor: float | None, percent: float | None, met: bool | None
) -> None:
    idle = Idle("a node", seconds=20, processor_seconds=processor, target=3)
    assert idle.percent == percent
    assert idle.met is met
