"""The settings as a whole: each is listed once, under the name that sets it, and a wrong one is named like that."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

import graph
import providers
import resolvers
import tasks
from graph.settings_report import SETTINGS, explain, markdown, report
from providers.placewise.rules import PlacewiseRules


def test_no_setting_is_listed_twice() -> None:
    listed = [line.split("`")[1] for line in markdown().splitlines() if "`DARKROOM_" in line]

    assert [name for name, times in Counter(listed).items() if times > 1] == []
    assert [row.name for row in report()] == listed


def test_a_rule_that_is_not_valid_has_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_PLACEWISE_CREATIVITY_MIN", "low")
    with pytest.raises(ValidationError) as caught:
        PlacewiseRules()

    (line,) = explain(caught.value)
    assert line.startswith("DARKROOM_PLACEWISE_CREATIVITY_MIN: Input should be a valid integer")


@pytest.mark.parametrize("source", ["environment", ".env"])
def test_a_variable_that_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DARKROOM_")]:
        monkeypatch.delenv(name)
    unset = report()
    if source == ".env":
        Path(".env").write_text("".join(f"{row.name}=\n" for row in unset))
    else:
        for row in unset:
            monkeypatch.setenv(row.name, "")

    assert report() == unset
    assert {row.source for row in unset} == {"default"}


def test_an_empty_variable_leaves_the_line_in_the_file_in_force(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("DARKROOM_PORT=9000\n")
    monkeypatch.setenv("DARKROOM_PORT", "")

    assert [(row.value, row.source) for row in report() if row.name == "DARKROOM_PORT"] == [("9000", ".env")]


def test_a_wrong_network_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_NETWORK", "nowhere")
    with pytest.raises(ValidationError) as caught:
        report()

    assert explain(caught.value) == ["DARKROOM_NETWORK: Input should be 'open' or 'loopback'"]


def test_every_settings_class_of_the_rooms_is_listed() -> None:
    for room in (graph, resolvers, tasks, providers):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            importlib.import_module(module.name)
    listed = {base for cls in SETTINGS for base in cls.__mro__}
    rooms = {"graph", "resolvers", "tasks", "providers"}

    assert [cls for cls in _below(BaseSettings) if cls.__module__.split(".")[0] in rooms and cls not in listed] == []


def _below(cls: type[BaseSettings]) -> list[type[BaseSettings]]:
    return [found for one in cls.__subclasses__() for found in (one, *_below(one))]
