"""Request model and simulator were written apart from each other: they accept the same, and refuse for the same reason.

What only one of them can know is left out: how long a name may be, and what Darkroom keeps for itself.
"""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from providers.all_images.domains import (
    AllImagesFormat,
    AllImagesMode,
    AllImagesProcessMode,
    AllImagesTemplatePrompt,
    AllImagesTime,
    AllImagesWeather,
)
from providers.all_images.request import PARAMS, AllImagesRequest
from providers.all_images.simulator_validation import PARAM_NAMES, Strictness, complaints
from tests.providers.all_images.conftest import Vendor

pytestmark = pytest.mark.anyio

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=","), min_size=1, max_size=30)
_WORDS = _TEXT.map(lambda text: text.replace("--", "")).filter(lambda text: bool(text.strip()))
_OUTER = ("name", "mode", "prompt", "additional_prompt", "optimize_prompt", "process_mode", "tags", "meta_data")


def chosen(values: type[str] | list[object], *wrong: object) -> st.SearchStrategy[object]:
    listed: list[object] = list(values) if not isinstance(values, list) else values  # type: ignore[call-overload]
    return st.sampled_from([*(str(value) for value in listed), *wrong])


ASKED = st.fixed_dictionaries(
    {
        "mode": chosen(AllImagesMode),
        "name": st.one_of(_WORDS, st.just("")),
        "prompt": st.one_of(_WORDS, st.sampled_from(["", "x" * 4096, "x" * 4097, "a fox --ar 3:2", "--v", "a--b"])),
    },
    optional={
        "additional_prompt": st.one_of(_WORDS, st.sampled_from(["x" * 1024, "x" * 1025])),
        "optimize_prompt": st.sampled_from([True, None]),
        "process_mode": chosen(AllImagesProcessMode, "slow"),
        "template_prompt": chosen(AllImagesTemplatePrompt, "plain"),
        "format": chosen(AllImagesFormat, "1:2", "16:10"),
        "weather": chosen(AllImagesWeather, "hail"),
        "time": chosen(AllImagesTime, "noon", "Sunrise"),
        "camera": _WORDS,
        "chaos": st.integers(-5, 200),
        "stylize": st.integers(-5, 1200),
        "interdiction": st.lists(_WORDS, min_size=1, max_size=4),
        "sujet_mode": _WORDS,
        "angle": _WORDS,
        "photographe": _WORDS,
        "version": _WORDS,
        "from_image_url": _WORDS,
        "tags": st.lists(_WORDS, max_size=3),
        "meta_data": st.dictionaries(_WORDS, _WORDS, max_size=3),
    },
)  # fmt: skip


def body_of(asked: dict[str, object]) -> dict[str, JsonValue]:
    """What would be sent if nobody checked."""
    return AllImagesRequest.model_construct(**asked).body("r")  # type: ignore[arg-type]


def refused_here(asked: dict[str, object]) -> set[str]:
    """The wire names of what the request model refuses."""
    try:
        AllImagesRequest.model_validate(asked)
    except ValidationError as exc:
        fields = {str(error["loc"][0]) for error in exc.errors()}
        return {PARAMS.get(field) or _camel(field) for field in fields}
    return set()


def refused_there(body: dict[str, JsonValue]) -> set[str]:
    """The wire names of what the simulator refuses."""
    return {line.removeprefix("params.").split()[0] for line in complaints(body, Strictness(strict=True))}


def _camel(field: str) -> str:
    head, *rest = field.split("_")
    return head + "".join(word.capitalize() for word in rest)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@given(ASKED)
def test_both_sides_refuse_the_same_for_the_same_reason(asked: dict[str, object]) -> None:
    assert refused_there(body_of(asked)) == refused_here(asked)


def test_the_two_lists_of_parameters_are_the_same() -> None:
    assert set(PARAMS.values()) == set(PARAM_NAMES)
    assert set(PARAMS) | {*_OUTER, "purchase"} == set(AllImagesRequest.model_fields)


async def test_a_refusal_over_http_has_every_complaint(vendor: Vendor) -> None:
    body: dict[str, JsonValue] = {
        "mode": "expert",
        "prompt": "x" * 4097,
        "processMode": "slow",
        "params": [{"name": "Time", "value": "night"}, {"name": "chaos", "value": "101"}, {"name": "camera"}],
        "tags": [7],
    }
    async with httpx.AsyncClient(base_url=vendor.url, headers={"api-key": "any"}) as http:
        answer = await http.post("/v1/image-generations", json=body)
    assert answer.status_code == 400
    told = answer.json()
    assert (told["statusCode"], told["error"]) == (400, "Bad Request")
    assert "name should not be empty" in told["message"]
    assert "mode must be one of the following values: simple, advanced" in told["message"]
    assert "prompt must be shorter than or equal to 4096 characters" in told["message"]
    assert len(told["message"]) == 9, told["message"]
