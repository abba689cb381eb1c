"""The whole measurement with tiny numbers: it runs, and says what it has to. No figure is judged here."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from bench.__main__ import measure
from bench.added_time import pinned
from bench.checks import WrongError
from bench.figures import Capacity, Comparison, Idle, Results, Section, Throughput
from bench.measurements import lanes, throughput
from bench.pictures import make
from bench.plan import PLAN, Plan, Workload
from bench.report import WIDTH, added, carried, left_alone, show
from bench.setups import SQLITE, TWO_NODES, running, settings
from bench.upstream import Order, upstream

TINY = Plan(
    warm_up=1,
    workloads=[
        Workload("png-100k", streams=1, gap=0.01, seconds=0, images=1, partials=1, placeholder=True),
        Workload("small", streams=2, gap=0.01, seconds=0, images=2, partials=2),
    ],
    mutations=2,
    setups=[SQLITE, TWO_NODES],
    clients=[1, 2],
    throughput_seconds=0,
    settle_seconds=0,
    idle_seconds=0.1,
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
    show(console, results, 90)
    return console.export_text().splitlines()


def test_every_frame_of_every_stream_is_counted_on_both_sides(results: Results) -> None:
    counted = [[(len(row.direct), len(row.darkroom)) for row in section.rows] for section in results.sections]
    assert counted == [[(1, 1), (1, 1), (2, 2)], [(8, 8), (4, 4), (12, 12)], [(2, 2)]]


def test_every_shape_of_a_darkroom_carries_tasks_for_any_number_of_clients(results: Results) -> None:
    assert [[row.clients for row in each.throughputs] for each in results.capacities] == [[1, 2], [1, 2]]
    for each in results.capacities:
        for row in each.throughputs:
            assert len(row.tasks) == row.clients
            assert len(row.direct) == row.clients


def test_every_node_is_watched_while_it_has_nothing_to_do(results: Results) -> None:
    assert [len(each.idle) for each in results.capacities] == [1, 2]


def test_nothing_arrives_before_it_was_sent(results: Results) -> None:
    taken = [time for section in results.sections for row in section.rows for time in [*row.direct, *row.darkroom]]
    assert min(taken) > 0


def test_the_tables_have_a_line_for_everything(printed: list[str]) -> None:
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed if line.startswith("│")]
    databases = re.compile(r"(SQLite|PostgreSQL) [\d.]+")
    assert [databases.sub(r"\1", line[0]) for line in cells] == [
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
        "SQLite, one node",
        "1 client",
        "2 clients",
        "PostgreSQL, 2 nodes",
        "1 client",
        "2 clients",
        "SQLite, one node",
        "PostgreSQL, 2 nodes: node 1",
        "PostgreSQL, 2 nodes: node 2",
    ]
    milliseconds, ratio = re.compile(r"-?\d+(\.\d\d)?"), re.compile(r"\d+\.\d×")
    for line in cells:
        if line[0] in ("partial", "final", "all frames", "until the POST is received"):
            assert all(milliseconds.fullmatch(cell) for cell in line[1:7]), line
            assert ratio.fullmatch(line[7])
            assert re.fullmatch(r"<(10|50) [✓✗]", line[8])
            assert int(line[9]) > 0
        elif line[0].endswith(("client", "clients")):
            assert int(line[1]) > 0
            assert ratio.fullmatch(line[3])
            assert re.fullmatch(r"≥100 [✓✗]" if line[0] == "2 clients" else "", line[4])
            assert all(milliseconds.fullmatch(cell) for cell in line[5:7]), line
            assert int(line[9]) > 0


def test_the_output_says_what_was_measured_and_on_what(printed: list[str]) -> None:
    text = " ".join(printed)
    said = ("cores", "CPython 3.", "SQLite 3.", "strawberry-graphql 0.", "base64", "placeholder", "idle", "Other work")
    assert not [words for words in said if words not in text]
    assert max(map(len, printed)) <= WIDTH


@pytest.mark.parametrize(
    "table",
    [
        lambda: added(
            [Section(one.title, [Comparison("all frames", [1234.5], [98765.4], 10)]) for one in PLAN.workloads]
        ),
        lambda: carried(
            [
                Capacity(
                    one.on("PostgreSQL 18.44"),
                    [Throughput(64, 20, [98765.4] * 9999, 10, [1.0] * 99999, 999, 999, 100)],
                    [],
                )
                for one in PLAN.setups
            ]
        ),
        lambda: left_alone([Capacity("", [], [Idle(f"{PLAN.setups[-1].title}: node 2", 20, 20, 3)])]),
    ],
    ids=["added", "carried", "left alone"],
)
def test_the_tables_of_the_real_plan_fit_their_width_with_any_figures(table: Callable[[], Table]) -> None:
    console = Console(file=io.StringIO(), width=WIDTH, record=True)
    console.print(table())
    assert "…" not in console.export_text()


def test_nothing_is_left_on_the_disk(results: Results, folder: Path) -> None:
    assert list(folder.iterdir()) == []


def test_a_scaled_plan_measures_longer_and_nothing_else() -> None:
    longer = PLAN.scaled(2)
    assert [one.seconds for one in longer.workloads] == [2 * one.seconds for one in PLAN.workloads]
    assert longer.mutations == 2 * PLAN.mutations
    assert longer.idle_seconds == 2 * PLAN.idle_seconds
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
    with upstream(tmp_path, ["small"]) as address, running(SQLITE, tmp_path, **settings(address)) as darkroom:

        async def ask() -> None:
            async with lanes(darkroom.nodes, address, 1) as clients:
                await clients.watchers[0].post(Order(pictures="unknown"))

        with pytest.raises(WrongError, match="A task failed with"):
            asyncio.run(ask())


def test_a_generation_that_nobody_asked_for_stops_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, ["small"])
    with upstream(tmp_path, ["small"]) as address, running(SQLITE, tmp_path, **settings(address)) as darkroom:

        async def ask() -> None:
            async with lanes(darkroom.nodes, address, 1) as clients:
                once = clients.watchers[0].ask

                async def twice(order: Order) -> str:
                    await clients.direct[0].ask(order)
                    return await once(order)

                monkeypatch.setattr(clients.watchers[0], "ask", twice)
                await throughput(clients, 1, 0, darkroom)

        with pytest.raises(WrongError, match="1 tasks of one picture each asked the upstream for 2 generations"):
            asyncio.run(ask())
