"""Settings that would be ignored without a word are named, and their values are not; and how settings are printed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from graph.cli import cli
from graph.settings_report import SETTINGS, variables
from graph.settings_unknown import unknown
from tests.process import serve

SECRET = "never-to-be-shown"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_limit_that_is_misspelt_is_named_with_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_OPENAI_IMAGES_PERMINUTE", "3")
    Path(".env").write_text("darkroom_prot=1\nOTHER=2\n")

    assert unknown() == [
        "DARKROOM_OPENAI_IMAGES_PERMINUTE (environment) is no setting, and has no effect; "
        "did you mean DARKROOM_OPENAI_IMAGES_PER_MINUTE?",
        "darkroom_prot (.env) is no setting, and has no effect; did you mean DARKROOM_PORT?",
    ]


def test_what_is_a_setting_or_empty_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_OPENAI_IMAGES_PER_MINUTE", "3")
    monkeypatch.setenv("darkroom_port", "8001")
    monkeypatch.setenv("DARKROOM_PROT", "")

    assert unknown() == []


def test_a_name_like_no_other_is_named_without_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_XYZZYX", SECRET)

    (line,) = unknown()
    assert "`darkroom settings` prints all there are" in line
    assert SECRET not in line


def test_the_settings_are_printed_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_PROT", "1")
    done = CliRunner().invoke(cli, ["settings"])

    assert done.exit_code == 0
    assert "DARKROOM_PROT (environment) is no setting" in done.stderr
    assert "DARKROOM_PROT" not in done.stdout


def test_a_server_warns_when_it_starts(tmp_path: Path) -> None:
    with serve(tmp_path, DARKROOM_CONCURENCY="1") as server:
        log = "".join(server.log)

    assert "DARKROOM_CONCURENCY (environment) is no setting, and has no effect; did you mean DARKROOM_CONC" in log


def test_no_setting_whose_text_makes_no_sense_ends_in_anything_but_an_explanation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for cls in SETTINGS:
        for _, variable, _ in variables(cls):
            monkeypatch.setenv(variable, f"{{{SECRET}")
            with suppress(ValidationError):  # what takes any text takes this
                cls()
            monkeypatch.delenv(variable)


def test_values_are_not_folded_where_no_person_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_DATABASE_URL", f"sqlite:///{'x' * 300}.db")
    monkeypatch.setenv("COLUMNS", "80")

    assert f"sqlite:///{'x' * 300}.db" in CliRunner().invoke(cli, ["settings"]).stdout


def test_the_version_is_printed() -> None:
    done = CliRunner().invoke(cli, ["--version"])

    assert done.exit_code == 0
    assert done.stdout.startswith("darkroom ")
