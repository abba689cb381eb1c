"""What goes over the wire: every parameter with its type in both encodings, every header, and only once."""

from __future__ import annotations

from email.parser import BytesParser

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue
from starlette.datastructures import Headers

from providers.placewise.channel import ResultChannel
from providers.placewise.simulator_validation import read_fields
from tests.providers.placewise.account import (
    CREATED,
    PUSH,
    REFERENCE,
    TOKEN,
    USER_TOKEN,
    Listener,
    account,
    request,
    run,
)
from tests.providers.upstream import Heard, kinds, upstream

pytestmark = pytest.mark.anyio

EVERYTHING: dict[str, object] = {
    "prompt": "Minimalistic cheesecake – „süß“\nsecond line\r\n--boundary\u2028",
    "model_type": "large",
    "aspect_ratio": "16:9",
    "image_size": "large",
    "creativity": 4,
    "photorealistic": True,
    "random_seed": 9_007_199_254_740_993,
}


async def heard_of(asked: dict[str, object], **settings: object) -> Heard:
    """What arrived at the vendor."""
    callback = Listener("https://darkroom.example/callbacks/t0ken")
    async with upstream(CREATED) as server:
        outcome = await run(
            account(server.url, **{**settings, "deadline_seconds": 0.01}), request(**asked), callback=callback
        )
    assert kinds(outcome.events)[0] == "Accepted"
    (heard,) = server.heard
    return heard


def form(heard: Heard) -> dict[str, str]:
    """The fields of a form, read by the standard library. Fails unless they are plain text fields."""
    head = f"Content-Type: {heard.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + heard.body)
    assert message.get_content_type() == "multipart/form-data"
    assert not message.defects
    fields = {}
    for part in message.walk():
        if part is message:
            continue
        assert list(part.keys()) == ["Content-Disposition"], "a text field has no file name and no type"
        assert part.get_filename() is None
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        name = part.get_param("name", header="content-disposition")
        assert name not in fields
        fields[str(name)] = payload.decode()
    return fields


async def test_a_form_carries_every_parameter_as_text() -> None:
    heard = await heard_of(EVERYTHING)
    assert heard.line == "POST /v1/ml/general/generate_image HTTP/1.1"
    assert form(heard) == {
        "prompt": EVERYTHING["prompt"],
        "model_type": "large",
        "aspect_ratio": "16:9",
        "image_size": "large",
        "creativity": "4",
        "photorealistic": "true",
        "random_seed": "9007199254740993",
    }


async def test_json_carries_every_parameter_with_its_type() -> None:
    heard = await heard_of(EVERYTHING, encoding="json")
    assert heard.headers["content-type"] == "application/json"
    assert heard.json == EVERYTHING
    assert type(heard.json["creativity"]) is int
    assert type(heard.json["photorealistic"]) is bool


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("model_type", "small", "small"),
        ("model_type", "medium", "medium"),
        *(("aspect_ratio", r, r) for r in ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "16:9", "9:16")),
        *(("image_size", size, size) for size in ("thumbnail", "small", "medium", "large")),
        ("creativity", 0, "0"),
        ("photorealistic", False, "false"),
        ("random_seed", 0, "0"),
        ("random_seed", -7, "-7"),
    ],
)
async def test_each_value_goes_where_it_belongs(name: str, value: JsonValue, text: str) -> None:
    asked: dict[str, object] = {"model_type": "large", name: value}
    assert form(await heard_of(asked)) == {"prompt": "a red fox", "model_type": "large", name: text}
    expected: dict[str, object] = {"prompt": "a red fox", "model_type": "large", name: value}
    assert (await heard_of(asked, encoding="json")).json == expected


@pytest.mark.parametrize("encoding", ["multipart", "json"])
async def test_what_is_left_out_is_not_sent(encoding: str) -> None:
    nothing = dict.fromkeys(("model_type", "aspect_ratio", "image_size", "creativity", "photorealistic", "random_seed"))
    heard = await heard_of(nothing, encoding=encoding)
    assert (form(heard) if encoding == "multipart" else heard.json) == {"prompt": "a red fox"}


async def test_the_headers_are_those_of_the_account() -> None:
    heard = await heard_of({})
    for name, value in {
        "x-loyalty-club-slug": "infinity-mall",
        "x-client-authorization": TOKEN,
        "x-user-agent": "darkroom",
        "x-product-name": "default",
    }.items():
        assert heard.headers[name] == value
    for name in ("authorization", "x-customer", "x-locale", "x-client-request-id", "cookie"):
        assert name not in heard.headers
    assert REFERENCE not in heard.body.decode()

    heard = await heard_of(
        {}, client_token=None, user_token=USER_TOKEN, user_agent="darkroom/1.0 (print)", product_name="mall",
        customer="id=1_2", locale="nb-NO",
    )  # fmt: skip
    assert heard.headers["authorization"] == f"Bearer {USER_TOKEN}"
    assert "x-client-authorization" not in heard.headers
    assert heard.headers["x-user-agent"] == "darkroom/1.0 (print)"
    assert heard.headers["x-product-name"] == "mall"
    assert heard.headers["x-customer"] == "id=1_2"
    assert heard.headers["x-locale"] == "nb-NO"


async def test_a_base_path_is_kept() -> None:
    async with upstream(CREATED) as server:
        await run(account(f"{server.url}/proxy/placewise/"))
    assert server.heard[0].line == "POST /proxy/placewise/v1/ml/general/generate_image HTTP/1.1"


async def test_the_vendor_is_told_the_callback_where_the_settings_say() -> None:
    url = "https://darkroom.example/callbacks/t0ken"
    heard = await heard_of({}, **PUSH)
    assert heard.headers["x-notify"] == url
    assert set(form(heard)) == {"prompt"}
    in_a_field = {**PUSH, "callback_header": None, "callback_field": "callback_url"}
    heard = await heard_of({}, **in_a_field)
    assert "x-notify" not in heard.headers
    assert form(heard)["callback_url"] == url
    assert (await heard_of({}, encoding="json", **in_a_field)).json["callback_url"] == url


@pytest.mark.parametrize("channel", [None, ResultChannel.NONE])
async def test_without_push_nobody_is_told_a_callback(channel: ResultChannel | None) -> None:
    heard = await heard_of({}, results=channel, callback_header="X-Notify", callback_field="callback_url")
    assert b"callbacks" not in heard.body
    assert "x-notify" not in heard.headers


@given(st.text(min_size=1).filter(str.strip), st.integers(-(2**63), 2**63 - 1))
async def test_any_prompt_and_any_seed_arrive_as_they_were(prompt: str, seed: int) -> None:
    provider = account("http://127.0.0.1:1")
    asked = request(prompt=prompt, random_seed=seed)
    post = provider._post_request(asked, REFERENCE, None)
    fields, text = await read_fields(Headers(dict(post.headers)), post.read())
    await provider.aclose()
    assert text
    assert fields == {"prompt": prompt, "random_seed": str(seed)}
    assert orjson.loads(orjson.dumps(asked.fields())) == {"prompt": prompt, "random_seed": seed}
