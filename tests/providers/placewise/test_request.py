"""The parameters: every problem at once, each where it belongs, and what is sent in the end."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from providers.parameters import ParameterType, parameters_of
from providers.placewise.request import (
    PlacewiseAspectRatio,
    PlacewiseImageSize,
    PlacewiseModelType,
    PlacewiseRequest,
)
from providers.placewise.rules import PREFIX, PlacewiseRules, rules_in_force
from tests.providers.placewise.account import request


def problems(rules: PlacewiseRules | None = None, /, **parameters: Any) -> dict[str, str]:
    """The code of a problem by field; empty for a valid request."""
    try:
        PlacewiseRequest.model_validate({"prompt": "a red fox", **parameters}, context=rules)
    except ValidationError as exc:
        found = [(str(error["loc"][0]), error["type"]) for error in exc.errors()]
        assert len(set(found)) == len(found), f"a problem was reported twice: {found}"
        return dict(found)
    return {}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"prompt": ""}, {"prompt": "string_too_short"}),
        ({"prompt": " \n\t"}, {"prompt": "prompt_blank"}),
        ({"prompt": None}, {"prompt": "string_type"}),
        ({"prompt": 5}, {"prompt": "string_type"}),
        ({"model_type": "huge"}, {"model_type": "enum"}),
        ({"aspect_ratio": "21:9"}, {"aspect_ratio": "enum"}),
        ({"image_size": "1024"}, {"image_size": "enum"}),
        ({"creativity": 1.5}, {"creativity": "int_type"}),
        ({"creativity": True}, {"creativity": "int_type"}),
        ({"creativity": "2"}, {"creativity": "int_type"}),
        ({"creativity": -1}, {"creativity": "creativity_too_low"}),
        ({"photorealistic": "yes"}, {"photorealistic": "bool_type"}),
        ({"random_seed": 2**63}, {"random_seed": "random_seed_too_large"}),
        ({"random_seed": -(10**300)}, {"random_seed": "random_seed_too_large"}),
        ({"random_seed": 0.5}, {"random_seed": "int_type"}),
        ({"seed": 7}, {"seed": "extra_forbidden"}),
        ({"image_size": "small"}, {"image_size": "size_not_supported"}),
        ({"image_size": "large", "model_type": "small"}, {"image_size": "size_not_supported"}),
        ({"image_size": "large", "model_type": None}, {"image_size": "size_not_supported"}),
    ],
)
def test_what_the_page_rules_out_is_refused(parameters: dict[str, Any], expected: dict[str, str]) -> None:
    assert problems(**parameters) == expected


@pytest.mark.parametrize("ratio", PlacewiseAspectRatio)
@pytest.mark.parametrize("model", [None, *PlacewiseModelType])
def test_every_documented_combination_is_accepted(
    model: PlacewiseModelType | None, ratio: PlacewiseAspectRatio
) -> None:
    for size in PlacewiseImageSize:
        small = model in (None, PlacewiseModelType.SMALL)
        allowed = not small or size in (PlacewiseImageSize.THUMBNAIL, PlacewiseImageSize.MEDIUM)
        assert (problems(model_type=model, aspect_ratio=ratio, image_size=size) == {}) is allowed


def test_the_nine_ratios_go_over_the_wire_as_documented() -> None:
    assert {each.value for each in PlacewiseAspectRatio} == {
        "1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "16:9", "9:16",
    }  # fmt: skip
    for ratio in PlacewiseAspectRatio:
        assert ratio.name.endswith(ratio.value.replace(":", "_"))
        assert ratio.name.isidentifier()


def test_all_problems_come_at_once() -> None:
    assert problems(prompt=" ", image_size="small", creativity=-1, random_seed="x", aspect_ratio="7:7") == {
        "prompt": "prompt_blank",
        "image_size": "size_not_supported",
        "creativity": "creativity_too_low",
        "random_seed": "int_type",
        "aspect_ratio": "enum",
    }


def test_a_wrong_model_is_no_reason_to_doubt_the_size() -> None:
    assert problems(model_type="huge", image_size="small") == {"model_type": "enum"}


def test_a_problem_says_what_is_allowed() -> None:
    with pytest.raises(ValidationError) as caught:
        request(image_size="small", prompt="{braces}")
    (error,) = caught.value.errors()
    assert error["ctx"]["allowed"] == ["thumbnail", "medium"]
    assert "'small'" in error["msg"]
    assert "model_type medium or large" in error["msg"]


def test_the_rule_between_model_and_size_can_be_left_to_the_vendor() -> None:
    assert problems(PlacewiseRules(strict_sizes=False), image_size="small") == {}
    assert problems(PlacewiseRules(strict_sizes=False), image_size="tiny") == {"image_size": "enum"}


def test_what_the_page_leaves_open_is_a_setting() -> None:
    rules = PlacewiseRules(prompt_max_length=10, creativity_min=1, creativity_max=4)
    found = problems(rules, prompt="a" * 11, creativity=0)
    assert found == {"prompt": "prompt_too_long", "creativity": "creativity_too_low"}
    assert problems(rules, creativity=5, prompt="a") == {"creativity": "creativity_too_high"}
    assert problems(rules, creativity=4, prompt="a" * 10) == {}
    assert problems(prompt="a" * 100_000, creativity=10**6) == {}


def test_the_rules_in_force_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}STRICT_SIZES", "false")
    rules_in_force.cache_clear()
    try:
        assert problems(image_size="small") == {}
    finally:
        monkeypatch.undo()
        rules_in_force.cache_clear()
    assert problems(image_size="small") == {"image_size": "size_not_supported"}


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 2**31, 2**53, 2**63 - 1])
def test_seeds_beyond_32_bits_fit(seed: int) -> None:
    assert request(random_seed=seed).fields()["random_seed"] == seed
    doubted = request(random_seed=seed).doubtful(PlacewiseRules())
    assert bool(doubted) is not (0 <= seed < 2**31)
    assert all(str(seed) in reason for reason in doubted.values())


@pytest.mark.parametrize(
    ("parameters", "sent", "told"),
    [
        ({}, {}, set()),
        ({"creativity": 3}, {}, {"creativity"}),
        ({"creativity": 3, "model_type": "small"}, {"model_type": "small"}, {"creativity"}),
        ({"creativity": 0, "model_type": "medium"}, {"model_type": "medium", "creativity": 0}, set()),
        ({"photorealistic": True, "model_type": "medium"}, {"model_type": "medium"}, {"photorealistic"}),
        ({"photorealistic": False}, {}, set()),
        (
            {"photorealistic": False, "creativity": 1, "model_type": "large"},
            {"photorealistic": False, "creativity": 1, "model_type": "large"},
            set(),
        ),
        ({"photorealistic": True, "creativity": 9}, {}, {"photorealistic", "creativity"}),
    ],
)
def test_what_has_no_effect_is_not_sent_and_told(
    parameters: dict[str, object], sent: dict[str, object], told: set[str]
) -> None:
    asked = request(**parameters)
    assert asked.fields() == {"prompt": "a red fox", **sent}
    assert set(asked.dropped()) == told


def test_a_request_survives_being_stored() -> None:
    asked = request(model_type="large", aspect_ratio="9:16", image_size="large", creativity=1, photorealistic=True,
                    random_seed=2**40)  # fmt: skip
    assert PlacewiseRequest.model_validate(asked.model_dump(mode="json")) == asked


def test_a_form_can_be_built_from_the_parameters() -> None:
    found = {parameter.name: parameter for parameter in parameters_of(PlacewiseRequest)}
    assert [each for each in found.values() if each.required] == [found["prompt"]]
    assert {name: each.type for name, each in found.items()} == {
        "prompt": ParameterType.STRING,
        "model_type": ParameterType.ENUM,
        "aspect_ratio": ParameterType.ENUM,
        "image_size": ParameterType.ENUM,
        "creativity": ParameterType.INTEGER,
        "photorealistic": ParameterType.BOOLEAN,
        "random_seed": ParameterType.INTEGER,
    }
    assert len(found["aspect_ratio"].options) == 9


def test_every_parameter_and_every_option_is_described() -> None:
    for name, field in PlacewiseRequest.model_fields.items():
        assert field.description, name
    for option in (*PlacewiseModelType, *PlacewiseAspectRatio, *PlacewiseImageSize):
        assert option.description, option
    assert all(field.description for field in PlacewiseRules.model_fields.values())


def test_rules_that_nothing_could_satisfy_are_refused() -> None:
    with pytest.raises(ValidationError, match="CREATIVITY_MAX"):
        PlacewiseRules(creativity_min=5, creativity_max=4)
    with pytest.raises(ValidationError, match="RANDOM_SEED_MAX"):
        PlacewiseRules(random_seed_min=5, random_seed_max=4)
