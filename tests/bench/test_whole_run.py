"""The whole measurement with tiny numbers: it runs, and says what it has to. No figure is judged here."""

from __future__ import annotations

import asyncio
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from bench.added_time import Results, measure, pinned
from bench.checks import WrongError
from bench.figures import Comparison, Section, Throughput
from bench.measurements import lanes
from bench.pictures import make
from bench.plan import PLAN, Plan, Workload
from bench.report import WIDTH, show, table
from bench.upstream import Order, upstream
from tests.process import serve

TINY = Plan(
    workloads=[
        Workload("png-100k", streams=1, gap=0.01, seconds=0, images=1, partials=1, placeholder=True),
        Workload("small", streams=2, gap=0.01, seconds=0, images=2, partials=2),
    ],
    mutations=2,
    throughput_clients=2,
    throughput_seconds=0.1,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return measure(TINY, folder, pin=False, say=lambda _: None)


@pytest.fixture(scope="module")
def printed(results: Results) -> list[str]:
    console = Console(file=io.StringIO(), width=WIDTH, record=True)
    show(console, results.sections, results.throughput, results.about, 90)
    return console.export_text().splitlines()


def test_every_frame_of_every_stream_is_counted_on_both_sides(results: Results) -> None:
    counted = [[(len(row.direct), len(row.darkroom)) for row in section.rows] for section in results.sections]
    assert counted == [[(1, 1), (1, 1), (2, 2)], [(8, 8), (4, 4), (12, 12)], [(2, 2)]]
    assert len(results.throughput.tasks) >= 2
    assert len(results.throughput.direct) >= 2


def test_nothing_arrives_before_it_was_sent(results: Results) -> None:
    taken = [time for section in results.sections for row in section.rows for time in [*row.direct, *row.darkroom]]
    assert min(taken) > 0


def test_the_table_has_a_line_for_everything(printed: list[str]) -> None:
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed if line.startswith("│")]
    assert [line[0] for line in cells] == [
        "PNG 100 KB, 1 stream, 100/s, placeholder",
        "partial",
        "final",
        "all frames",
        "small PNG, 2 streams, 200/s",
        "partial",
        "final",
        "all frames",
        "Mutation, idle server",
        "until the POST is received",
        "Whole tasks, small PNG, 2 clients",
        "mutation to TaskSucceeded",
        "per second",
    ]
    milliseconds, ratio = re.compile(r"-?\d+(\.\d\d)?"), re.compile(r"\d+\.\d×")
    for line in cells:
        if line[0] in ("partial", "final", "all frames", "until the POST is received"):
            assert all(milliseconds.fullmatch(cell) for cell in line[1:7]), line
            assert ratio.fullmatch(line[7])
            assert re.fullmatch(r"<(10|50) [✓✗]", line[8])
            assert int(line[9]) > 0


def test_the_output_says_what_was_measured_and_on_what(printed: list[str]) -> None:
    text = " ".join(printed)
    for said in ("cores", "CPython 3.", "SQLite 3.", "strawberry-graphql 0.", "base64", "placeholder", "Other work"):
        assert said in text
    assert max(map(len, printed)) <= WIDTH


def test_the_table_of_the_real_plan_fits_its_width_with_any_figures() -> None:
    rows = [Comparison("all frames", [1234.5], [98765.4], target=10.0)]
    throughput = Throughput(16, 1.0, [98765.4], 1.0, [1.0])
    console = Console(file=io.StringIO(), width=WIDTH, record=True)
    console.print(table([Section(workload.title, rows) for workload in PLAN.workloads], throughput))
    text = console.export_text()
    assert "…" not in text
    assert all(workload.title in text for workload in PLAN.workloads)


def test_nothing_is_left_on_the_disk(results: Results, folder: Path) -> None:
    assert list(folder.iterdir()) == []


def test_a_scaled_plan_measures_longer_and_nothing_else() -> None:
    longer = PLAN.scaled(2)
    assert [one.seconds for one in longer.workloads] == [2 * one.seconds for one in PLAN.workloads]
    assert longer.mutations == 2 * PLAN.mutations
    assert longer.kinds == PLAN.kinds


def test_streams_of_a_round_begin_at_different_moments_and_the_same_on_both_sides() -> None:
    workload = Workload("small", streams=4, gap=0.2, seconds=1)
    leads = [workload.order(seed).lead for seed in range(4)]
    assert len(set(leads)) == 4
    assert max(leads) - min(leads) < 0.2
    assert workload.order(2) == workload.order(2)


def test_a_pinned_process_runs_on_one_core_until_the_block_ends() -> None:
    os = pytest.importorskip("os")
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("only Linux pins processes")
    before = os.sched_getaffinity(0)
    with pinned(0):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_a_task_that_fails_stops_the_measurement(tmp_path: Path) -> None:
    make(tmp_path, ["small"])
    with upstream(tmp_path, ["small"]) as address:
        settings = {"DARKROOM_OPENAI_IMAGES_BASE_URL": f"{address}/v1", "DARKROOM_OPENAI_IMAGES_TOKEN": "bench"}
        with serve(tmp_path / "home", **settings) as server:

            async def ask() -> None:
                async with lanes(server, address, 1) as clients:
                    await clients.watchers[0].post(Order(pictures="unknown"))

            with pytest.raises(WrongError, match="A task failed with"):
                asyncio.run(ask())
