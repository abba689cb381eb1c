"""What docs/operations.md says can be done: its commands are run, on real servers, while they work."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import httpx
import pytest

from graph.ids import key
from graph.settings_report import report
from providers.contract import CancelOutcome
from providers.errors import FailureCode
from tasks import answer, darkroom, nodes, patience, repair, upkeep, watch
from tests.clients import WATCH, execute, openai_images, start, subscribe
from tests.clients import watch as events_of
from tests.postgres import INSTALLED, WHEEL, PostgresServer
from tests.process import Process, serve

pytestmark = pytest.mark.anyio

gnu = pytest.mark.skipif(sys.platform != "linux", reason="copying the pictures takes GNU find and cp")

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/operations.md").read_text()
SHELL = {
    heading: list(re.findall(r"^```sh\n(.*?)^```$", section, re.M | re.S))
    for heading, section in re.findall(r"^##+ ([^\n]+)\n(.*?)(?=^## |^### |\Z)", TEXT, re.M | re.S)
    if "```sh\n" in section
}
RUN = {
    "The database: SQLite",
    "The database: PostgreSQL",
    "The pictures",
    "Into a folder (SQLite)",
    "Into an empty database (PostgreSQL)",
    "The first start",
    "Upgrading",
    "Every machine does everything",
    "Some serve, some work",
}
HISTORY = "{ tasks(first: 100) { nodes { id status images { id url sha256 } partialImages { url sha256 } } } }"


@pytest.fixture
def other_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A second empty database."""
    with postgres_server.database() as url:
        yield url


def shell(heading: str, **environment: str) -> str:
    """Run the commands below a heading, as they stand there; what they print."""
    programs = [str(Path(sys.executable).parent)]
    if (wheel := find_spec(WHEEL)) is not None and wheel.submodule_search_locations:
        programs.append(str(Path(wheel.submodule_search_locations[0]) / INSTALLED / "bin"))
    path = os.pathsep.join([*programs, os.environ["PATH"]])
    command = ("bash", "-euo", "pipefail", "-c", *SHELL[heading])
    variables = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def settings(heading: str) -> dict[str, str]:
    """The settings in front of `darkroom serve` below a heading."""
    (words,) = [shlex.split(line) for line in SHELL[heading][0].splitlines() if line.endswith("darkroom serve")]
    return dict(word.split("=", 1) for word in words[: words.index("darkroom")])


def commands(heading: str) -> list[tuple[str, ...]]:
    """The `darkroom …` commands below a heading, for the interpreter of these tests."""
    lines = [shlex.split(line, comments=True) for line in SHELL[heading][0].splitlines()]
    return [(sys.executable, "-m", "graph.cli", *words[1:]) for words in lines if words and words[0] == "darkroom"]


@contextmanager
def working(folder: Path, command: tuple[str, ...], **environment: str) -> Iterator[None]:
    """`darkroom worker` as a process of its own, for as long as the block lasts."""
    log = folder / "worker.log"
    variables = os.environ | {"PYTHONPATH": str(ROOT), "DARKROOM_HOME": str(folder)} | environment
    with log.open("w") as stderr:
        worker = subprocess.Popen(command, env=variables, cwd=folder, stderr=stderr)
        try:
            yield
        finally:
            worker.terminate()
            assert worker.wait(30) == 0, log.read_text()


async def until(server: Process, task_id: str, *kinds: str) -> None:
    """Watch a task up to the first event of a kind."""
    async with aclosing(subscribe(server, WATCH, {"id": task_id})) as messages:
        async for message in messages:
            event = message["payload"]["data"]["taskEvents"]
            if {event["__typename"], event.get("status")} & set(kinds):
                return
    raise AssertionError(f"the task ended without {kinds}")


async def charged(server: Process) -> set[str]:
    """The tasks that the simulators of a server were paid for."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return {charge["reference"] for charge in (await client.get(f"{server.url}/sandbox/ledger")).json()}


async def pictures(server: Process) -> dict[str, set[str]]:
    """The tasks of a server with the hashes of their pictures, each of which has been downloaded."""
    nodes = (await execute(server, HISTORY))["data"]["tasks"]["nodes"]
    async with httpx.AsyncClient(trust_env=False) as client:
        for image in (image for task in nodes for image in [*task["images"], *task["partialImages"]]):
            data = (await client.get(image["url"])).raise_for_status().content
            assert hashlib.sha256(data).hexdigest() == image["sha256"]
    return {task["id"]: {image["sha256"] for image in task["images"]} for task in nodes}


async def busy(server: Process, numbers: Iterator[int], done: asyncio.Event) -> None:
    """Generate one picture after the other, each another one, until told to stop."""
    while not done.is_set():
        await events_of(server, await start(server, openai_images(f"Roof {next(numbers)}", partialImages=2)))


@gnu
async def test_what_is_copied_while_the_server_works_is_whole(tmp_path: Path) -> None:
    home, places = tmp_path / "home", {"DARKROOM_HOME": str(tmp_path / "home"), "BACKUP": str(tmp_path / "backup")}
    with serve(home) as server:
        done, numbers = asyncio.Event(), count(1)
        work = [asyncio.create_task(busy(server, numbers, done)) for _ in range(4)]
        await events_of(server, await start(server, openai_images("A first roof")))
        assert await asyncio.to_thread(shell, "The database: SQLite", **places) == "ok\n"
        await asyncio.to_thread(shell, "The pictures", **places)
        done.set()
        await asyncio.gather(*work)

    database = sqlite3.connect(tmp_path / "backup/darkroom.db")
    hashes = {sha256 for (sha256,) in database.execute("SELECT sha256 FROM image")}
    gaps = database.execute("SELECT task_id FROM task_event GROUP BY task_id HAVING count(*) <> max(sequence)")
    copied = {path.stem for path in (tmp_path / "backup/images/originals").rglob("*.*")}
    assert hashes
    assert not hashes - copied
    assert not gaps.fetchall()
    database.close()


@gnu
async def test_a_restored_server_has_the_history_and_sends_nothing_again(tmp_path: Path) -> None:
    places = {name: str(tmp_path / name) for name in ("DARKROOM_HOME", "BACKUP", "RESTORED")}
    with serve(tmp_path / "DARKROOM_HOME", DARKROOM_CONCURRENCY="1") as first:
        finished = await start(first, openai_images("A hall", partialImages=2))
        before = await events_of(first, finished)
        running = await start(first, openai_images("A stair [[sandbox: pause=60]]", partialImages=1))
        await until(first, running, "RUNNING")
        waiting = [await start(first, openai_images(f"A door {number}")) for number in range(3)]
        for heading in ("The database: SQLite", "The pictures"):
            shell(heading, **places)
        kept = (await pictures(first))[finished]
    shell("Into a folder (SQLite)", **places)

    with serve(tmp_path / "RESTORED", **settings("The first start")) as second:
        after = await events_of(second, finished)
        ends = [(await events_of(second, task_id))[-1].get("failure") for task_id in (running, *waiting)]
        found = await pictures(second)
        paid = await charged(second)

    assert [event["id"] for event in after] == [event["id"] for event in before]
    assert kept
    assert found[finished] == kept
    assert [end and end["code"] for end in ends] == ["OUTCOME_UNKNOWN"] + ["QUEUE_TIMED_OUT"] * 3
    assert paid == set()


async def test_a_dump_of_postgresql_restores_the_history_and_sends_nothing_again(
    tmp_path: Path, postgres_url: str, other_postgres_url: str
) -> None:
    places = {"BACKUP": str(tmp_path / "backup"), "RESTORED_DATABASE_URL": other_postgres_url}
    with serve(tmp_path, DARKROOM_DATABASE_URL=postgres_url, DARKROOM_CONCURRENCY="1") as first:
        finished = await start(first, openai_images("A dome", partialImages=2))
        before = await events_of(first, finished)
        running = await start(first, openai_images("A nave [[sandbox: pause=60]]", partialImages=1))
        await until(first, running, "RUNNING")
        waiting = await start(first, openai_images("A crypt"))
        shell("The database: PostgreSQL", DARKROOM_DATABASE_URL=postgres_url, **places)
        shell("Into an empty database (PostgreSQL)", **places)
    restored = {"DARKROOM_DATABASE_URL": other_postgres_url, "DARKROOM_LEASE_SECONDS": "2"}
    with serve(tmp_path, **restored, **settings("The first start")) as second:
        assert [event["id"] for event in await events_of(second, finished)] == [event["id"] for event in before]
        assert (await events_of(second, waiting))[-1]["failure"]["code"] == "QUEUE_TIMED_OUT"
        assert (await events_of(second, running))[-1]["failure"]["code"] == "OUTCOME_UNKNOWN"
        assert (await pictures(second))[finished]
        assert key(waiting, "Task") not in await charged(second)


async def test_migrating_by_hand_makes_the_database_and_does_it_no_harm_afterwards(tmp_path: Path) -> None:
    shell("Upgrading", DARKROOM_HOME=str(tmp_path))
    with serve(tmp_path) as server:
        await events_of(server, await start(server, openai_images("A bridge")))
    with sqlite3.connect(tmp_path / "darkroom.db") as database:
        before = list(database.iterdump())
    shell("Upgrading", DARKROOM_HOME=str(tmp_path))
    assert list(database.iterdump()) == before
    database.close()


async def test_two_machines_that_do_everything_share_the_work_and_the_history(
    tmp_path: Path, postgres_url: str
) -> None:
    (command,) = commands("Every machine does everything")
    shared = {"DARKROOM_DATABASE_URL": postgres_url, "DARKROOM_STORAGE_URL": (tmp_path / "shared").as_uri()}
    with (
        serve(tmp_path / "a", command=command, **shared) as a,
        serve(tmp_path / "b", command=command, DARKROOM_SANDBOX_URL=f"{a.url}/sandbox", **shared) as b,
    ):
        task_id = await start(a, openai_images("A canal", partialImages=1))
        assert [event["id"] for event in await events_of(b, task_id)] == [
            event["id"] for event in await events_of(a, task_id)
        ]
        assert await pictures(b) == await pictures(a) != {}


async def test_one_machine_serves_what_another_one_works_on(tmp_path: Path, postgres_url: str) -> None:
    api, worker = commands("Some serve, some work")
    shared = {"DARKROOM_DATABASE_URL": postgres_url, "DARKROOM_STORAGE_URL": (tmp_path / "shared").as_uri()}
    with serve(tmp_path / "api", command=api, **shared) as server:
        task_id = await start(server, openai_images("A dam", partialImages=1))
        with working(tmp_path, worker, DARKROOM_SANDBOX_URL=f"{server.url}/sandbox", **shared):
            async with asyncio.timeout(60):
                assert (await events_of(server, task_id))[-1]["__typename"] == "TaskSucceeded"
        assert (await pictures(server))[task_id]


def test_every_command_in_the_document_is_run_by_these_tests() -> None:
    assert set(SHELL) == RUN


def test_every_setting_that_is_named_exists_and_has_the_default_that_is_given() -> None:
    defaults = {row.name: row.value for row in report()}
    named = set(re.findall(r"`(DARKROOM_[A-Z_]+)`", TEXT))
    table = re.findall(r"^\| `(DARKROOM_\w+)` \| (\d+) \|", TEXT, re.M)
    clocks = re.findall(r"`(DARKROOM_\w+)` \| (\d+) \(", TEXT)
    in_passing = re.findall(r"`(DARKROOM_\w+)` \((\d+)\)", TEXT)

    assert not named - set(defaults)
    assert len(table) > 8
    assert [(name, float(number)) for name, number in (*table, *clocks, *in_passing)] == [
        (name, float(defaults[name])) for name, _ in (*table, *clocks, *in_passing)
    ]


def test_every_way_to_fail_and_to_be_canceled_is_explained() -> None:
    names = {code.name for code in FailureCode} | {outcome.name for outcome in CancelOutcome}

    assert not sorted(name for name in names if f"`{name}`" not in TEXT)


def test_every_log_line_is_one_that_the_code_writes() -> None:
    lines = re.findall(r"^\| `([^`]+)` \| ", TEXT.partition("## Log lines")[2].partition("\n## ")[0], re.M)
    code = "".join(path.read_text() for path in (ROOT / "tasks").glob("*.py"))
    patterns = [r"%\w|%\w, %\w".join(map(re.escape, re.split("…", line))) for line in lines]

    assert len(lines) > 10
    assert not [line for line, pattern in zip(lines, patterns, strict=True) if not re.search(f'"{pattern}', code)]


def test_the_times_and_counts_in_the_text_are_those_of_the_code() -> None:
    assert f"died {darkroom.MOST_IDLE_RUNS} times in a row" in TEXT
    assert f"after at most about {darkroom.CANCEL_SECONDS:g} seconds" in TEXT
    assert f"within {watch.SAFETY_SECONDS:g} seconds" in TEXT
    assert f"up to {answer.ROOM / 1e6:g} MB in memory" in TEXT
    assert f"after {patience.DATABASE_SECONDS / 60:g} minutes" in TEXT
    assert f"{repair.REPORTED.days} days after" in TEXT
    assert f"{repair.ENDED.seconds / 3600:g} hours after" in TEXT
    assert (repair.ORPHANED.days, upkeep.SWEEP_SECONDS) == (1, 86_400)
    assert nodes.ONLY_NODE == "darkroom"


def test_everything_that_is_linked_is_there() -> None:
    files = re.findall(r"\]\((?!http|#)([^)#]+)", TEXT)
    anchors = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^##+ (.+)$", TEXT, re.M)
    }

    assert not [name for name in files if not (ROOT / "docs" / name).exists()]
    assert not set(re.findall(r"\]\(#([^)]+)\)", TEXT)) - anchors
