"""The command `darkroom`: settings that explain themselves, and never a secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from graph.cli import cli
from graph.server import AddressError, listen
from graph.settings_report import explain, report
from providers.openai_images.settings import OpenAIImagesSettings
from tasks.database import Database
from tasks.errors import StorageError
from tasks.images import ImageStore
from tasks.settings import TaskSettings
from tests.process import serve

SECRET = "sk-very-secret"


def test_settings_are_printed_with_their_source_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("DARKROOM_CONCURRENCY=7\n")
    monkeypatch.setenv("DARKROOM_OPENAI_IMAGES_TOKEN", SECRET)
    monkeypatch.setenv("DARKROOM_OPENAI_IMAGES_BASE_URL", "https://gateway.example/api/llm")
    monkeypatch.setenv("DARKROOM_DATABASE_URL", f"postgresql://me:{SECRET}@db/darkroom")
    try:
        result = CliRunner().invoke(cli, ["settings", "--json"])
        rows = {row["name"]: (row["value"], row["source"]) for row in json.loads(result.output)}
        text = CliRunner().invoke(cli, ["settings"]).output
    finally:
        Path(".env").unlink()

    assert rows["DARKROOM_OPENAI_IMAGES_TOKEN"] == ("********", "environment")
    assert rows["DARKROOM_DATABASE_URL"] == ("postgresql://me:***@db/darkroom", "environment")
    assert rows["DARKROOM_CONCURRENCY"] == ("7", ".env")
    assert rows["DARKROOM_PORT"] == ("8000", "default")
    assert SECRET not in result.output + text


def test_every_setting_says_what_it_is() -> None:
    assert not [row.name for row in report() if not row.description]


def test_a_setting_that_is_not_valid_is_named_and_its_value_is_not() -> None:
    with pytest.raises(ValidationError) as caught:
        OpenAIImagesSettings(base_url=f"ftp://{SECRET}")

    assert explain(caught.value) == [
        "DARKROOM_OPENAI_IMAGES_BASE_URL: write an http or https address such as https://api.openai.com/v1"
    ]


@pytest.mark.parametrize(
    "url", ["sqlite:///", "sqlite:///:memory:", f"postgresql://me:{SECRET}@h:x/d", "mysql://h/d", "sqlite://h/d", "d"]
)
def test_a_database_that_cannot_be_is_refused_before_anything_starts(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TaskSettings(database_url=url)

    (line,) = explain(caught.value)
    assert line.startswith("DARKROOM_DATABASE_URL: write sqlite:///path/to/file.db or postgresql://")
    assert SECRET not in line


@pytest.mark.parametrize("url", ["foo", "/folder", f"me:{SECRET}@host"])
def test_a_picture_store_without_a_scheme_is_refused_before_anything_starts(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TaskSettings(storage_url=url)

    assert explain(caught.value) == [
        "DARKROOM_STORAGE_URL: write file:///folder, s3://bucket/prefix, or another URL that obstore knows"
    ]


@pytest.mark.parametrize("host", ["999.1.1.1", "192.0.2.1"])
def test_an_address_that_is_not_this_machine_s_is_not_blamed_on_the_port(host: str) -> None:
    with pytest.raises(AddressError, match="DARKROOM_HOST") as refused:
        listen(host, 0)

    assert "DARKROOM_PORT" not in str(refused.value)


def test_a_picture_store_that_does_not_exist_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="DARKROOM_STORAGE_URL") as refused:
        ImageStore(f"nowhere://me:{SECRET}@host/bucket", Database(f"sqlite:///{tmp_path / 'darkroom.db'}"))

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_data_folder_that_cannot_be_made_is_explained(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    server = subprocess.run(
        [sys.executable, "-m", "graph.cli", command],
        env=os.environ | {"DARKROOM_HOME": str(tmp_path / "file" / "data")},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert server.returncode == 1
    assert "Not a directory" in server.stderr
    assert "DARKROOM_HOME" in server.stderr
    assert "Traceback" not in server.stderr


def test_the_schema_is_printed_and_compared(tmp_path: Path) -> None:
    printed = CliRunner().invoke(cli, ["schema"])
    (tmp_path / "same.graphql").write_text(printed.stdout)
    (tmp_path / "other.graphql").write_text(printed.stdout + "\n")

    assert CliRunner().invoke(cli, ["schema", "--check", str(tmp_path / "same.graphql")]).exit_code == 0
    assert CliRunner().invoke(cli, ["schema", "--check", str(tmp_path / "other.graphql")]).exit_code == 1


def test_a_port_that_is_taken_is_explained_without_a_traceback(tmp_path: Path) -> None:
    with serve(tmp_path / "one") as first:
        port = first.url.rpartition(":")[2]
        second = serve(tmp_path / "two", DARKROOM_PORT=port)
        with pytest.raises(AssertionError) as caught:
            second.__enter__()

    assert f"Cannot listen on 127.0.0.1:{port}" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_the_token_of_an_account_never_reaches_the_terminal(tmp_path: Path) -> None:
    account = {"DARKROOM_OPENAI_IMAGES_TOKEN": SECRET, "DARKROOM_OPENAI_IMAGES_BASE_URL": "http://127.0.0.1:9/v1"}
    with serve(tmp_path, **account) as server:
        pass

    assert "your account" in "".join(server.log)
    assert SECRET not in "".join(server.log)
