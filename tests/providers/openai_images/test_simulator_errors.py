"""Every documented refusal reaches the vendor's own client as its own exception, with every documented field."""

from __future__ import annotations

from pathlib import Path

import httpx
import openai
import pytest
from pydantic import JsonValue

from providers.openai_images.simulator import simulator
from providers.sandbox.ledger import Ledger
from tests.providers.openai_images.conftest import Vendor
from tests.serving import serving

pytestmark = pytest.mark.anyio

Body = dict[str, JsonValue]
INVALID, USER = "invalid_request_error", "image_generation_user_error"
GPT: Body = {"model": "gpt-image-2", "prompt": "A fox"}
GPT_1: Body = {"model": "gpt-image-1", "prompt": "A fox"}
DALL_E_3: Body = {"model": "dall-e-3", "prompt": "A fox"}
DALL_E_2: Body = {"model": "dall-e-2", "prompt": "A fox"}


def below(key: str, least: int, value: int) -> str:
    return f"Invalid '{key}': integer below minimum value. Expected a value >= {least}, but got {value} instead."


def above(key: str, most: int, value: int) -> str:
    return f"Invalid '{key}': integer above maximum value. Expected a value <= {most}, but got {value} instead."


def wrong(key: str, expected: str, got: str) -> str:
    return f"Invalid type for '{key}': expected {expected}, but got {got} instead."


QUALITIES = "'low', 'medium', 'high', and 'auto'"
REFUSALS: list[tuple[Body, str, str | None, str | None, str]] = [
    # the body, then: type, param, code, message (contract §2.3, in its order)
    ({"prompt": "A fox"}, INVALID, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
    ({**GPT, "model": None}, INVALID, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
    ({**GPT, "model": 7}, INVALID, "model", "invalid_type", wrong("model", "a string", "an integer")),
    ({**GPT, "model": "gpt-9"}, USER, "model", "invalid_value", "The model 'gpt-9' does not exist."),
    ({**GPT, "model": "a/gpt-image-2"}, USER, "model", "invalid_value", "The model 'a/gpt-image-2' does not exist."),
    (
        {"model": "gpt-image-2"}, INVALID, "prompt", "missing_required_parameter",
        "Missing required parameter: 'prompt'.",
    ),
    ({**GPT, "prompt": None}, INVALID, "prompt", "invalid_type", wrong("prompt", "a string", "null")),
    ({**GPT, "prompt": ["A"]}, INVALID, "prompt", "invalid_type", wrong("prompt", "a string", "an array")),
    (
        {**GPT, "prompt": ""}, INVALID, "prompt", "empty_string",
        "Invalid 'prompt': empty string. Expected a string with minimum length 1, but got an empty string instead.",
    ),
    (
        {**GPT, "prompt": "x" * 32_001}, INVALID, "prompt", "string_above_max_length",
        "Invalid 'prompt': string too long. Expected a string with maximum length 32000, "
        "but got a string with length 32001 instead.",
    ),
    (
        {**DALL_E_2, "prompt": "x" * 1001}, INVALID, "prompt", "string_above_max_length",
        "Invalid 'prompt': string too long. Expected a string with maximum length 1000, "
        "but got a string with length 1001 instead.",
    ),
    ({**GPT, "n": 0}, INVALID, "n", "integer_below_min_value", below("n", 1, 0)),
    ({**GPT, "n": 11}, INVALID, "n", "integer_above_max_value", above("n", 10, 11)),
    ({**DALL_E_3, "n": 2}, INVALID, "n", "integer_above_max_value", above("n", 1, 2)),
    ({**GPT, "n": 1.5}, INVALID, "n", "invalid_type", wrong("n", "an integer", "a decimal number")),
    ({**GPT, "n": "2"}, INVALID, "n", "invalid_type", wrong("n", "an integer", "a string")),
    ({**GPT, "n": True}, INVALID, "n", "invalid_type", wrong("n", "an integer", "a boolean")),
    (
        {**GPT, "output_compression": -1}, INVALID, "output_compression", "integer_below_min_value",
        below("output_compression", 0, -1),
    ),
    (
        {**GPT, "output_compression": 101}, INVALID, "output_compression", "integer_above_max_value",
        above("output_compression", 100, 101),
    ),
    (
        {**GPT, "output_compression": {}}, INVALID, "output_compression", "invalid_type",
        wrong("output_compression", "an integer", "an object"),
    ),
    (
        {**GPT, "partial_images": -1}, INVALID, "partial_images", "integer_below_min_value",
        below("partial_images", 0, -1),
    ),
    (
        {**GPT, "partial_images": 4}, INVALID, "partial_images", "integer_above_max_value",
        above("partial_images", 3, 4),
    ),
    (
        {**GPT, "partial_images": "1"}, INVALID, "partial_images", "invalid_type",
        wrong("partial_images", "an integer", "a string"),
    ),
    (
        {**GPT, "quality": "standard"}, INVALID, "quality", "invalid_value",
        f"Invalid value: 'standard'. Supported values are: {QUALITIES}.",
    ),
    (
        {**GPT, "quality": "max"}, INVALID, "quality", "invalid_value",
        f"Invalid value: 'max'. Supported values are: {QUALITIES}.",
    ),
    (
        {**DALL_E_2, "quality": "hd"}, INVALID, "quality", "invalid_value",
        "Invalid value: 'hd'. Supported values are: 'standard'.",
    ),
    (
        {**GPT, "output_format": "bmp"}, INVALID, "output_format", "invalid_value",
        "Invalid value: 'bmp'. Supported values are: 'png', 'webp', and 'jpeg'.",
    ),
    (
        {**GPT, "output_format": "svg"}, INVALID, "output_format", "invalid_value",
        "Invalid value: 'svg'. Supported values are: 'png', 'webp', and 'jpeg'.",
    ),
    (
        {**GPT, "moderation": "none"}, INVALID, "moderation", "invalid_value",
        "Invalid value: 'none'. Supported values are: 'auto' and 'low'.",
    ),
    (
        {**GPT, "background": "pink"}, INVALID, "background", "invalid_value",
        "Invalid value: 'pink'. Supported values are: 'transparent', 'opaque', and 'auto'.",
    ),
    (
        {**GPT, "size": "bogus"}, USER, "size", "invalid_value",
        "Invalid size 'bogus'. Expected WIDTHxHEIGHT, for example '1824x1024'.",
    ),
    (
        {**GPT, "size": "1000x1000"}, USER, "size", "invalid_value",
        "Invalid size '1000x1000'. Width and height must both be divisible by 16.",
    ),
    (
        {**GPT, "size": "3856x1536"}, USER, "size", "invalid_value",
        "Invalid size '3856x1536'. Width and height must not exceed 3840.",
    ),
    (
        {**GPT, "size": "3200x1024"}, USER, "size", "invalid_value",
        "Invalid size '3200x1024'. The aspect ratio must be between 1:3 and 3:1.",
    ),
    (
        {**GPT, "size": "512x512"}, USER, "size", "invalid_value",
        "Invalid size '512x512'. The number of pixels must be between 655360 and 8294400.",
    ),
    (
        {**GPT_1, "size": "512x512"}, INVALID, "size", "invalid_value",
        "Invalid value: '512x512'. Supported values are: '1024x1024', '1024x1536', '1536x1024', and 'auto'.",
    ),
    ({**GPT, "size": 1024}, INVALID, "size", "invalid_type", wrong("size", "a string", "an integer")),
    ({**DALL_E_3, "size": "512x512"}, INVALID, None, "invalid_size", "The size is not supported by this model."),
    ({**GPT, "stream": "true"}, INVALID, "stream", "invalid_type", wrong("stream", "a boolean", "a string")),
    (
        {**GPT, "response_format": "b64_json"}, INVALID, "response_format", "unknown_parameter",
        "Unknown parameter: 'response_format'.",
    ),
    (
        {**GPT, "response_format": None}, INVALID, "response_format", "unknown_parameter",
        "Unknown parameter: 'response_format'.",
    ),
    ({**GPT, "style": "vivid"}, INVALID, "style", "unknown_parameter", "Unknown parameter: 'style'."),
    (
        {**GPT, "input_fidelity": "high"}, INVALID, "input_fidelity", "unknown_parameter",
        "Unknown parameter: 'input_fidelity'.",
    ),
    ({**GPT, "sede": 1}, INVALID, "sede", "unknown_parameter", "Unknown parameter: 'sede'."),
    (
        {**DALL_E_3, "background": "opaque"}, INVALID, "background", "unknown_parameter",
        "Unknown parameter: 'background'.",
    ),
    ({**DALL_E_2, "style": "vivid"}, INVALID, "style", "unknown_parameter", "Unknown parameter: 'style'."),
    (
        {**DALL_E_3, "style": "loud"}, INVALID, "style", "invalid_value",
        "Invalid value: 'loud'. Supported values are: 'vivid' and 'natural'.",
    ),
    (
        {**DALL_E_3, "response_format": "file"}, INVALID, "response_format", "invalid_value",
        "Invalid value: 'file'. Supported values are: 'url' and 'b64_json'.",
    ),
    (
        {**GPT, "background": "transparent"}, USER, "background", "invalid_value",
        "Transparent background is not supported for this model.",
    ),
    (
        {**GPT_1, "background": "transparent", "output_format": "jpeg"}, USER, "background", "invalid_value",
        "Transparent background is not supported for JPEG output format.",
    ),
    (
        {**GPT, "output_compression": 99}, USER, None, "invalid_png_output_compression",
        "Compression less than 100 is not supported for PNG output format",
    ),
    (
        {**GPT, "partial_images": 1}, INVALID, "partial_images", "invalid_value",
        "Partial images are only supported with streaming",
    ),
    (
        {**GPT, "partial_images": 1, "stream": False}, INVALID, "partial_images", "invalid_value",
        "Partial images are only supported with streaming",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "type_", "param", "code", "message"),
    REFUSALS,
    ids=[f"{row[2]}-{row[3]}-{number}" for number, row in enumerate(REFUSALS)],
)
async def test_a_bad_request_is_refused_as_documented_and_not_charged(
    vendor: Vendor, body: Body, type_: str, param: str | None, code: str | None, message: str
) -> None:
    client = vendor.client.with_options(default_headers={"X-Client-Request-Id": "bad"})
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/images/generations", cast_to=object, body=body)
    assert caught.value.body == {"message": message, "type": type_, "param": param, "code": code}
    assert (caught.value.status_code, caught.value.param, caught.value.code) == (400, param, code)
    assert caught.value.request_id is not None
    assert caught.value.request_id.startswith("req_")
    assert await vendor.ledger.charges("bad") == []


STATUSES: list[tuple[str, type[openai.APIStatusError], int, str, str | None]] = [
    # the script, then: class, status, type, code (contract §4.2, in its order)
    ("refuse=input", openai.BadRequestError, 400, USER, "moderation_blocked"),
    ("refuse=output", openai.BadRequestError, 400, USER, "moderation_blocked"),
    ("status=400 code=content_policy_violation", openai.BadRequestError, 400, INVALID, "content_policy_violation"),
    ("status=400 code=billing_hard_limit_reached", openai.BadRequestError, 400, INVALID, "billing_hard_limit_reached"),
    ("status=401", openai.AuthenticationError, 401, INVALID, "invalid_api_key"),
    ("status=403", openai.PermissionDeniedError, 403, INVALID, None),
    ("status=404", openai.NotFoundError, 404, INVALID, "model_not_found"),
    ("status=408", openai.APIStatusError, 408, "timeout_error", None),
    ("status=409", openai.ConflictError, 409, INVALID, None),
    ("status=422", openai.UnprocessableEntityError, 422, "server_error", None),
    ("status=429", openai.RateLimitError, 429, "requests", "rate_limit_exceeded"),
    ("status=429 code=insufficient_quota", openai.RateLimitError, 429, "insufficient_quota", "insufficient_quota"),
    (
        "status=429 code=project_spend_limit_exceeded", openai.RateLimitError, 429,
        "insufficient_quota", "project_spend_limit_exceeded",
    ),
    ("status=500", openai.InternalServerError, 500, "server_error", None),
    ("status=503", openai.InternalServerError, 503, "server_error", None),
    (
        "status=500 code=image_generation_server_error", openai.InternalServerError, 500,
        "image_generation_server_error", "image_generation_server_error",
    ),
    (
        "status=500 code=image_generation_failed", openai.InternalServerError, 500,
        "image_generation_server_error", "image_generation_failed",
    ),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(("script", "class_", "status", "type_", "code"), STATUSES, ids=[row[0] for row in STATUSES])
async def test_every_documented_status_raises_the_clients_own_class(
    vendor: Vendor,
    script: str,
    class_: type[openai.APIStatusError],
    status: int,
    type_: str,
    code: str | None,
    stream: bool,
) -> None:
    with pytest.raises(class_) as caught:
        await vendor.client.images.generate(
            prompt=f"A fox [[sandbox: {script}]]", model="gpt-image-2", stream=stream,
            extra_headers={"X-Client-Request-Id": "failed"},
        )  # fmt: skip
    assert type(caught.value) is class_
    assert (caught.value.status_code, caught.value.type, caught.value.code) == (status, type_, code)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"]
    assert await vendor.ledger.charges("failed") == []


async def test_the_safety_system_says_what_it_found(vendor: Vendor) -> None:
    with pytest.raises(openai.BadRequestError, match=r"safety_violations=\[sexual, minors\]") as caught:
        await vendor.client.images.generate(
            prompt="[[sandbox: refuse=output categories=sexual,minors]]", model="gpt-image-2"
        )
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["moderation_details"] == {"moderation_stage": "output", "categories": ["sexual", "minors"]}


@pytest.mark.parametrize(
    ("token", "class_", "code"),
    [
        ("sandbox-invalid", openai.AuthenticationError, "invalid_api_key"),
        ("sandbox-forbidden", openai.PermissionDeniedError, None),
        ("sandbox-no-quota", openai.RateLimitError, "insufficient_quota"),
    ],
)
async def test_the_reserved_tokens_are_refused(
    vendor: Vendor, token: str, class_: type[openai.APIStatusError], code: str | None
) -> None:
    with pytest.raises(class_) as caught:
        await vendor.client.with_options(api_key=token).images.generate(prompt="A fox", model="gpt-image-2")
    assert caught.value.code == code


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic YTpi"])
async def test_a_request_without_a_token_is_refused(vendor: Vendor, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    async with httpx.AsyncClient(base_url=vendor.url, headers=headers) as client:
        answer = await client.post("/v1/images/generations", json=GPT)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == INVALID


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"sede": 1, "prompt": "", "n": 0}, "model"),
        ({"model": "gpt-image-2", "sede": 1, "prompt": "", "n": 0}, "sede"),
        ({"model": "gpt-image-2", "prompt": "", "n": 0, "quality": "?"}, "prompt"),
        ({**GPT, "size": "?", "output_compression": 101, "quality": "?", "n": 0}, "n"),
        ({**GPT, "size": "?", "output_compression": 101, "quality": "?"}, "quality"),
        ({**GPT, "size": "?", "output_compression": 101}, "output_compression"),
    ],
)
async def test_one_problem_is_reported_at_a_time_in_the_documented_order(
    vendor: Vendor, body: Body, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await vendor.client.post("/images/generations", cast_to=object, body=body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "body",
    [{**GPT, "user": 123}, {**GPT, "prompt": "   "}, {**GPT, "output_compression": 100}, {**DALL_E_2, "stream": None}],
)
async def test_what_the_vendor_lets_pass_is_accepted(vendor: Vendor, body: Body) -> None:
    answer = await vendor.client.post("/images/generations", cast_to=openai.types.ImagesResponse, body=body)
    assert answer.data


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"", 400, "could not parse"),
        (b"{", 400, "could not parse"),
        (b"[]", 400, "must be an object"),
        (b'"prompt"', 400, "must be an object"),
        (b" " * (1024 * 1024 + 1), 413, "larger than"),
    ],
)
async def test_a_body_that_is_no_request_is_refused(vendor: Vendor, content: bytes, status: int, says: str) -> None:
    headers = {"authorization": "Bearer any", "content-type": "application/json"}
    async with httpx.AsyncClient(base_url=vendor.url, headers=headers) as client:
        answer = await client.post("/v1/images/generations", content=content)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


async def test_the_gateways_own_refusals_have_its_own_shape(vendor: Vendor) -> None:
    gateway = vendor.client.with_options(base_url=f"{vendor.url}/api/llm")
    with pytest.raises(openai.PermissionDeniedError) as caught:
        await gateway.images.generate(prompt="A fox", model="openai-main/gpt-9")
    body = caught.value.response.json()
    assert body["status"] == "failure"
    assert body["error"]["type"] == "AuthorizationError"
    assert body["message"] == body["error"]["message"]
    with pytest.raises(openai.AuthenticationError) as refused:
        await gateway.with_options(api_key="sandbox-invalid").images.generate(prompt="A fox", model="gpt-image-2")
    assert refused.value.response.json()["status"] == "failure"
    with pytest.raises(openai.BadRequestError) as passed:
        await gateway.images.generate(prompt="A fox", model="openai-main/gpt-image-2", n=11)
    assert "status" not in passed.value.response.json()


@pytest.mark.parametrize("metadata", ["{", "[]", '{"a": 1}', '{"a": "' + "x" * 129 + '"}'])
async def test_the_gateway_refuses_malformed_metadata(vendor: Vendor, metadata: str) -> None:
    gateway = vendor.client.with_options(base_url=f"{vendor.url}/api/llm")
    with pytest.raises(openai.BadRequestError, match="x-tfy-metadata"):
        await gateway.images.generate(prompt="A fox", model="gpt-image-2", extra_headers={"x-tfy-metadata": metadata})


async def test_an_account_with_preview_access_gets_transparent_backgrounds_on_gpt_image_2(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    async with (
        serving(simulator(ledger, pace=0, previews=True)) as url,
        openai.AsyncOpenAI(api_key="any", base_url=url, max_retries=0) as client,
    ):
        answer = await client.images.generate(prompt="A fox", model="gpt-image-2", background="transparent")
    assert answer.background == "transparent"
    ledger.close()


async def test_variations_are_gone(vendor: Vendor) -> None:
    with pytest.raises(openai.NotFoundError):
        await vendor.client.post("/images/variations", cast_to=object, body={})
