"""The request model and the simulator judge requests independently, and must agree: on what, and on why not."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import orjson
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from providers.placewise.adapter import Placewise
from providers.placewise.request import PlacewiseAspectRatio, PlacewiseImageSize, PlacewiseModelType, PlacewiseRequest
from providers.placewise.settings import PlacewiseSettings
from providers.placewise.simulator import CREATE_PATH, simulator
from providers.sandbox.ledger import Ledger
from providers.scalars import BigInt
from tests.providers.placewise.account import run
from tests.serving import serving

HEADERS = {
    "X-Loyalty-Club-Slug": "infinity-mall", "X-User-Agent": "tests", "X-Product-Name": "default",
    "X-Client-Authorization": "any",
}  # fmt: skip

SAME_REASON = {
    "missing": {"presence"},
    "string_type": {"presence", "not_a_string"},
    "string_too_short": {"blank"},
    "prompt_blank": {"blank"},
    "enum": {"inclusion"},
    "size_not_supported": {"inclusion"},
    "bool_type": {"inclusion"},
    "int_type": {"not_an_integer", "not_a_number"},
    "creativity_too_low": {"greater_or_equal_to"},
}
"""What the model calls a problem, and what the vendor does."""

PROMPTS = st.text(min_size=1, max_size=50).filter(lambda text: text.strip() and "<" not in text and "[" not in text)
INT64 = st.integers(-(2**63), 2**63 - 1)
JUNK: st.SearchStrategy[JsonValue] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(-5, 5),
    st.sampled_from(["", " ", "small", "1:1", "2", "x"]),
    st.lists(st.integers(0, 9), max_size=1),
    st.dictionaries(st.just("a"), st.integers(0, 9), max_size=1),
)


@st.composite
def valid(draw: st.DrawFn) -> PlacewiseRequest:
    model = draw(st.none() | st.sampled_from(PlacewiseModelType))
    small = model in (None, PlacewiseModelType.SMALL)
    sizes = [PlacewiseImageSize.THUMBNAIL, PlacewiseImageSize.MEDIUM] if small else list(PlacewiseImageSize)
    return PlacewiseRequest(
        prompt=draw(PROMPTS),
        model_type=model,
        aspect_ratio=draw(st.none() | st.sampled_from(PlacewiseAspectRatio)),
        image_size=draw(st.none() | st.sampled_from(sizes)),
        creativity=draw(st.none() | st.integers(0, 2**31 - 1)),
        photorealistic=draw(st.none() | st.booleans()),
        random_seed=draw(st.none() | INT64.map(BigInt)),
    )


def known(values: st.SearchStrategy[JsonValue]) -> st.SearchStrategy[JsonValue]:
    return st.one_of(values, values, JUNK)


ANYTHING: st.SearchStrategy[dict[str, JsonValue]] = st.fixed_dictionaries(
    {},
    optional={
        "prompt": known(PROMPTS),
        "model_type": known(st.sampled_from(["small", "medium", "large"])),
        "aspect_ratio": known(st.sampled_from([each.value for each in PlacewiseAspectRatio])),
        "image_size": known(st.sampled_from(["thumbnail", "small", "medium", "large"])),
        "creativity": known(st.integers(-2, 5)),
        "photorealistic": known(st.booleans()),
        "random_seed": known(INT64),
    },
)


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio") as running:
        yield running


@pytest.fixture(scope="module")
def url(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ledger = Ledger(tmp_path_factory.mktemp("agreement") / "ledger.db")
    with portal.wrap_async_context_manager(serving(simulator(ledger, pace=0))) as served:
        yield served
    ledger.close()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers=HEADERS, trust_env=False) as vendor:
        yield vendor


@pytest.mark.parametrize("encoding", ["multipart", "json"])
@given(asked=valid())
@settings(deadline=None, max_examples=60)
def test_every_valid_request_is_accepted(
    portal: BlockingPortal, url: str, encoding: str, asked: PlacewiseRequest
) -> None:
    account = PlacewiseSettings.model_validate(
        {"base_url": url, "client_token": "any", "loyalty_club_slug": "infinity-mall", "encoding": encoding}
    )

    async def order() -> None:
        outcome = await run(Placewise(account, base_url=url, sandbox=False), asked)
        assert outcome.error is None

    portal.call(order)


@given(fields=ANYTHING)
@settings(deadline=None, max_examples=300)
def test_every_invalid_request_is_refused_by_both_for_the_same_reason(
    client: httpx.Client, fields: dict[str, JsonValue]
) -> None:
    answer = client.post(CREATE_PATH, content=orjson.dumps(fields), headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 422)
    details = answer.json()["details"] if answer.status_code == 422 else {}
    theirs = {name: leaves[0]["error"] for name, leaves in details.items()}
    ours: dict[str, str] = {}
    try:
        PlacewiseRequest.model_validate(fields)
    except ValidationError as exc:
        ours = {str(error["loc"][0]): error["type"] for error in exc.errors()}
    assert set(ours) == set(theirs)
    for name, code in ours.items():
        assert theirs[name] in SAME_REASON[code], f"{name}: {code} here, {theirs[name]} there"


@given(fields=ANYTHING)
@settings(deadline=None, max_examples=100)
def test_a_form_is_judged_as_the_same_values_in_json(client: httpx.Client, fields: dict[str, JsonValue]) -> None:
    """As far as text can tell: in a form everything is text, and an empty field is none."""
    scalars = {name: value for name, value in fields.items() if isinstance(value, str | int) and value not in ("", " ")}
    texts = {
        name: orjson.dumps(value).decode() if not isinstance(value, str) else value for name, value in scalars.items()
    }
    as_form = client.post(CREATE_PATH, files=[(name, (None, text)) for name, text in texts.items()] or {"x": "y"})
    typed = {name: _typed(name, text) for name, text in texts.items()}
    as_json = client.post(CREATE_PATH, content=orjson.dumps(typed), headers={"Content-Type": "application/json"})
    assert as_form.status_code == as_json.status_code
    if as_form.status_code == 422:
        reasons = [
            {n: [leaf["error"] for leaf in ls] for n, ls in a.json()["details"].items()} for a in (as_form, as_json)
        ]
        assert reasons[0] == reasons[1]


def _typed(name: str, text: str) -> JsonValue:
    """What a form field means, where it means anything but text."""
    if name in ("creativity", "random_seed"):
        try:
            return int(text)
        except ValueError:
            return text
    return {"true": True, "false": False}.get(text, text) if name == "photorealistic" else text


def _reasons(answer: httpx.Response) -> dict[str, list[str]]:
    return {name: [leaf["error"] for leaf in leaves] for name, leaves in answer.json()["details"].items()}
