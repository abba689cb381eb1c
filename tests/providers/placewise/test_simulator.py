"""The simulated vendor: what it says to whom, what it charges, and how its tasks live."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from PIL import Image
from pydantic import JsonValue

from providers import placewise
from providers.placewise.simulator import CREATE_PATH, simulator
from providers.placewise.simulator_tasks import Task
from providers.placewise.simulator_validation import Order, Rules
from providers.sandbox.ledger import Ledger
from providers.sandbox.script import Script
from tests.providers.placewise.conftest import Vendor
from tests.serving import serving

pytestmark = pytest.mark.anyio

HEADERS = {
    "X-Loyalty-Club-Slug": "infinity-mall",
    "X-User-Agent": "tests",
    "X-Product-Name": "default",
    "X-Client-Authorization": "any",
}
TASKS = "/v1/ml/general/image_generation_tasks"


async def post(
    vendor: Vendor, fields: dict[str, JsonValue] | bytes, *, reference: str = "-", **headers: Any
) -> httpx.Response:
    """An order in JSON; a header that is None is left out."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {**HEADERS, "Content-Type": "application/json", "X-Client-Request-Id": reference, **named}
    body = fields if isinstance(fields, bytes) else orjson.dumps(fields)
    async with httpx.AsyncClient(base_url=vendor.url, trust_env=False) as client:
        return await client.post(
            CREATE_PATH, content=body, headers={name: value for name, value in sent.items() if value is not None}
        )


async def get(vendor: Vendor, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=vendor.url, trust_env=False) as client:
        return await client.get(path)


async def test_an_order_is_answered_with_a_task_id_and_charged_once(vendor: Vendor) -> None:
    answer = await post(vendor, {"prompt": "a red fox", "unknown": [1]}, reference="one")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body == {"image_generation_task": {"id": body["image_generation_task"]["id"]}}
    (charge,) = await vendor.ledger.charges("one")
    assert (charge.provider, charge.images) == ("placewise", 1)
    assert charge.submission == str(body["image_generation_task"]["id"])


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"X_Loyalty_Club_Slug": None}, 470, "X-Loyalty-Club-Slug"),
        ({"X_User_Agent": None}, 470, "X-User-Agent"),
        ({"X_Product_Name": ""}, 470, "X-Product-Name"),
        ({"X_Loyalty_Club_Slug": "Infinity Mall"}, 471, "X-Loyalty-Club-Slug"),
        ({"X_Loyalty_Club_Slug": "sandbox-unknown"}, 471, "X-Loyalty-Club-Slug"),
        ({"X_Customer": "nonsense"}, 471, "X-Customer"),
        ({"Content_Type": "text/plain"}, 471, "Content-Type"),
        ({"X_Client_Authorization": None}, 401, "authorization"),
        ({"X_Client_Authorization": "sandbox-invalid"}, 401, "Invalid"),
        ({"X_Client_Authorization": "Bearer any"}, 401, "Invalid"),
        ({"Authorization": "Bearer sandbox-invalid"}, 460, "OAuth"),
        ({"Authorization": "any"}, 460, "OAuth"),
        ({"X_Client_Authorization": "sandbox-forbidden"}, 403, "ML:ImageGeneration:Post"),
        ({"X_Client_Authorization": None, "Authorization": "Bearer sandbox-forbidden"}, 403, "permit"),
        ({"X_Loyalty_Club_Slug": "sandbox-disabled"}, 402, "not enabled"),
    ],
)
async def test_an_account_that_is_not_right_is_refused_and_not_charged(
    vendor: Vendor, headers: dict[str, Any], status: int, said: str
) -> None:
    answer = await post(vendor, {"prompt": "a red fox"}, reference=f"{headers}", **headers)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert await vendor.ledger.charges(f"{headers}") == []


@pytest.mark.parametrize("customer", ["1000941", "id=1000941", "id=1_2", "all=all", "filter=value;other=x"])
async def test_either_token_is_enough_and_every_form_of_customer_is_good(vendor: Vendor, customer: str) -> None:
    user: dict[str, Any] = {"X_Client_Authorization": None, "Authorization": "Bearer any.jwt"}
    assert (await post(vendor, {"prompt": "x"}, X_Customer=customer)).status_code == 200
    assert (await post(vendor, {"prompt": "x"}, X_Customer=customer, **user)).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"'x'", b'"x"'])
async def test_what_is_no_json_object_gets_an_empty_400(vendor: Vendor, body: bytes) -> None:
    answer = await post(vendor, body)
    assert (answer.status_code, answer.content) == (400, b"")


@pytest.mark.parametrize("body", [b"", b"nothing", b"--b\r\n\r\nx", b'--b\r\nContent-Disposition: form-data; name="p"'])
async def test_what_is_no_form_gets_an_empty_400(vendor: Vendor, body: bytes) -> None:
    for media_type in ("multipart/form-data", "multipart/form-data; boundary=b"):
        answer = await post(vendor, body, Content_Type=media_type)
        assert (answer.status_code, answer.content) == (400, b"")


async def test_what_looks_like_an_attack_is_stopped_by_the_firewall(vendor: Vendor) -> None:
    answer = await post(vendor, {"prompt": "a fox <SCRIPT>alert(1)</script>"}, reference="attack")
    assert (answer.status_code, answer.content) == (444, b"")
    assert await vendor.ledger.charges("attack") == []


async def test_a_body_that_is_too_large_is_refused(vendor: Vendor) -> None:
    assert (await post(vendor, {"prompt": "x" * 1_100_000})).status_code == 413


async def test_all_wrong_parameters_come_in_one_tree(vendor: Vendor) -> None:
    wrong: dict[str, JsonValue] = {
        "image_size": "small", "aspect_ratio": "21:9", "creativity": -1, "photorealistic": "yes", "random_seed": 1.5,
    }  # fmt: skip
    answer = await post(vendor, wrong, reference="wrong")
    assert answer.status_code == 422
    assert answer.json()["error"] == "Invalid parameters"
    details = answer.json()["details"]
    assert {name: leaves[0]["error"] for name, leaves in details.items()} == {
        "prompt": "presence",
        "image_size": "inclusion",
        "aspect_ratio": "inclusion",
        "creativity": "greater_or_equal_to",
        "photorealistic": "inclusion",
        "random_seed": "not_an_integer",
    }
    assert details["image_size"][0]["options"] == {"in": ["thumbnail", "medium"]}
    assert details["image_size"][0]["value"] == "small"
    assert details["creativity"][0]["options"] == {"number": 0}
    assert all(set(leaf) == {"value", "error", "options", "message"} for leaves in details.values() for leaf in leaves)
    assert await vendor.ledger.charges("wrong") == []


async def test_what_the_contract_leaves_open_can_be_decided_otherwise(tmp_path: Path) -> None:
    rules = Rules(small_makes=("thumbnail", "small", "medium"), prompt_max=5, creativity=(1, 4))
    ledger = Ledger(tmp_path / "ledger.db")
    async with serving(simulator(ledger, pace=0, rules=rules)) as url:
        other = Vendor(url, ledger)
        assert (await post(other, {"prompt": "x", "image_size": "small"})).status_code == 200
        refused = await post(other, {"prompt": "a long one", "creativity": 5, "model_type": "large"})
        symbols = {name: leaves[0]["error"] for name, leaves in refused.json()["details"].items()}
        assert symbols == {"prompt": "too_long", "creativity": "less_or_equal_to"}
        id_ = (await post(other, {"prompt": "x"})).json()["image_generation_task"]["id"]
        assert (await get(other, f"{TASKS}/{id_}")).status_code == 404, "there is no way to the result unless asked for"
    ledger.close()


@pytest.mark.parametrize(
    ("size", "ratio", "pixels"),
    [
        ("thumbnail", "1:1", (256, 256)),
        ("small", "3:4", (384, 512)),
        ("medium", "2:3", (680, 1024)),
        ("medium", "3:2", (1024, 680)),
        ("medium", "4:5", (816, 1024)),
        ("large", "16:9", (1440, 808)),
        ("large", "9:16", (808, 1440)),
    ],
)
def test_the_size_is_the_longer_side(size: str, ratio: str, pixels: tuple[int, int]) -> None:
    assert Order("x", "large", ratio, size, 2, False, None).pixels == pixels


@pytest.mark.parametrize(
    ("script", "states"),
    [
        ({}, ["waiting", "waiting", "working", "working", "finished", "finished"]),
        ({"refuse": "output"}, ["waiting", "waiting", "working", "working", "failed", "failed"]),
        ({"error_after": 0}, ["failed"] * 6),
        ({"error_after": 1}, ["waiting", "waiting", "failed", "failed", "failed", "failed"]),
        ({"error_after": 2}, ["waiting", "waiting", "working", "working", "failed", "failed"]),
    ],
)
def test_a_task_goes_from_state_to_state_by_the_clock(script: dict[str, object], states: list[str]) -> None:
    order = Order("x", "small", "1:1", "thumbnail", 2, False, None)
    task = Task(1, order, Script.model_validate(script), pace=10, token="t", accepted_at=1000)
    assert [task.state(1000 + seconds) for seconds in (0, 9, 10, 29, 30, 600)] == states


async def made(vendor: Vendor, **fields: JsonValue) -> bytes:
    answer = await post(vendor, {"prompt": "a red fox", **fields})
    report = await get(vendor, f"{TASKS}/{answer.json()['image_generation_task']['id']}")
    task = report.json()["image_generation_task"]
    assert task["status"] == "finished"
    file = await get(vendor, task["url"])
    assert report.headers["x-sim-assumed"] == file.headers["x-sim-assumed"] == "1"
    assert file.headers["content-type"] == "image/png"
    return file.content


async def test_a_picture_has_the_size_that_was_asked_for(vendor: Vendor) -> None:
    data = await made(vendor, model_type="large", image_size="small", aspect_ratio="16:9", photorealistic=True)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.size, image.format) == ((512, 288), "PNG")


async def test_a_seed_makes_the_same_picture_again_and_none_another_one(vendor: Vendor) -> None:
    seeded = [await made(vendor, random_seed=seed) for seed in (2**40, 2**40, 7)]
    assert seeded[0] == seeded[1] != seeded[2]
    assert await made(vendor) != await made(vendor)


@pytest.mark.parametrize("path", [f"{TASKS}/999999", f"{TASKS}/{2**70}", "/files/999999/x.png", "/files/1/wrong.png"])
async def test_what_does_not_exist_is_not_found(vendor: Vendor, path: str) -> None:
    await post(vendor, {"prompt": "x"})
    answer = await get(vendor, path)
    assert answer.status_code == 404
    assert answer.headers["x-sim-assumed"] == "1"


async def test_a_task_survives_the_restart_of_its_vendor(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ids = []
    for _ in range(2):
        async with serving(placewise.DEFINITION.simulator(ledger)) as url:
            ids.append((await post(Vendor(url, ledger), {"prompt": "x"})).json()["image_generation_task"]["id"])
            for each in ids:
                assert (await get(Vendor(url, ledger), f"{TASKS}/{each}")).json()["image_generation_task"]["id"] == each
    assert ids == [1, 2]
    ledger.close()


async def test_a_script_that_makes_no_sense_is_explained(vendor: Vendor) -> None:
    answer = await post(vendor, {"prompt": "x [[sandbox: wobble=3]]"})
    assert answer.status_code == 422
    assert "wobble" in answer.json()["error"]
    async with httpx.AsyncClient(base_url=vendor.url, trust_env=False) as client:
        for path in ("/script", "/script/results"):
            assert (await client.put(path, content=b"{")).status_code == 422
            assert (await client.put(path, json=[{"latency": 0}])).json() == [{"latency": 0.0}]
            assert (await client.get(path)).json() == [{"latency": 0.0}]
            assert (await client.put(path, json=[])).json() == []


async def test_a_script_may_come_in_a_header_or_the_queue(vendor: Vendor) -> None:
    script = '{"status": 429, "retry_after": 7, "message": "slow down"}'
    answer = await post(vendor, {"prompt": "x"}, X_Sandbox_Script=script)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json() == {"error": "slow down"}
    async with httpx.AsyncClient(base_url=vendor.url, trust_env=False) as client:
        await client.put("/script", json=[{"status": 503}])
    assert [(await post(vendor, {"prompt": "x"})).status_code for _ in range(2)] == [503, 200]
