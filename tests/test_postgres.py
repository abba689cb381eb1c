"""The PostgreSQL of the tests: it comes back with its data, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.postgres import postgres

SCRIPT = """
from tests.postgres import postgres
with postgres() as server, server.database() as url:
    print(url, flush=True)
    input()
"""


def test_it_stops_at_once_and_comes_back_with_what_was_committed() -> None:
    with postgres() as server, server.database() as url:
        with psycopg.connect(url) as connection:
            connection.execute("create table kept as select 1 as number")
        server.stop()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        server.start()
        with psycopg.connect(url) as connection:
            assert connection.execute("select number from kept").fetchall() == [(1,)]


def test_it_ends_with_the_process_that_started_it_even_when_that_is_killed() -> None:
    command = (sys.executable, "-c", SCRIPT)
    root = Path(__file__).parent.parent
    process = subprocess.Popen(command, cwd=root, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        with psycopg.connect(process.stdout.readline().strip(), autocommit=True) as connection:
            process.kill()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select pg_sleep(60)")
