"""The settings as a whole: each is listed once, under the name that sets it, and a wrong one is named like that."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from graph.settings_report import explain, markdown, report
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
