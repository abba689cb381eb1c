"""Placewise and All-Images.ai through the whole server, as a client sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlmodel import func, select

from graph.ids import encode, key
from tasks.records import CallbackRecord, DeliveryRecord
from tests.clients import execute, start, watch
from tests.process import serve
from tests.server import LiveServer, Reachable
from tests.tasks.test_restart import charges, until

pytestmark = pytest.mark.anyio

PURCHASE = """
mutation($id: ID!) {
  purchaseImage(input: { id: $id }) {
    __typename
    ... on PurchaseImageSuccess { image { id kind index width } }
    ... on Error { code message }
  }
}
"""
TASK = "query($id: ID!) { task(id: $id) { providerTaskId images { id kind index width } } }"


def placewise(prompt: str = "A mall in spring", **parameters: Any) -> dict[str, Any]:
    return {"input": {"request": {"placewise": {"prompt": prompt, **parameters}}}}


def all_images(prompt: str = "A fox in the snow", **parameters: Any) -> dict[str, Any]:
    return {"input": {"request": {"allImages": {"mode": "SIMPLE", "name": "fox", "prompt": prompt, **parameters}}}}


async def images_of(server: Reachable, task_id: str) -> list[dict[str, Any]]:
    answer = await execute(server, TASK, {"id": task_id})
    found: list[dict[str, Any]] = answer["data"]["task"]["images"]
    return found


async def test_a_placewise_picture_arrives_with_a_seed_beyond_32_bits(server: LiveServer) -> None:
    task_id = await start(server, placewise(modelType="LARGE", imageSize="THUMBNAIL", randomSeed=2**60))
    events = await watch(server, task_id)
    asked = await execute(
        server,
        "query($id: ID!) { task(id: $id) { request { ... on PlacewiseRequest { randomSeed } } } }",
        {"id": task_id},
    )

    assert events[-1]["__typename"] == "TaskSucceeded"
    assert asked["data"]["task"]["request"]["randomSeed"] == 2**60


async def test_a_value_without_effect_is_a_notice_and_no_failure(server: LiveServer) -> None:
    events = await watch(server, await start(server, placewise(creativity=3)))
    notices = [event["notice"] for event in events if event["__typename"] == "NoticeGiven"]

    assert [notice["parameter"] for notice in notices] == ["creativity"]
    assert events[-1]["__typename"] == "TaskSucceeded"


async def test_what_the_vendor_refuses_is_listed_parameter_by_parameter(server: LiveServer) -> None:
    task_id = await start(server, placewise("A mall [[sandbox: status=422 code=inclusion]]"))
    await watch(server, task_id)
    query = "query($id: ID!) { task(id: $id) { failure { code billed problems { path message } } } }"
    failure = (await execute(server, query, {"id": task_id}))["data"]["task"]["failure"]

    assert (failure["code"], failure["billed"]) == ("INVALID_REQUEST", False)
    assert failure["problems"]
    assert all(problem["path"] and problem["message"] for problem in failure["problems"])


async def test_without_a_way_to_the_result_a_task_is_handed_off_with_the_vendors_id(tmp_path: Path) -> None:
    with serve(tmp_path, DARKROOM_PLACEWISE_RESULTS="none") as server:
        task_id = await start(server, placewise())
        events = await watch(server, task_id)
        task = (await execute(server, TASK, {"id": task_id}))["data"]["task"]

    assert events[-1]["__typename"] == "TaskHandedOff"
    assert task == {"providerTaskId": "1", "images": []}


async def test_four_previews_arrive_one_by_one_and_one_is_bought_once(server: LiveServer) -> None:
    task_id = await start(server, all_images())
    events = await watch(server, task_id)
    previews = await images_of(server, task_id)

    assert [event["__typename"] for event in events].count("ImageReady") == 4
    assert [image["kind"] for image in previews] == ["PREVIEW"] * 4

    bought = [(await execute(server, PURCHASE, {"id": previews[2]["id"]}))["data"]["purchaseImage"] for _ in range(2)]
    assert bought[0]["__typename"] == "PurchaseImageSuccess"
    assert bought[0]["image"]["kind"] == "FINAL"
    assert bought[0]["image"]["width"] > previews[2]["width"]
    assert bought[1] == bought[0]
    assert [image["kind"] for image in await images_of(server, task_id)] == ["PREVIEW", "PREVIEW", "FINAL", "PREVIEW"]


async def test_what_is_here_in_full_is_not_bought_again(server: LiveServer) -> None:
    task_id = await start(server, placewise())
    await watch(server, task_id)
    final = (await images_of(server, task_id))[0]
    nobodys = [encode("Image", "0" * 32), "nonsense", task_id]
    nothing = [(await execute(server, PURCHASE, {"id": id}))["data"]["purchaseImage"] for id in nobodys]
    whole = (await execute(server, PURCHASE, {"id": final["id"]}))["data"]["purchaseImage"]

    assert [one["code"] for one in nothing] == ["NOT_FOUND"] * 3
    assert whole["image"]["id"] == final["id"]


async def test_webhooks_reach_the_callback_of_their_task(server: LiveServer) -> None:
    task_id = await start(server, all_images("A heron [[sandbox: pause=0.05]]"))
    await watch(server, task_id)
    statement = (
        select(func.count())
        .select_from(DeliveryRecord)
        .join(CallbackRecord)
        .where(CallbackRecord.task_id == key(task_id, "Task"))
    )

    assert (
        await server.darkroom.callbacks._database.read(lambda connection: connection.execute(statement).scalar_one())
        >= 1
    )


async def test_health_says_what_is_left_and_costs_nothing(server: LiveServer) -> None:
    query = "{ providers { name health { usable credits { kind left } } } }"
    before = (await execute(server, query))["data"]["providers"]
    after = (await execute(server, query))["data"]["providers"]

    health = {one["name"]: one["health"] for one in before}
    assert health["openai_images"] == {"usable": True, "credits": []}
    assert health["all_images"]["usable"]
    assert {credit["kind"] for credit in health["all_images"]["credits"]} >= {"f_images"}
    assert after == before


async def test_a_job_at_the_vendor_is_found_again_after_the_server_was_killed(tmp_path: Path) -> None:
    with serve(tmp_path) as first:
        task_id = await start(first, all_images("A stork [[sandbox: pause=0.5]]"))
        await until(first, task_id, "RUNNING")
        first.kill()
    with serve(tmp_path) as second:
        events = await watch(second, task_id)
        paid = await charges(second, task_id)

    assert events[-1]["__typename"] == "TaskSucceeded"
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert paid == 1
