"""The wheel holds everything that `pip install` and `darkroom serve` need, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Built without isolation: the pages are there already, so nothing is fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_the_pages_and_the_migrations(wheel: ZipFile) -> None:
    names = wheel.namelist()

    assert "graph/static/graphiql.html" in names
    assert "tasks/migrations/env.py" in names
    assert [name for name in names if name.startswith("tasks/migrations/versions/0001")]


def test_the_wheel_holds_only_the_rooms_of_the_product(wheel: ZipFile) -> None:
    rooms = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name}

    assert rooms == {"graph", "resolvers", "tasks", "providers"}


def test_the_wheel_runs_away_from_its_source(wheel: ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "DARKROOM_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", "from graph.cli import main; main()", "migrate"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)

    assert "up to date" in done.stderr
    assert (tmp_path / "home" / "darkroom.db").exists()
