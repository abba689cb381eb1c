"""The parameters: every problem at once, each where it belongs, and what is sent in the end, field by field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from providers.all_images.request import PARAMS, AllImagesRequest
from providers.all_images.rules import SIMPLE_ONLY
from providers.parameters import ParameterType, parameters_of
from tests.providers.all_images.account import REFERENCE, request

GOOD: dict[str, object] = {"mode": "simple", "name": "A fox", "prompt": "a red fox"}
SIMPLE_VALUES: dict[str, object] = {
    "optimize_prompt": True,
    "template_prompt": "realisticManuel",
    "format": "16:9",
    "weather": "foggy",
    "time": "golden hour",
    "camera": "GoPro",
    "chaos": 0,
    "stylize": 1000,
    "interdiction": ["hands", "word"],
    "sujet_mode": "anything",
    "angle": "low",
    "photographe": "someone",
    "version": "6.1",
    "from_image_url": "https://example.com/a.jpg",
}


def problems(**parameters: object) -> dict[tuple[str | int, ...], str]:
    """The code of a problem by place; empty for a valid request."""
    try:
        AllImagesRequest.model_validate({**GOOD, **parameters})
    except ValidationError as exc:
        found = [(error["loc"], error["type"]) for error in exc.errors()]
        assert len(set(found)) == len(found), f"a problem was reported twice: {found}"
        return dict(found)
    return {}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"mode": "expert"}, {("mode",): "enum"}),
        ({"mode": None}, {("mode",): "enum"}),
        ({"name": ""}, {("name",): "string_too_short"}),
        ({"prompt": ""}, {("prompt",): "string_too_short"}),
        ({"prompt": "x" * 4097}, {("prompt",): "string_too_long"}),
        ({"additional_prompt": "x" * 1025}, {("additional_prompt",): "string_too_long"}),
        ({"template_prompt": "realistic"}, {("template_prompt",): "enum"}),
        ({"format": "21:9"}, {("format",): "enum"}),
        ({"weather": "hail"}, {("weather",): "enum"}),
        ({"time": "noon"}, {("time",): "enum"}),
        ({"chaos": -1}, {("chaos",): "greater_than_equal"}),
        ({"chaos": 101}, {("chaos",): "less_than_equal"}),
        ({"stylize": 1001}, {("stylize",): "less_than_equal"}),
        ({"camera": ""}, {("camera",): "string_too_short"}),
        ({"process_mode": "slow"}, {("process_mode",): "enum"}),
        ({"seed": 7}, {("seed",): "extra_forbidden"}),
        ({"interdiction": ["ok", "a, b", "  "]},
         {("interdiction", 1): "comma_in_word", ("interdiction", 2): "string_too_short"}),
        ({"tags": ["mine", "darkroom:7"]}, {("tags", 1): "reserved"}),
        ({"meta_data": {"darkroom_reference": "7"}}, {("meta_data",): "reserved"}),
        ({"meta_data": {"a": 7}}, {("meta_data", "a"): "string_type"}),
        ({"prompt": "a fox --ar 3:2 --v 6"}, {("prompt",): "flags_need_advanced_mode"}),
        ({"prompt": "--no hands"}, {("prompt",): "flags_need_advanced_mode"}),
        ({"prompt": "--ar 3:2 " + "x" * 4096, "chaos": 101},
         {("prompt",): "flags_need_advanced_mode", ("chaos",): "less_than_equal"}),
        ({"mode": "advanced", **SIMPLE_VALUES}, {(field,): "requires_simple_mode" for field in SIMPLE_ONLY}),
        ({"mode": "advanced", "chaos": 101, "weather": "sunny"},
         {("chaos",): "less_than_equal", ("weather",): "requires_simple_mode"}),
    ],
)  # fmt: skip
def test_what_the_vendor_refuses_is_refused_here(
    parameters: dict[str, object], expected: dict[tuple[str | int, ...], str]
) -> None:
    assert problems(**parameters) == expected


@pytest.mark.parametrize(
    "parameters",
    [
        SIMPLE_VALUES,
        {"prompt": "a well-known fox -- red -- and a-b --"},
        {"prompt": "x" * 4096, "additional_prompt": "é" * 1024},
        {"mode": "advanced", "prompt": "a fox --ar 3:2 --chaos 20", "additional_prompt": "x", "process_mode": "relax"},
        dict.fromkeys(SIMPLE_ONLY),
        {"mode": "advanced", **dict.fromkeys(SIMPLE_ONLY)},
        {"tags": [], "meta_data": {}, "interdiction": [], "purchase": True},
    ],
)
def test_what_the_vendor_takes_is_accepted(parameters: dict[str, object]) -> None:
    assert problems(**parameters) == {}


def test_a_problem_states_the_value_and_what_helps() -> None:
    with pytest.raises(ValidationError) as caught:
        request(prompt="a {fox} --ar 3:2", interdiction=["a, {b}"])
    by_field = {error["loc"][0]: error for error in caught.value.errors()}
    assert "--ar" in by_field["prompt"]["msg"]
    assert "ADVANCED" in by_field["prompt"]["msg"]
    assert by_field["prompt"]["ctx"]["allowed"]
    assert "'a, {b}'" in by_field["interdiction"]["msg"]
    assert by_field["interdiction"]["ctx"]["allowed"] == ["a", "{b}"]
    with pytest.raises(ValidationError) as caught:
        request(mode="advanced", format="3:2", interdiction=["a", "b"])
    by_field = {error["loc"][0]: error for error in caught.value.errors()}
    assert "--ar 3:2" in by_field["format"]["msg"]
    assert "--no a, b" in by_field["interdiction"]["msg"]


_BAD: dict[str, list[object]] = {
    "name": ["", 7, None, "x" * 256],
    "prompt": ["", "x --ar 1:1", "x" * 4097, 3],
    "additional_prompt": ["", "x" * 1025],
    "template_prompt": ["plain"],
    "format": ["1:2", 7],
    "weather": ["hail"],
    "time": ["noon", "Sunrise"],
    "camera": ["", 7],
    "chaos": [-1, 101, "most", 1.5],
    "stylize": [-1, 1001],
    "interdiction": [["a,b"], [""], "word"],
    "from_image_url": ["", "x" * 2049],
    "process_mode": ["slow"],
    "tags": [["darkroom:x"], [7], "x"],
    "meta_data": [{"darkroom_reference": "x"}, {"a": None}, []],
    "purchase": ["maybe", None],
    "seed": [1],
}


@given(st.fixed_dictionaries({}, optional={field: st.sampled_from(values) for field, values in _BAD.items()}))
def test_every_problem_is_reported_at_once_and_where_it_is(bad: dict[str, object]) -> None:
    assert {place[0] for place in problems(**bad)} == set(bad)


@given(
    st.sampled_from(["simple", "advanced"]),
    st.fixed_dictionaries(
        {}, optional={field: st.sampled_from([*values, SIMPLE_VALUES.get(field)]) for field, values in _BAD.items()}
    ),
)
def test_mending_what_was_reported_is_enough(mode: str, asked: dict[str, object]) -> None:
    """Nobody is sent away twice: what a second attempt could be refused for was named the first time."""
    bad = {place[0] for place in problems(mode=mode, **asked)}
    assert problems(mode=mode, **{field: value for field, value in asked.items() if field not in bad}) == {}


PARAM_WIRE: list[tuple[str, object, str, str]] = [
    # our field, our value, the name on the wire, the text on the wire
    ("template_prompt", "realisticQuality", "templatePrompt", "realisticQuality"),
    ("template_prompt", "realisticManuel", "templatePrompt", "realisticManuel"),
    *(("format", it, "format", it) for it in ["1:1", "3:2", "2:3", "4:7", "7:4", "5:4", "4:5", "16:9", "9:16"]),
    *(("weather", it, "weather", it) for it in ["sunny", "cloudy", "foggy", "rainy", "thunderstorm", "snowy"]),
    *(("time", it, "time", it) for it in ["sunrise", "morning", "afternoon", "sunset", "evening", "night", "midnight"]),
    ("time", "golden hour", "time", "golden hour"),
    ("camera", "GoPro", "camera", "GoPro"),
    ("chaos", 0, "chaos", "0"),
    ("chaos", 100, "chaos", "100"),
    ("stylize", 0, "stylize", "0"),
    ("stylize", 1000, "stylize", "1000"),
    ("interdiction", ["hands"], "interdiction", "hands"),
    ("interdiction", [" word ", "two words"], "interdiction", "word, two words"),
    ("sujet_mode", "é", "sujetMode", "é"),
    ("angle", "low", "angle", "low"),
    ("photographe", "x", "photographe", "x"),
    ("version", "6.1", "version", "6.1"),
    ("from_image_url", "https://e.x/a.jpg", "fromImageUrl", "https://e.x/a.jpg"),
]


@pytest.mark.parametrize(("field", "value", "name", "text"), PARAM_WIRE)
def test_a_parameter_travels_as_a_pair_of_texts(field: str, value: object, name: str, text: str) -> None:
    assert request(**{field: value}).body(REFERENCE)["params"] == [{"name": name, "value": text}]


def test_every_parameter_has_been_tried_on_the_wire() -> None:
    assert {(field, name) for field, _, name, _ in PARAM_WIRE} == set(PARAMS.items())


BARE: dict[str, JsonValue] = {
    "name": "A fox",
    "mode": "simple",
    "prompt": "a red fox",
    "tags": ["darkroom:task-7"],
    "metaData": {"darkroom_reference": "task-7"},
}


@pytest.mark.parametrize(
    ("parameters", "more"),
    [
        ({}, {}),
        ({"mode": "advanced", "prompt": "x --ar 3:2"}, {"mode": "advanced", "prompt": "x --ar 3:2"}),
        ({"optimize_prompt": True}, {"optimizePrompt": True}),
        ({"optimize_prompt": False}, {"optimizePrompt": False}),
        ({"additional_prompt": "first"}, {"additionalPrompt": "first"}),
        ({"process_mode": "fast"}, {"processMode": "fast"}),
        ({"process_mode": "relax"}, {"processMode": "relax"}),
        ({"tags": ["a", "b"]}, {"tags": ["a", "b", "darkroom:task-7"]}),
        ({"meta_data": {"job": "9"}}, {"metaData": {"job": "9", "darkroom_reference": "task-7"}}),
        ({"purchase": True, "interdiction": []}, {}),
        ({"chaos": 5, "format": "3:2"},
         {"params": [{"name": "format", "value": "3:2"}, {"name": "chaos", "value": "5"}]}),
    ],
)  # fmt: skip
def test_the_body_holds_what_was_asked_for_and_nothing_else(
    parameters: dict[str, object], more: dict[str, JsonValue]
) -> None:
    assert request(**parameters).body(REFERENCE) == {**BARE, **more}


def test_a_replacement_leaves_nothing_of_what_was_there_before() -> None:
    assert request().replacement(REFERENCE) == {
        **BARE,
        "additionalPrompt": "",
        "optimizePrompt": False,
        "params": [],
    }
    unknown = request(chaos=5, tags=["a"]).replacement(None)
    assert "tags" not in unknown
    assert "metaData" not in unknown
    assert unknown["params"] == [{"name": "chaos", "value": "5"}]


@given(st.fixed_dictionaries({}, optional={field: st.just(value) for field, value in SIMPLE_VALUES.items()}))
def test_a_valid_request_survives_storage(parameters: dict[str, object]) -> None:
    asked = request(tags=["a"], meta_data={"b": "c"}, **parameters)
    assert AllImagesRequest.model_validate_json(asked.model_dump_json()) == asked


def test_the_catalogue_is_read_off_the_model() -> None:
    by_name = {parameter.name: parameter for parameter in parameters_of(AllImagesRequest)}
    assert list(by_name) == list(AllImagesRequest.model_fields)
    assert [name for name, parameter in by_name.items() if parameter.required] == ["mode", "name", "prompt"]
    assert all(len(parameter.description) > 20 and "\n" not in parameter.description for parameter in by_name.values())
    assert (by_name["stylize"].minimum, by_name["stylize"].maximum, by_name["stylize"].step) == (0, 1000, 1)
    assert (by_name["interdiction"].type, by_name["interdiction"].many) == (ParameterType.STRING, True)
    assert (by_name["meta_data"].type, by_name["meta_data"].many) == (ParameterType.OBJECT, False)
    assert len(by_name["format"].options) == 9
    options = [option for parameter in by_name.values() for option in parameter.options]
    assert all(option.description and option.name.isidentifier() and option.name.isupper() for option in options)
