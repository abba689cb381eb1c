"""The parameters: every problem at once, each where it belongs, and what is sent in the end."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from providers.openai_images import DEFINITION
from providers.openai_images.families import family_of, known_models
from providers.openai_images.request import OpenAIImagesRequest
from providers.parameters import ParameterType, parameters_of


def problems(**parameters: object) -> dict[str, str]:
    """The code of a problem by field; empty for a valid request."""
    try:
        OpenAIImagesRequest.model_validate({"prompt": "a red fox", "model": "gpt-image-2", **parameters})
    except ValidationError as exc:
        found = [(str(error["loc"][0]), error["type"]) for error in exc.errors()]
        assert len(set(found)) == len(found), f"a problem was reported twice: {found}"
        return dict(found)
    return {}


def message(field: str, **parameters: object) -> str:
    with pytest.raises(ValidationError) as caught:
        OpenAIImagesRequest.model_validate({"prompt": "a red fox", "model": "gpt-image-2", **parameters})
    return next(error["msg"] for error in caught.value.errors() if error["loc"] == (field,))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"prompt": ""}, {"prompt": "string_too_short"}),
        ({"prompt": None}, {"prompt": "string_type"}),
        ({"model": ""}, {"model": "string_too_short"}),
        ({"n": 0}, {"n": "greater_than_equal"}),
        ({"n": 11}, {"n": "less_than_equal"}),
        ({"output_compression": 101, "output_format": "jpeg"}, {"output_compression": "less_than_equal"}),
        ({"background": "green"}, {"background": "enum"}),
        ({"seed": 7}, {"seed": "extra_forbidden"}),
        ({"quality": "standard"}, {"quality": "value_not_supported"}),
        ({"model": "gpt-image-1", "quality": "max"}, {"quality": "value_not_supported"}),
        ({"model": "gpt-image-1", "size": "2048x2048"}, {"size": "size_not_supported"}),
        ({"size": "1000x1000"}, {"size": "size_not_supported"}),
        ({"style": "vivid"}, {"style": "parameter_not_supported"}),
        ({"response_format": "url"}, {"response_format": "parameter_not_supported"}),
        ({"output_format": "tiff"}, {"output_format": "value_not_supported"}),
        ({"output_compression": 50}, {"output_compression": "requires_output_format"}),
        ({"output_format": "png", "output_compression": 50}, {"output_compression": "requires_output_format"}),
        ({"background": "transparent", "output_format": "jpeg"}, {"background": "requires_output_format"}),
        ({"partial_images": 4}, {"partial_images": "value_not_supported"}),
        ({"partial_images": 2, "stream": False}, {"partial_images": "requires_streaming"}),
        (
            {"output_format": "gif", "stream": True, "partial_images": 1, "output_compression": 90},
            {
                "stream": "requires_output_format",
                "partial_images": "requires_output_format",
                "output_compression": "requires_output_format",
            },
        ),
        ({"output_format": "svg", "n": 2}, {"n": "requires_output_format"}),
        ({"output_format": "gif", "n": 2}, {}),
        ({"model": "dall-e-3", "n": 2}, {"n": "value_not_supported"}),
        ({"model": "dall-e-3", "stream": True}, {"stream": "parameter_not_supported"}),
        ({"model": "dall-e-3", "partial_images": 1, "stream": False}, {"partial_images": "parameter_not_supported"}),
        ({"model": "dall-e-3", "moderation": "low"}, {"moderation": "parameter_not_supported"}),
        ({"model": "dall-e-3", "output_compression": 100}, {"output_compression": "parameter_not_supported"}),
        ({"model": "dall-e-2", "style": "vivid"}, {"style": "parameter_not_supported"}),
        ({"model": "dall-e-2", "quality": "hd"}, {"quality": "value_not_supported"}),
        ({"model": "dall-e-2", "size": "auto"}, {"size": "size_not_supported"}),
    ],
)
def test_what_a_family_refuses_is_refused_here(parameters: dict[str, object], expected: dict[str, str]) -> None:
    assert problems(**parameters) == expected


@pytest.mark.parametrize(
    "parameters",
    [
        {"size": "auto", "quality": "auto", "background": "auto", "moderation": "low", "n": 10},
        {"size": "3840x2160"},
        {"output_format": "png", "output_compression": 100},
        {"output_format": "webp", "output_compression": 0, "background": "transparent"},
        {"partial_images": 3, "stream": True},
        {"partial_images": 0, "stream": False},
        {"model": "gpt-image-2.5-flare-2026-09-08", "quality": "max"},
        {"model": "acc/dall-e-3", "style": "natural", "quality": "hd", "response_format": "b64_json"},
        {"model": "dall-e-2", "n": 10, "size": "256x256", "response_format": "url"},
        {"prompt": "   "},
        dict.fromkeys(("n", "size", "quality", "style", "stream", "response_format", "partial_images")),
    ],
)
def test_what_a_family_takes_is_accepted(parameters: dict[str, object]) -> None:
    assert problems(**parameters) == {}


def test_of_an_unknown_model_only_the_general_rules_are_known() -> None:
    free = {"style": "vivid", "response_format": "url", "size": "7x7", "quality": "ultra", "output_format": "avif"}
    assert problems(model="vertex/imagen-4", **free, partial_images=9, output_compression=5, n=10) == {}
    assert problems(model="vertex/imagen-4", n=11, output_compression=-1, response_format="png") == {
        "n": "less_than_equal",
        "output_compression": "greater_than_equal",
        "response_format": "enum",
    }
    assert problems(model="vertex/imagen-4", partial_images=1, stream=False) == {"partial_images": "requires_streaming"}


@pytest.mark.parametrize(
    ("model", "longest"), [("gpt-image-2", 32_000), ("dall-e-3", 4_000), ("dall-e-2", 1_000), ("imagen", 100_000)]
)
def test_a_prompt_may_be_as_long_as_its_family_takes_and_no_longer(model: str, longest: int) -> None:
    assert problems(model=model, prompt="é" * longest) == {}
    assert set(problems(model=model, prompt="é" * (longest + 1))) == {"prompt"}
    assert set(problems(model=model, prompt="é" * 250_000)) == {"prompt"}


def test_the_refusal_of_a_long_prompt_says_how_long_it_is_and_may_be() -> None:
    assert "40,000" in message("prompt", prompt="x" * 40_000)
    assert "32,000" in message("prompt", prompt="x" * 40_000)
    assert "140,000" in message("prompt", prompt="x" * 140_000)


def test_a_problem_states_the_value_and_what_is_allowed() -> None:
    with pytest.raises(ValidationError) as caught:
        OpenAIImagesRequest(prompt="x", model="gpt-image-1", size="{allowed}", quality="hd")
    by_field = {error["loc"][0]: error for error in caught.value.errors()}
    assert by_field["quality"]["ctx"]["allowed"] == ["auto", "low", "medium", "high"]
    assert by_field["size"]["ctx"]["allowed"] == ["auto", "1024x1024", "1536x1024", "1024x1536"]
    assert "'{allowed}'" in by_field["size"]["msg"]
    assert "1536x1024" in by_field["size"]["msg"]


_GOOD: Mapping[str, object] = {
    "prompt": "a red fox",
    "model": "openai-main/gpt-image-2",
    "n": 2,
    "size": "1024x1024",
    "quality": "low",
    "background": "opaque",
    "output_format": "webp",
    "output_compression": 40,
    "moderation": "low",
    "partial_images": 1,
    "stream": True,
    "user": "someone",
}
_BAD: dict[str, list[object]] = {
    "prompt": ["", 7, None, "x" * 32_001, "x" * 100_001],
    "n": [0, 11, "many", 1.5],
    "size": ["", "1000x1000", "x" * 33, 5],
    "quality": ["hd", "", 3],
    "background": ["green", 1],
    "output_format": ["tiff", ""],
    "output_compression": [-1, 101, "most"],
    "moderation": ["high", 0],
    "partial_images": [-1, 4, "some"],
    "stream": ["maybe", 7],
    "user": ["x" * 513, 5],
    "style": ["vivid", "plain"],
    "response_format": ["url", "png"],
    "seed": [1],
}


def _thing(value: object) -> object:
    return value


@given(st.fixed_dictionaries({}, optional={field: st.sampled_from(values) for field, values in _BAD.items()}))
def test_every_problem_is_reported_at_once_and_where_it_is(bad: dict[str, object]) -> None:
    assert set(problems(**{**_GOOD, **bad})) == set(bad)


@given(
    st.fixed_dictionaries(
        {"model": st.sampled_from(["", "imagen", *known_models()]).map(_thing)},
        optional={
            field: st.sampled_from([*values, *([_GOOD[field]] if field in _GOOD else []), None])
            for field, values in (
                _BAD
                | {
                    "output_format": ["tiff", "png", "jpeg", "gif", "svg"],
                    "background": ["transparent", "green"],
                    "stream": [True, False],
                    "output_compression": [50, 100, 101],
                    "quality": ["standard", "max", ""],
                    "n": [1, 2, 11],
                }
            ).items()
        },
    )
)
def test_mending_what_was_reported_is_enough(asked: dict[str, object]) -> None:
    """Nobody is sent away twice: what a second attempt could be refused for was named the first time."""
    found = problems(**asked)
    mended = {field: value for field, value in asked.items() if field not in found}
    family = family_of(str(asked["model"]))
    if "output_format" in found and family is not None and family.formats:
        mended["output_format"] = "webp"  # left out it would be png, which forbids other things
    if "model" in found:
        mended["model"] = "imagen"
    assert problems(**mended) == {}


@given(st.sampled_from(known_models()), st.booleans(), st.integers(0, 3))
def test_a_valid_request_survives_storage(model: str, stream: bool, partials: int) -> None:
    try:
        asked = OpenAIImagesRequest(prompt="x", model=model, stream=stream, partial_images=partials)
    except ValidationError:
        return
    assert OpenAIImagesRequest.model_validate_json(asked.model_dump_json()) == asked
    assert OpenAIImagesRequest.model_validate(asked) is asked


@pytest.mark.parametrize(
    ("parameters", "body"),
    [
        ({}, {}),
        ({"n": None, "size": None, "stream": None}, {}),
        ({"partial_images": 2}, {"partial_images": 2, "stream": True}),
        ({"partial_images": 0}, {}),
        ({"stream": True}, {"stream": True}),
        ({"stream": False}, {}),
        ({"stream": True, "partial_images": 0}, {"stream": True, "partial_images": 0}),
        ({"output_format": "png", "output_compression": 100}, {"output_format": "png"}),
        ({"output_compression": 100}, {}),
        ({"output_format": "jpeg", "output_compression": 0}, {"output_format": "jpeg", "output_compression": 0}),
        ({"background": "opaque", "moderation": "auto"}, {"background": "opaque", "moderation": "auto"}),
        ({"model": "dall-e-2", "quality": "standard", "partial_images": 0, "stream": False}, {}),
        ({"model": "dall-e-3", "response_format": "b64_json", "style": "vivid"}, None),
        ({"model": "imagen-4", "partial_images": 1}, {"partial_images": 1, "stream": True}),
        ({"model": "imagen-4", "output_compression": 5, "response_format": "url"}, None),
    ],
)
def test_the_body_holds_what_was_asked_for_and_nothing_else(
    parameters: dict[str, object], body: dict[str, object] | None
) -> None:
    asked = OpenAIImagesRequest.model_validate({"prompt": "a red fox", "model": "gpt-image-2", **parameters})
    expected = parameters if body is None else body
    assert asked.body() == {"prompt": "a red fox", "model": asked.model, **expected}


def test_what_is_not_sent_is_said() -> None:
    quiet = OpenAIImagesRequest(prompt="x", model="dall-e-2", quality="standard", partial_images=0)
    assert set(quiet.dropped()) == {"quality", "partial_images"}
    assert set(OpenAIImagesRequest(prompt="x", model="gpt-image-2", output_compression=100).dropped()) == {
        "output_compression"
    }
    assert OpenAIImagesRequest(prompt="x", model="gpt-image-2", n=2).dropped() == {}


def test_the_catalogue_is_read_off_the_model() -> None:
    by_name = {parameter.name: parameter for parameter in parameters_of(OpenAIImagesRequest)}
    assert list(by_name) == list(OpenAIImagesRequest.model_fields)
    assert len(by_name) == 14
    assert [name for name, parameter in by_name.items() if parameter.required] == ["prompt", "model"]
    assert all(len(parameter.description) > 20 and "\n" not in parameter.description for parameter in by_name.values())
    n = by_name["n"]
    assert (n.type, n.minimum, n.maximum, n.step) == (ParameterType.INTEGER, 1, 10, 1)
    assert by_name["stream"].type is ParameterType.BOOLEAN
    assert [option.value for option in by_name["background"].options] == ["auto", "opaque", "transparent"]
    assert all(option.description for option in by_name["background"].options)
    assert "gpt-image-2" in by_name["model"].suggestions
    assert by_name["prompt"].min_length == 1


def test_a_number_of_pictures_that_cannot_be_made_is_no_request() -> None:
    one = OpenAIImagesRequest(prompt="a", model="gpt-image-2")

    assert DEFINITION.with_images(one, 1).body()["n"] == 1
    for count in (0, 11):
        with pytest.raises(ValidationError):
            DEFINITION.with_images(one, count)
