"""The engine's queues, on both databases, and the names of DBOS that it relies on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import pytest
from sqlalchemy import Connection, text

from providers.limits import Limits
from tasks import engine
from tasks.database import Database
from tasks.engine import Engine, Owned, migrate_engine
from tasks.records import now
from tests.clients import eventually

pytestmark = pytest.mark.anyio

QUEUE = "openai_images"
SECONDS = 20
UNLIMITED = Limits()


def test_the_version_of_dbos_is_the_one_whose_private_names_are_used() -> None:
    assert version("dbos") == "3.4.0", "read tasks/engine.py before you move on"


@pytest.fixture(autouse=True)
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """What starts has been woken."""
    monkeypatch.setattr(engine, "POLLING_SECONDS", 3600.0)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Empty, of each kind."""
    database = Database(database_url)
    await database.migrate(lambda: migrate_engine(database.sync_url))
    yield database
    await database.close()


class Runs:
    """Runs that last until the test lets them end."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.owned: list[Owned] = []
        self.running = 0
        self.most = 0
        self.gate = asyncio.Event()
        self._news = asyncio.Condition()

    async def __call__(self, task_id: str, owned: Owned) -> None:
        self.started.append(task_id)
        self.owned.append(owned)
        self.running += 1
        self.most = max(self.most, self.running)
        await self._tell()
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
            await self._tell()

    async def until(self, fulfilled: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self._news:
            await self._news.wait_for(fulfilled)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


@asynccontextmanager
async def working(
    database: Database, runs: Runs, limits: Limits = UNLIMITED, *, concurrency: int = 4, node: str = "here"
) -> AsyncIterator[Engine]:
    worker = Engine(database, runs, {QUEUE: limits}, concurrency=concurrency)
    await worker.start(node)
    try:
        yield worker
    finally:
        await worker.drain(0)
        await worker.stop()


async def enqueue(database: Database, worker: Engine, *task_ids: str, turn: int = 0) -> None:
    for task_id in task_ids:
        await database.write(lambda connection: worker.enqueue(connection, task_id, QUEUE, turn))  # noqa: B023
    worker.wake(QUEUE)


def _break(worker: Engine, connection: Connection) -> None:
    worker.enqueue(connection, "rolled back", QUEUE, 0)
    raise LookupError


async def test_a_committed_task_starts_without_waiting_for_a_poll_and_a_rolled_back_one_never(
    database: Database,
) -> None:
    runs = Runs()
    runs.gate.set()
    async with working(database, runs) as worker:
        with pytest.raises(LookupError):
            await database.write(lambda connection: _break(worker, connection))
        await enqueue(database, worker, *(f"task {number}" for number in range(20)))
        await runs.until(lambda: len(runs.started) == 20 and runs.running == 0)

    assert sorted(runs.started) == sorted(f"task {number}" for number in range(20))


async def test_what_runs_again_is_not_over_when_an_older_run_of_it_ends(database: Database) -> None:
    gates: list[tuple[str, asyncio.Event]] = []
    started = asyncio.Condition()

    async def run(task_id: str, _: Owned) -> None:
        async with started:
            gates.append((task_id, gate := asyncio.Event()))
            started.notify_all()
        await gate.wait()

    async def all_run(number: int) -> None:
        async with asyncio.timeout(SECONDS), started:
            await started.wait_for(lambda: len(gates) == number)

    worker = Engine(database, run, {QUEUE: UNLIMITED}, concurrency=4)
    await worker.start("before")
    await enqueue(database, worker, "first")
    await all_run(1)
    worker.rename("after")  # it has been taken for dead
    await database.write(lambda connection: worker.enqueue(connection, "second", QUEUE, 0))
    await worker.recover(["before"])
    await all_run(3)
    gates[0][1].set()
    next(gate for task_id, gate in gates if task_id == "second").set()
    await eventually(lambda: _told(worker))
    lost = await worker.lost(["first", "second"])
    await worker.drain(0)
    await worker.stop()

    assert sorted(task_id for task_id, _ in gates) == ["first", "first", "second"]
    assert lost == {"second"}, "only that is over"


async def _told(worker: Engine) -> bool:
    return worker._telling is not None and worker._telling.done()


async def test_what_is_claimed_although_the_answer_to_that_was_lost_is_run_in_the_end(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = Runs()
    async with working(database, runs) as worker:
        start_queued = worker._system.start_queued_workflows
        answers: list[list[str]] = []
        answered = threading.Event()

        def lose_the_first_answer(*args: Any, **kwargs: Any) -> tuple[list[str], Any]:
            claimed, stopped_by = start_queued(*args, **kwargs)
            if claimed:
                answers.append(claimed)
                answered.set()
            return ([] if len(answers) == 1 else claimed), stopped_by

        monkeypatch.setattr(worker._system, "start_queued_workflows", lose_the_first_answer)
        await enqueue(database, worker, "task")
        assert await asyncio.to_thread(answered.wait, SECONDS)
        await worker.find_mislaid()
        assert not runs.started, "its run may just be about to begin"
        monkeypatch.setattr(engine, "MISLAID_SECONDS", 0.0)
        await worker.find_mislaid()
        await runs.until(lambda: runs.running == 1)
        assert "does not run here" in caplog.text
        caplog.clear()
        await worker.find_mislaid()
        told, write = asyncio.Event(), database.write

        async def slowly(work: Callable[[Connection], Any]) -> Any:
            await told.wait()
            return await write(work)

        monkeypatch.setattr(database, "write", slowly)
        runs.gate.set()
        await runs.until(lambda: runs.running == 0)
        await worker.find_mislaid()  # it has ended, only the queue does not know yet
        told.set()

    assert runs.started == ["task"]
    assert "does not run here" not in caplog.text


async def test_a_node_runs_no_more_at_a_time_than_it_may(database: Database) -> None:
    runs = Runs()
    async with working(database, runs, concurrency=3) as worker:
        await enqueue(database, worker, *(f"task {number}" for number in range(10)))
        await runs.until(lambda: runs.running == 3)
        assert worker.full(QUEUE)
        runs.gate.set()
        await runs.until(lambda: len(runs.started) == 10 and runs.running == 0)

    assert runs.most == 3


async def test_the_limit_of_an_account_holds_for_two_nodes_together(database: Database) -> None:
    runs = Runs()
    limits = Limits(concurrency=2)
    async with working(database, runs, limits, node="a") as a, working(database, runs, limits, node="b") as b:
        for number in range(6):
            await enqueue(database, (a, b)[number % 2], f"task {number}")
            a.wake(QUEUE)
            b.wake(QUEUE)
        await runs.until(lambda: runs.running == 2)
        runs.gate.set()
        await runs.until(lambda: len(runs.started) == 6 and runs.running == 0)

    assert runs.most == 2


async def test_no_more_are_started_in_a_minute_than_the_account_takes(database: Database) -> None:
    runs = Runs()
    runs.gate.set()
    async with working(database, runs, Limits(per_minute=3)) as worker:
        await enqueue(database, worker, *(f"task {number}" for number in range(5)))
        await runs.until(lambda: len(runs.started) == 3)
        worker.wake(QUEUE)
        await database.read(lambda connection: None)

    assert len(runs.started) == 3


async def test_lower_turns_go_first(database: Database) -> None:
    runs = Runs()
    async with working(database, runs, concurrency=1) as worker:
        await enqueue(database, worker, "running")
        await runs.until(lambda: runs.running == 1)
        for turn, task_id in ((2, "third"), (0, "first"), (1, "second")):
            await enqueue(database, worker, task_id, turn=turn)
        runs.gate.set()
        await runs.until(lambda: len(runs.started) == 4 and runs.running == 0)

    assert runs.started == ["running", "first", "second", "third"]


async def test_what_a_dead_node_was_running_is_run_by_another_and_what_a_living_one_runs_is_not(
    database: Database,
) -> None:
    dead, alive, here = Runs(), Runs(), Runs()
    async with working(database, alive, node="alive") as living:
        await enqueue(database, living, "theirs")
        await alive.until(lambda: alive.running == 1)
        async with working(database, dead, node="dead") as dying:
            living._queues.clear()  # nobody else may take it
            await enqueue(database, dying, "orphan")
            await dead.until(lambda: dead.running == 1)
        async with working(database, here, node="here") as worker:
            assert await worker.owners() == {"alive", "dead"}
            assert await worker.recover(["dead"]) == 1
            assert await worker.recover(["dead"]) == 0
            await here.until(lambda: here.running == 1)

    assert here.started == ["orphan"]


async def test_a_task_that_the_engine_has_lost_can_be_queued_again(database: Database) -> None:
    runs = Runs()
    runs.gate.set()
    async with working(database, runs) as worker:
        await enqueue(database, worker, "ended")
        await runs.until(lambda: len(runs.started) == 1 and runs.running == 0)
        assert worker._telling is not None
        await worker._telling
        assert await worker.lost(["ended", "unknown"]) == {"ended", "unknown"}
        await worker.enqueue_again("ended", QUEUE, 0)
        await runs.until(lambda: len(runs.started) == 2 and runs.running == 0)


async def test_what_is_over_is_forgotten(database: Database) -> None:
    runs = Runs()
    runs.gate.set()
    async with working(database, runs) as worker:
        await enqueue(database, worker, "ended")
        await runs.until(lambda: len(runs.started) == 1 and runs.running == 0)
        assert worker._telling is not None
        await worker._telling

        assert await worker.clean_up(now() - timedelta(hours=1), 500) == 0
        assert await worker.clean_up(now() + timedelta(hours=1), 500) == 1
        assert await worker.clean_up(now() + timedelta(hours=1), 500) == 0


async def test_two_runs_of_one_task_that_overlap_are_two(database: Database) -> None:
    runs = Runs()
    async with working(database, runs) as worker:
        await enqueue(database, worker, "taken")
        await runs.until(lambda: runs.running == 1)
        worker.rename("another name")
        assert await worker.recover(["here"]) == 1
        await runs.until(lambda: runs.running == 2)
        older = next(iter(worker._queues[QUEUE].running))
        older.cancel()
        await runs.until(lambda: runs.running == 1)
        assert worker.running == {"taken"}, "the newer one goes on"

    assert runs.running == 0, "and is stopped with the node"


async def test_nothing_is_taken_while_the_node_may_be_thought_dead(database: Database) -> None:
    runs = Runs()
    runs.gate.set()
    async with working(database, runs) as unheard:
        unheard.take_until(time.monotonic())
        assert unheard.full(QUEUE), "another node should look"
        await enqueue(database, unheard, "waiting")
        await eventually(lambda: looked(unheard))
        assert not runs.started
        unheard.take_until(time.monotonic() + SECONDS)
        await runs.until(lambda: runs.started == ["waiting"])
        assert not unheard.full(QUEUE)


async def looked(worker: Engine) -> bool:
    """Whether a queue has been looked into since it was woken."""
    return not worker._queues[QUEUE].woken.is_set()


async def test_a_run_is_told_when_its_task_has_been_taken_over(database: Database) -> None:
    runs = Runs()
    async with working(database, runs) as worker:
        await enqueue(database, worker, "taken")
        await runs.until(lambda: runs.running == 1)
        before = await database.write(runs.owned[0])
        worker.rename("another name")
        await worker.recover(["here"])
        await runs.until(lambda: runs.running == 2)
        older, newer = [await database.write(owned) for owned in runs.owned]

    assert (before, older, newer) == (True, False, True)


async def test_a_task_is_not_taken_over_while_its_run_claims_it(postgres_with_tables: str) -> None:
    database, runs = Database(postgres_with_tables), Runs()
    asked, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def claim(connection: Connection) -> bool:
        owned = runs.owned[0](connection)
        loop.call_soon_threadsafe(asked.set)
        return go_on.wait(SECONDS) and owned

    async def somebody_waits() -> bool:
        waiting = text("select exists (select from pg_locks where not granted)")
        return bool(await database.read(lambda connection: connection.execute(waiting).scalar()))

    async with working(database, runs) as worker:
        await enqueue(database, worker, "claimed")
        await runs.until(lambda: runs.running == 1)
        claiming = asyncio.create_task(database.write(claim))
        await asked.wait()
        taking = asyncio.create_task(worker.recover(["here"]))
        try:
            await eventually(somebody_waits)
        finally:
            go_on.set()
        assert await claiming
        assert await taking == 1
    await database.close()


async def test_a_task_that_needs_no_run_any_more_uses_up_no_start_of_the_account(database: Database) -> None:
    runs = Runs()
    async with working(database, runs, Limits(per_minute=2), concurrency=1) as worker:
        await enqueue(database, worker, "first")
        await runs.until(lambda: runs.running == 1)
        await enqueue(database, worker, "canceled", "second", "third", turn=1)
        await worker.forget("canceled")
        await worker.forget("first")  # it has been started, and that counts
        runs.gate.set()
        await runs.until(lambda: len(runs.started) == 2 and runs.running == 0)
        assert worker._telling is not None
        await worker._telling
        assert not await database.outside(lambda: worker._claim(worker._queues[QUEUE], "nobody"))

    assert runs.started == ["first", "second"]
