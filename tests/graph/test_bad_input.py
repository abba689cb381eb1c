"""What bad input gets: a clear typed answer, nothing stored, nothing charged, no traceback."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from graph.ids import encode
from tests.clients import START, WATCH, execute, openai_images, socket, subscribe
from tests.server import LiveServer

pytestmark = pytest.mark.anyio


async def footprint(server: LiveServer) -> tuple[int, int]:
    """How many tasks are stored, and how many generations were charged."""
    answer = await execute(server, "{ tasks(first: 1) { totalCount } }")
    async with httpx.AsyncClient(trust_env=False) as client:
        charges = (await client.get(f"{server.url}/sandbox/ledger")).json()
    return answer["data"]["tasks"]["totalCount"], len(charges)


@pytest.fixture
async def nothing_happens(server: LiveServer, caplog: pytest.LogCaptureFixture) -> Any:
    """Whatever the test sends must leave no task, no charge and no traceback."""
    before = await footprint(server)
    yield
    assert await footprint(server) == before
    assert not [record for record in caplog.records if record.exc_info]


async def problems(server: LiveServer, **parameters: Any) -> list[dict[str, Any]]:
    answer = await execute(server, START, openai_images(**parameters))
    result = answer["data"]["startGeneration"]
    assert result["__typename"] == "ValidationError", answer
    assert result["code"] == "VALIDATION_FAILED"
    found: list[dict[str, Any]] = result["problems"]
    return found


@pytest.mark.parametrize(
    ("parameters", "field", "words"),
    [
        ({"prompt": ""}, "prompt", "at least 1 character, not 0"),
        ({"prompt": "x" * 40_000}, "prompt", "32,000"),
        ({"model": "gpt-image-1", "size": "1000x1000"}, "size", "1024x1024"),
        ({"size": "1000x1000"}, "size", "divisible by 16"),
        ({"size": "huge"}, "size", "WIDTHxHEIGHT"),
        ({"n": 0}, "n", "from 1 to 10, not 0"),
        ({"n": 11}, "n", "from 1 to 10, not 11"),
        ({"partialImages": -1}, "partialImages", "or equal to 0, not -1"),
        ({"quality": "hd"}, "quality", "low"),
        ({"style": "VIVID"}, "style", "does not take"),
        ({"responseFormat": "URL"}, "responseFormat", "gpt-image"),
        ({"partialImages": 4}, "partialImages", "3"),
        ({"partialImages": 2, "stream": False}, "partialImages", "stream"),
        ({"background": "TRANSPARENT", "model": "gpt-image-1.5"}, "background", "png"),
        ({"model": "account/dall-e-3", "outputFormat": None, "n": 2}, "n", "1"),
        ({"outputCompression": 101}, "outputCompression", "from 0 to 100, not 101"),
        ({"responseFormat": "URL"}, "responseFormat", "the parameter responseFormat."),
        ({"partialImages": 2, "stream": False}, "partialImages", "partialImages: 2 needs a stream"),
        ({"outputFormat": "tiff"}, "outputFormat", "does not know outputFormat 'tiff'"),
    ],
)
@pytest.mark.usefixtures("nothing_happens")
async def test_a_parameter_that_breaks_a_rule_is_named_with_its_rule(
    server: LiveServer, parameters: dict[str, Any], field: str, words: str
) -> None:
    found = [one for one in await problems(server, **parameters) if one["path"][-1] == field]

    assert found, f"nothing about {field}"
    assert found[0]["path"] == ["input", "request", "openaiImages", field]
    assert words in found[0]["message"]


@pytest.mark.usefixtures("nothing_happens")
async def test_all_problems_come_at_once_with_what_would_be_valid(server: LiveServer) -> None:
    variables = openai_images("", n=0, outputFormat="tiff", quality="best")
    variables["input"] |= {"tags": ["x" * 65], "name": "n" * 201, "metadata": {"blob": "x" * 20_000}}
    result = (await execute(server, START, variables))["data"]["startGeneration"]
    found = {".".join(problem["path"]): problem for problem in result["problems"]}

    assert set(found) == {
        *(f"input.request.openaiImages.{field}" for field in ("prompt", "n", "outputFormat", "quality")),
        "input.tags.0",
        "input.name",
        "input.metadata",
    }
    assert found["input.request.openaiImages.outputFormat"]["allowed"] == ["png", "jpeg", "webp", "gif", "svg"]
    assert found["input.request.openaiImages.n"]["allowed"] is None, "a range is in the message"
    assert "7 problems (" in result["message"]
    assert "prompt, n, " in result["message"]
    assert "tags.0" in result["message"]


async def the_problem(server: LiveServer, request: dict[str, Any]) -> dict[str, Any]:
    """The only problem of a request."""
    result = (await execute(server, START, {"input": {"request": request}}))["data"]["startGeneration"]
    (found,) = result["problems"]
    problem: dict[str, Any] = found
    return problem


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize(
    ("request_", "allowed", "words"),
    [
        (
            {"placewise": {"prompt": "x", "imageSize": "LARGE"}},
            ["THUMBNAIL", "MEDIUM"],
            "THUMBNAIL and MEDIUM pictures, not LARGE. Choose one of them, or modelType MEDIUM or LARGE.",
        ),
        (
            openai_images(background="TRANSPARENT", outputFormat="jpeg")["input"]["request"],
            ["AUTO", "OPAQUE"],
            "A TRANSPARENT background needs outputFormat png or webp, not jpeg.",
        ),
    ],
)
async def test_the_valid_values_are_those_that_a_client_can_write(
    server: LiveServer, request_: dict[str, Any], allowed: list[str], words: str
) -> None:
    problem = await the_problem(server, request_)

    assert problem["allowed"] == allowed
    assert words in problem["message"]


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"placewise": {"prompt": "x", "creativity": -1}}, "-1 is below 0"),
        ({"placewise": {"prompt": "x", "randomSeed": str(1 << 63)}}, "64 bits"),
        ({"allImages": {"mode": "SIMPLE", "name": "x", "prompt": "x --ar 3:2"}}, "Use mode ADVANCED"),
        ({"allImages": {"mode": "ADVANCED", "name": "x", "prompt": "x", "format": "LANDSCAPE_3_2"}}, "--ar 3:2"),
        ({"openaiImages": {"model": "dall-e-3", "prompt": "x" * 5000}}, "5,000 characters"),
        (openai_images(model="gpt-image-2", size="10x10")["input"]["request"], "WIDTHxHEIGHT"),
    ],
)
async def test_a_rule_in_words_is_in_the_message_and_not_among_the_valid_values(
    server: LiveServer, request_: dict[str, Any], words: str
) -> None:
    problem = await the_problem(server, request_)

    assert problem["allowed"] is None
    assert words in problem["message"]


@pytest.mark.usefixtures("nothing_happens")
async def test_what_a_client_has_written_itself_is_not_translated(server: LiveServer) -> None:
    request = {"mode": "SIMPLE", "name": "x", "prompt": "x", "interdiction": ["a hat", "from_image_url,sunny"]}
    problem = await the_problem(server, {"allImages": request})

    assert problem["path"][2:] == ["allImages", "interdiction", "1"]
    assert problem["message"].startswith("'from_image_url,sunny' has a comma in it")


@pytest.mark.usefixtures("nothing_happens")
async def test_a_text_that_is_too_long_is_not_repeated(server: LiveServer) -> None:
    problem = await the_problem(server, openai_images(user="u" * 600)["input"]["request"])

    assert problem["message"] == "String should have at most 512 characters, not 600"


async def post(server: LiveServer, **request: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await client.post(f"{server.url}/graphql", **request)


MODERN = {"accept": "application/graphql-response+json"}


def only_error(response: httpx.Response) -> dict[str, Any]:
    """The one error of an answer that must not contain data."""
    answer = response.json()
    assert "data" not in answer
    assert len(answer["errors"]) == 1
    error: dict[str, Any] = answer["errors"][0]
    return error


@pytest.mark.usefixtures("nothing_happens")
async def test_two_providers_in_one_request_are_refused(server: LiveServer) -> None:
    query = "mutation($r: GenerationRequest!) { startGeneration(input: {request: $r}) { __typename } }"
    response = await post(server, json={"query": query, "variables": {"r": {}}}, headers=MODERN)

    assert response.status_code == 422
    assert "exactly one key" in only_error(response)["message"]


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("{", 400, "Syntax Error"),
        ("{ nope }", 422, "Cannot query field"),
        ("query A { __typename } query B { __typename }", 422, "operationName"),
        ('{ tasks(first: "two") { totalCount } }', 422, "Int cannot represent"),
        ("{ " + " ".join(f"a{i}: __typename" for i in range(40)) + " }", 422, "aliases"),
        ("{ " + "__typename " * 3000 + "}", 400, "tokens"),
    ],
)
async def test_a_document_that_cannot_be_run_gets_a_4xx_and_no_data(
    server: LiveServer, query: str, status: int, words: str
) -> None:
    response = await post(server, json={"query": query}, headers=MODERN)

    assert response.status_code == status
    assert response.headers["content-type"].startswith("application/graphql-response+json")
    assert words in only_error(response)["message"]


@pytest.mark.usefixtures("nothing_happens")
async def test_metadata_that_is_nested_too_deeply_is_refused_before_anything_goes_down_into_it(
    server: LiveServer,
) -> None:
    variables = openai_images()
    variables["input"]["metadata"] = "deep"
    body = json.dumps({"query": START, "variables": variables}).replace('"deep"', "[" * 1000 + "]" * 1000)
    response = await post(server, content=body, headers=MODERN | {"content-type": "application/json"})

    assert response.status_code == 422
    assert only_error(response)["extensions"]["code"] == "VARIABLES_TOO_DEEP"


@pytest.mark.usefixtures("nothing_happens")
async def test_variables_that_are_nested_too_deeply_are_refused_wherever_they_come_from(server: LiveServer) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    query, variables = "subscription { activity { cursor } }", {"unused": deep}
    stream = await post(server, json={"query": query, "variables": variables}, headers={"accept": "text/event-stream"})
    over_socket = [message async for message in subscribe(server, query, variables)]

    assert [message["type"] for message in over_socket] == ["error"]
    assert "nested too deeply" in over_socket[0]["payload"][0]["message"]
    assert stream.status_code == 200
    assert over_socket[0]["payload"][0]["extensions"]["code"] == "VARIABLES_TOO_DEEP"
    assert over_socket[0]["payload"] == json.loads(stream.text.partition("data: ")[2].partition("\n")[0])["errors"]


LONG = [f"#{'x' * 70_000}\n{{ __typename }}", f"#{'🎨' * 17_000}\n{{ __typename }}"]


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize("query", LONG, ids=["letters", "pictures"])
async def test_a_document_that_is_too_long_is_refused_wherever_it_comes_from(server: LiveServer, query: str) -> None:
    response = await post(server, json={"query": query}, headers=MODERN)
    stream = await post(server, json={"query": query}, headers={"accept": "text/event-stream"})
    over_socket = [message async for message in subscribe(server, query, {})]

    error = only_error(response)
    assert response.status_code == 422
    assert error["extensions"]["code"] == "DOCUMENT_TOO_LARGE"
    assert "at most 65,536" in error["message"]
    assert "variables" in error["message"]
    assert json.loads(stream.text.partition("data: ")[2].partition("\n")[0])["errors"] == [error]
    assert [(message["type"], message["payload"]) for message in over_socket] == [("error", [error])]


@pytest.mark.usefixtures("nothing_happens")
async def test_a_document_that_is_just_short_enough_is_run(server: LiveServer) -> None:
    answer = await execute(server, "{ __typename }".ljust(65_536, "#"))

    assert answer == {"data": {"__typename": "Query"}}


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize(
    ("request_", "status", "code", "words"),
    [
        ({"content": "{", "headers": {"content-type": "application/json"}}, 400, "BAD_REQUEST", "JSON"),
        ({"content": "[]", "headers": {"content-type": "application/json"}}, 400, "BAD_REQUEST", "atching"),
        ({"content": "3", "headers": {"content-type": "application/json"}}, 400, "BAD_REQUEST", "object"),
        ({"content": "{}", "headers": {"content-type": "text/plain"}}, 400, "BAD_REQUEST", "content type"),
        ({"json": {}}, 400, "BAD_REQUEST", "query"),
        ({"json": {"query": 3}}, 400, "BAD_REQUEST", "query"),
        ({"json": {"query": "{__typename}", "variables": []}}, 400, "BAD_REQUEST", "variables"),
        ({"json": {"query": WATCH, "variables": {"id": "x"}}}, 400, "BAD_REQUEST", "graphql-transport-ws"),
        ({"json": {"query": "x" * 20_000_000}}, 413, "REQUEST_TOO_LARGE", "1,048,576"),
    ],
)
async def test_a_request_that_is_no_graphql_says_what_to_send(
    server: LiveServer, request_: dict[str, Any], status: int, code: str, words: str
) -> None:
    response = await post(server, **request_)
    error = only_error(response)

    assert (response.status_code, error["extensions"]["code"]) == (status, code)
    assert words in error["message"]


@pytest.mark.usefixtures("nothing_happens")
async def test_a_mutation_by_get_is_refused(server: LiveServer) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"{server.url}/graphql", params={"query": "mutation { __typename }"})

    assert response.status_code == 405
    assert "POST" in only_error(response)["message"]


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize(
    ("id", "code"),
    [
        ("nonsense", "INVALID_ID"),
        ("", "INVALID_ID"),
        ("ü", "INVALID_ID"),
        (encode("Fish", "1"), "INVALID_ID"),
        (encode("Task", "0" * 32), "NOT_FOUND"),
    ],
)
async def test_an_id_that_belongs_to_nothing_is_null_and_explained(server: LiveServer, id: str, code: str) -> None:
    for field in ("task", "node"):
        answer = await execute(server, f"query($id: ID!) {{ {field}(id: $id) {{ id }} }}", {"id": id})

        assert answer["data"] == {field: None}
        assert answer["errors"][0]["extensions"]["code"] == code
        assert "Use an `id`" in answer["errors"][0]["message"] or "Query `tasks`" in answer["errors"][0]["message"]


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize(("id", "code"), [("nonsense", "INVALID_ID"), (encode("Task", "0" * 32), "NOT_FOUND")])
async def test_watching_an_unknown_task_is_an_error_at_once(server: LiveServer, id: str, code: str) -> None:
    messages = [message async for message in subscribe(server, WATCH, {"id": id})]

    assert [message["type"] for message in messages] == ["error"]
    assert messages[0]["payload"][0]["extensions"]["code"] == code


@pytest.mark.usefixtures("nothing_happens")
async def test_one_bad_subscription_leaves_the_others_on_its_socket_alone(server: LiveServer) -> None:
    async with socket(server) as ws:
        for id, query in (("bad", "subscription { nope }"), ("good", "{ __typename }")):
            await ws.send(json.dumps({"id": id, "type": "subscribe", "payload": {"query": query}}))
        answers = [json.loads(await ws.recv()) for _ in range(3)]

    assert {(answer["id"], answer["type"]) for answer in answers} == {
        ("bad", "error"),
        ("good", "next"),
        ("good", "complete"),
    }


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize("path", ["/images/nonsense", "/images/" + "0" * 32])
async def test_a_picture_that_is_not_there_is_a_404(server: LiveServer, path: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(server.url + path)

    assert response.status_code == 404
    assert only_error(response)["extensions"]["code"] == "NOT_FOUND"


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("metadata", {"a": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}, "levels deep"),
        ("metadata", {"count": 1 << 63}, "64 bits"),
        ("name", "a\0b", "NUL"),
        ("idempotencyKey", "\0", "NUL"),
        ("tags", ["ok", "\0"], "NUL"),
    ],
)
async def test_what_could_not_be_given_back_is_refused(
    server: LiveServer, field: str, value: object, words: str
) -> None:
    variables = openai_images()
    variables["input"][field] = value
    result = (await execute(server, START, variables))["data"]["startGeneration"]

    assert result["__typename"] == "ValidationError"
    assert result["problems"][0]["path"][:2] == ["input", field]
    assert words in result["problems"][0]["message"]


@pytest.mark.usefixtures("nothing_happens")
@pytest.mark.parametrize(
    "text", ["[]", "5", '{"id": "1", "type": "subscribe", "payload": {"query": 5}}', "{", '{"type": 3}']
)
async def test_a_websocket_message_that_is_none_closes_the_socket_with_a_reason(server: LiveServer, text: str) -> None:
    async with socket(server) as ws:
        await ws.send(text)
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400
    assert closed.value.rcvd.reason


@pytest.mark.usefixtures("nothing_happens")
async def test_a_report_to_a_callback_that_is_none_is_refused_before_it_is_read(server: LiveServer) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.post(f"{server.url}/callbacks/{'x' * 43}", content=b"x" * 100)

    assert response.status_code == 404
