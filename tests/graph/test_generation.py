"""The main job: start a generation, watch it develop, read it back."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops, ImageStat

from graph.ids import key
from tests.clients import START, execute, generate, openai_images, start, watch
from tests.server import LiveServer

pytestmark = pytest.mark.anyio

HISTORY = """
query($id: ID!) {
  task(id: $id) {
    number status sandbox prompt model name tags metadata lastSequence createdAt submittedAt acceptedAt finishedAt
    provider { name inputField title sandbox }
    request { ... on OpenAIImagesRequest { prompt model n size quality outputFormat partialImages background } }
    effective { model size quality outputFormat background revisedPrompt }
    progress { fraction origin }
    usage { inputTokens outputTokens totalTokens reported }
    images { id index kind width height placeholder dataUri }
    partialImages { id index partialImageIndex kind placeholder }
    failure { code }
  }
}
"""


async def fetch(url: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url, headers=headers)


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["__typename"] for event in events]


async def test_a_picture_develops_before_the_eyes_of_its_subscriber(server: LiveServer) -> None:
    events = await generate(server, "A fox in the snow", partialImages=3)

    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert [event["status"] for event in events if event["__typename"] == "TaskStatusChanged"] == [
        "QUEUED",
        "SUBMITTING",
        "RUNNING",
    ]
    partials = [event for event in events if event["__typename"] == "PartialImageReady"]
    assert [event["partialImageIndex"] for event in partials] == [0, 1, 2]
    assert kinds(events)[-3:] == ["ImageReady", "UsageReported", "TaskSucceeded"]
    assert events[-1]["task"]["status"] == "SUCCEEDED"


async def test_partial_images_are_earlier_stages_of_the_final_one(server: LiveServer) -> None:
    events = await generate(server, "A harbour at night", partialImages=3)
    shown = [event["image"] for event in events if "image" in event]
    pictures = [Image.open(io.BytesIO((await fetch(image["url"])).content)).convert("RGB") for image in shown]

    distances = [sum(ImageStat.Stat(ImageChops.difference(pictures[-1], one)).mean) for one in pictures]
    assert len(pictures) == 4
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] == 0 < distances[-2]


async def test_a_picture_is_served_as_what_it_is_and_cached_for_ever(server: LiveServer) -> None:
    image = (await generate(server, "A teapot"))[-3]["image"]
    response = await fetch(image["url"])

    assert response.headers["content-type"] == image["mediaType"] == "image/jpeg"
    assert "immutable" in response.headers["cache-control"]
    assert len(response.content) == image["byteSize"]
    assert hashlib.sha256(response.content).hexdigest() == image["sha256"]
    assert Image.open(io.BytesIO(response.content)).size == (image["width"], image["height"]) == (1024, 640)
    again = await fetch(image["url"], **{"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_a_thumbnail_is_small_and_keeps_its_shape(server: LiveServer) -> None:
    image = (await generate(server, "A bicycle"))[-3]["image"]
    answer = await execute(server, "query($id: ID!) { node(id: $id) { ... on Image { url(width: 200) } } }", image)
    response = await fetch(answer["data"]["node"]["url"])

    assert response.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(response.content)).size == (256, 160)


async def test_the_history_keeps_what_was_asked_and_what_was_made_of_it(server: LiveServer) -> None:
    variables = openai_images("A red barn", partialImages=1, quality="auto")
    variables["input"] |= {"name": "barn", "tags": ["farm", "red"], "metadata": {"shelf": 3}}
    task_id = await start(server, variables)
    events = await watch(server, task_id)
    task = (await execute(server, HISTORY, {"id": task_id}))["data"]["task"]

    assert (task["status"], task["prompt"], task["model"]) == ("SUCCEEDED", "A red barn", "gpt-image-2")
    assert (task["name"], task["tags"], task["metadata"]) == ("barn", ["farm", "red"], {"shelf": 3})
    assert task["provider"] == {
        "name": "openai_images",
        "inputField": "openaiImages",
        "title": "OpenAI Images",
        "sandbox": True,
    }
    assert task["request"]["quality"] == "auto"
    assert task["effective"]["quality"] in ("low", "medium", "high")
    assert task["effective"]["size"] == "1024x640"
    assert task["usage"]["totalTokens"] == task["usage"]["inputTokens"] + task["usage"]["outputTokens"]
    assert task["usage"]["reported"]["total_tokens"] == task["usage"]["totalTokens"]
    assert task["lastSequence"] == events[-1]["sequence"]
    assert task["createdAt"] <= task["submittedAt"] <= task["acceptedAt"] <= task["finishedAt"]
    assert all(task[time].endswith("+00:00") for time in ("createdAt", "submittedAt", "finishedAt"))
    assert [image["kind"] for image in task["images"] + task["partialImages"]] == ["FINAL", "PARTIAL"]
    assert all(
        image["placeholder"].startswith("data:image/webp;base64,") for image in task["images"] + task["partialImages"]
    )
    assert task["failure"] is None


async def test_several_pictures_are_one_task(server: LiveServer) -> None:
    events = await generate(server, "Three pears", n=3, partialImages=2)
    finals = [event for event in events if event["__typename"] == "ImageReady"]

    assert sorted(event["index"] for event in finals) == [0, 1, 2]
    assert len({event["image"]["sha256"] for event in finals}) == 3
    assert kinds(events)[-1] == "TaskSucceeded"


async def test_a_late_subscriber_sees_the_same_events(server: LiveServer) -> None:
    task_id = await start(server, openai_images("A clock", partialImages=2))
    live = await watch(server, task_id)
    replayed = await watch(server, task_id)

    def timeless(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in event.items() if key != "task"} for event in events]

    assert timeless(replayed) == timeless(live)


@pytest.mark.parametrize("after", [0, 1, 5, 8, 9, 1000])
async def test_watching_goes_on_after_any_event(server: LiveServer, after: int) -> None:
    task_id = await start(server, openai_images("A kite", partialImages=2))
    everything = await watch(server, task_id)
    rest = await watch(server, task_id, after)

    assert [event["sequence"] for event in rest] == [e["sequence"] for e in everything if e["sequence"] > after]


async def test_a_refusal_is_an_event_and_not_an_error(server: LiveServer) -> None:
    failure = (await generate(server, "Something bad [[sandbox: refuse=input]]"))[-1]["failure"]

    assert failure["code"] == "REFUSED"
    assert failure["retryable"] is False
    assert failure["billed"] is False


async def test_a_stream_without_a_final_picture_is_a_failure_that_keeps_its_partials(server: LiveServer) -> None:
    events = await generate(server, "Half a bridge [[sandbox: no_final]]", partialImages=2)

    assert kinds(events).count("PartialImageReady") == 2
    assert events[-1]["failure"]["code"] == "TRUNCATED"
    assert events[-1]["failure"]["transport"] == "ACCEPTED"


async def test_a_rate_limit_says_how_long_to_wait(server: LiveServer) -> None:
    failure = (await generate(server, "Too fast [[sandbox: status=429 retry_after=7]]"))[-1]["failure"]

    assert (failure["code"], failure["retryable"], failure["billed"]) == ("RATE_LIMITED", True, False)
    assert failure["retryAfter"] == 7
    assert failure["requestId"]


async def test_a_final_picture_that_is_cut_short_is_never_a_success(server: LiveServer) -> None:
    events = await generate(server, "Half a picture [[sandbox: truncate=0]]")

    assert events[-1]["__typename"] == "TaskFailed"
    assert "ImageReady" not in kinds(events)


async def test_one_click_is_one_charge_in_the_vendors_ledger(server: LiveServer) -> None:
    task_id = await start(server, openai_images("A lamp"))
    await watch(server, task_id)
    reference = key(task_id, "Task")
    charges = (await fetch(f"{server.url}/sandbox/ledger?reference={reference}")).json()

    assert [(charge["provider"], charge["images"]) for charge in charges] == [("openai_images", 1)]


async def test_the_same_idempotency_key_answers_with_the_same_task(server: LiveServer) -> None:
    variables = openai_images("A spoon")
    variables["input"]["idempotencyKey"] = "spoon-1"
    first = await start(server, variables)

    assert await start(server, variables) == first


async def test_the_same_idempotency_key_for_another_request_is_a_conflict(server: LiveServer) -> None:
    variables = openai_images("A fork")
    variables["input"]["idempotencyKey"] = "fork-1"
    first = await start(server, variables)
    variables["input"]["request"]["openaiImages"]["prompt"] = "A knife"
    result = (await execute(server, START, variables))["data"]["startGeneration"]

    assert result["__typename"] == "IdempotencyConflictError"
    assert result["code"] == "IDEMPOTENCY_CONFLICT"
    assert result["taskId"] == first
