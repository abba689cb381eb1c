"""The simulated vendor does what the contract says the real one does."""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image
from pydantic import JsonValue

from providers.all_images.simulator import OPERATIONS, simulator
from providers.all_images.simulator_validation import SIZES, Strictness, complaints, params_of
from providers.sandbox.ledger import Ledger
from tests.providers.all_images.account import request
from tests.providers.all_images.conftest import STEP, Vendor, simulated
from tests.serving import serving

pytestmark = pytest.mark.anyio

BODY: dict[str, JsonValue] = {"name": "A fox", "mode": "simple", "prompt": "a red fox"}


async def create(vendor: Vendor, **more: JsonValue) -> dict[str, JsonValue]:
    answer = await vendor.http.post("/image-generations", json={**BODY, **more})
    assert answer.status_code == 200, answer.text
    made: dict[str, JsonValue] = answer.json()
    return made


async def read(vendor: Vendor, made: dict[str, JsonValue]) -> dict[str, JsonValue]:
    now: dict[str, JsonValue] = (await vendor.http.get(f"/image-generations/{made['id']}")).json()
    return now


def images(made: dict[str, JsonValue]) -> list[dict[str, str]]:
    listed = made["images"]
    assert isinstance(listed, list)
    return listed  # type: ignore[return-value]


async def test_a_generation_lives_as_documented(slow: Vendor) -> None:
    made = await create(slow, params=[{"name": "format", "value": "3:2"}], tags=["t"], metaData={"a": "b"})
    assert set(made) == {
        "id", "name", "prompt", "status", "params", "processMode", "images", "nbImages", "tags", "metaData",
        "createdAt",
    }  # fmt: skip
    assert (made["status"], made["images"], made["tags"], made["metaData"]) == (0, [], ["t"], {"a": "b"})
    assert str(made["createdAt"]).endswith("Z")
    seen = []
    for _ in range(8):
        now = await read(slow, made)
        seen.append((now["status"], now["nbImages"]))
        slow.clock.stages(1)
    assert seen == [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4), (3, 4)]
    first = images(now)[0]
    assert set(first) == {"id", "url", "urlFull", "validate", "free", "titles"}


@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_links_lead_to_pictures_and_full_ones_must_be_bought(vendor: Vendor, prefix: str) -> None:
    answer = await vendor.http.post(
        f"{prefix}/image-generations", json={**BODY, "params": [{"name": "format", "value": "16:9"}]}
    )
    listed = images((await vendor.http.get(f"{prefix}/image-generations/{answer.json()['id']}")).json())
    async with httpx.AsyncClient() as anybody:
        preview = await anybody.get(listed[0]["url"])
        assert preview.headers["content-type"] == "image/jpeg"
        assert (await anybody.get(listed[0]["urlFull"])).status_code == 402
        bought = (await vendor.http.post(f"{prefix}/images/buy", json={"id": listed[0]["id"]})).json()
        assert set(bought) == {"id", "url", "urlFull", "urlUpscale", "urlUpscaleUHD", "downloadedAt"}
        full = await anybody.get(bought["urlFull"])
    sizes = [Image.open(io.BytesIO(file.content)).size for file in (preview, full)]
    assert sizes == [(652, 372), (1304, 744)]
    downloaded = await vendor.http.post(f"{prefix}/images/download", json={"id": listed[0]["id"]})
    assert downloaded.content == full.content
    assert [c.submission for c in await vendor.ledger.charges()].count(f"image:{listed[0]['id']}") == 1
    latest = (await vendor.http.post(f"{prefix}/images/downladed", json={"limit": 1})).json()
    assert latest["images"][0]["id"] == listed[0]["id"]
    assert (await vendor.http.get(f"{prefix}/images/tiny/{listed[0]['id']}.jpg")).status_code == 400
    assert (await vendor.http.get(f"{prefix}/images/preview/nothing.jpg")).status_code == 404


async def test_a_picture_that_is_not_there_yet_cannot_be_had(slow: Vendor) -> None:
    made = await create(slow)
    slow.clock.stages(7)
    image = images(await read(slow, made))[3]
    slow.clock.now -= 3 * STEP
    assert (await slow.http.post("/images/download", json={"id": image["id"]})).status_code == 404
    assert await slow.ledger.charges() == await slow.ledger.charges(None)
    assert not [charge for charge in await slow.ledger.charges() if charge.submission.startswith("image:")]


async def test_lists_are_filtered_and_paged(tmp_path: Path) -> None:
    async with simulated(Ledger(tmp_path / "ledger.db"), pace=0) as vendor:
        for number in range(5):
            await create(vendor, name=f"Fox {number}", tags=["odd"] if number % 2 else [])

        async def names(**query: str) -> tuple[int, list[str]]:
            answer = (await vendor.http.get("/image-generations", params=query)).json()
            return answer["filteredResults"], [each["name"] for each in answer["prints"]]

        assert await names(limit="2") == (5, ["Fox 4", "Fox 3"])
        assert await names(limit="2", offset="4") == (5, ["Fox 0"])
        assert await names(tag="odd") == (2, ["Fox 3", "Fox 1"])
        assert await names(name="fox 2") == (1, ["Fox 2"])
        for wrong in ({"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"offset": "-1"}):
            assert (await vendor.http.get("/image-generations", params=wrong)).status_code == 400
        found = (await vendor.http.post("/images/search", json={"search": "Fox red", "limit": 3})).json()
        assert (found["filteredResults"], len(found["images"])) == (20, 3)
        assert (await vendor.http.post("/images/search", json={"filterFree": True})).json()["filteredResults"] == 0


async def test_every_endpoint_wants_the_key_and_only_as_the_vendor_does(vendor: Vendor) -> None:
    paths = [
        ("GET", "/credit"),
        ("GET", "/api-keys/check"),
        ("POST", "/image-generations"),
        ("GET", "/image-generations"),
        ("DELETE", "/image-generations"),
        ("POST", "/images/download"),
        ("POST", "/api-keys/webhook/subscribe"),
    ]
    async with httpx.AsyncClient(base_url=vendor.url) as http:
        for method, path in paths:
            for headers in ({}, {"Authorization": "Bearer k"}, {"X-Api-Key": "k"}, {"api-key": "sandbox-invalid"}):
                answer = await http.request(method, path, headers=headers)
                assert answer.status_code == 401
                assert answer.json() == {"statusCode": 401, "message": "Unauthorized"}


async def test_reading_a_webhook_gives_the_key_away_as_the_vendor_does(vendor: Vendor) -> None:
    made = (await vendor.http.post("/api-keys/webhook/subscribe", json={"url": "http://127.0.0.1:9/"})).json()
    told = (await vendor.http.get(f"/api-keys/webhook/{made['webhookId']}")).json()
    assert told == {"id": made["webhookId"], "apiKeyId": "any", "url": "http://127.0.0.1:9/"}
    assert (await vendor.http.get("/api-keys/webhook/none")).status_code == 404


async def test_credits_run_out(tmp_path: Path) -> None:
    async with simulated(Ledger(tmp_path / "l.db"), pace=0, credits={"f_images": 1, "f_images_print": 2}) as vendor:
        made = await create(vendor, metaData={"sandbox_free": "1"})
        first, second, _, free = images(await read(vendor, made))
        assert (await vendor.http.post("/images/download", json={"id": first["id"]})).status_code == 200
        assert (await vendor.http.post("/images/download", json={"id": first["id"]})).status_code == 200
        assert (await vendor.http.post("/images/download", json={"id": second["id"]})).status_code == 402
        assert (await vendor.http.post("/images/download", json={"id": free["id"]})).status_code == 200
        await create(vendor)
        answer = await vendor.http.post("/image-generations", json=BODY)
        assert (answer.status_code, answer.json()["error"]) == (402, "Payment Required")
        credits = (await vendor.http.get("/credit")).json()["credits"]
        assert credits == [
            {"type": "f_images", "credit": 0, "creditTotal": 1},
            {"type": "f_images_print", "credit": 0, "creditTotal": 2},
        ]


async def test_a_charge_names_the_customers_reference_and_who_pays_for_what_can_be_told_apart(vendor: Vendor) -> None:
    made = await create(vendor, metaData={"darkroom_reference": "job"})
    tagged = await create(vendor, tags=["darkroom:by-tag"])
    image = images(await read(vendor, made))[0]["id"]
    await asyncio.gather(*(vendor.http.post("/images/download", json={"id": image}) for _ in range(5)))
    generations, bought = await vendor.charges("job")
    assert [(charge.submission, charge.images) for charge in generations] == [(made["id"], 4)]
    assert [(charge.submission, charge.images) for charge in bought] == [(f"image:{image}", 1)]
    assert [charge.submission for charge in await vendor.ledger.charges("by-tag")] == [tagged["id"]]


async def test_deleting_says_nothing_whatever_is_deleted(vendor: Vendor) -> None:
    made = await create(vendor)
    image = images(await read(vendor, made))[0]["id"]
    for ids in ([made["id"]], ["unknown"], []):
        answer = await vendor.http.request("DELETE", "/image-generations", json={"printIds": ids})
        assert (answer.status_code, answer.content) == (200, b"")
    assert (await vendor.http.get(f"/image-generations/{made['id']}")).status_code == 404
    assert (await vendor.http.get(f"/images/preview/{image}.jpg")).status_code == 404


async def test_the_prompt_decides_the_picture_and_each_of_the_four_differs(vendor: Vendor) -> None:
    async def files(**more: JsonValue) -> list[bytes]:
        listed = images(await read(vendor, await create(vendor, **more)))
        return [(await vendor.http.get(image["url"])).content for image in listed]

    first = await files()
    assert len(set(first)) == 4
    assert await files() == first
    assert await files(prompt="a blue fox") != first
    assert await files(params=[{"name": "weather", "value": "snowy"}]) != first
    assert (await files(prompt="a red fox [[sandbox: seed=2]]"))[0] != first[0]
    broken = await files(prompt="a red fox [[sandbox: truncate=1]]")
    assert broken[0] == first[0]
    assert len(broken[1]) < len(first[1])


async def test_an_advanced_prompt_may_choose_the_shape(vendor: Vendor) -> None:
    for ratio in ("16:9", "4:5"):
        size = SIZES[ratio]
        made = await create(vendor, mode="advanced", prompt=f"a fox --ar {ratio} --chaos 5")
        file = await vendor.http.get(images(await read(vendor, made))[0]["url"])
        assert Image.open(io.BytesIO(file.content)).size == (size[0] // 2, size[1] // 2)


def _with(*params: tuple[str, JsonValue]) -> dict[str, JsonValue]:
    return {**BODY, "params": [{"name": name, "value": value} for name, value in params]}


def test_what_the_contract_leaves_open_is_a_switch() -> None:
    seed = _with(("Time", "night"))
    assert "params.0.name must be one of" in complaints(seed, Strictness())[0]
    assert complaints(seed, Strictness(seed_time=True)) == []
    assert params_of(seed) == {"time": "night"}
    number = _with(("chaos", 5))
    assert complaints(number, Strictness()) == []
    assert complaints(number, Strictness(strict=True)) == ["params.chaos must be a string"]
    odd = {**_with(("chaos", "5"), ("chaos", "6")), "mode": "advanced", "seed": 7, "optimizePrompt": True}
    assert complaints(odd, Strictness()) == []
    assert params_of(odd) == {"chaos": "6"}
    assert len(complaints(odd, Strictness(strict=True))) == 4
    assert complaints({"chaos": 1}, Strictness(), partial=True) == []


async def test_every_operation_has_a_queue_of_faults(vendor: Vendor) -> None:
    faults: list[dict[str, JsonValue]] = [
        {"status": 500, "message": "one;two", "code": "Odd"},
        {"error_shape": "empty", "status": 503},
        {"lose": "response"},
    ]
    await vendor.script("credit", *faults)
    first = await vendor.http.get("/credit")
    assert first.json() == {"statusCode": 500, "error": "Odd", "message": ["one", "two"]}
    second = await vendor.http.get("/credit")
    assert (second.status_code, second.content) == (503, b"")
    with pytest.raises(httpx.RemoteProtocolError):
        await vendor.http.get("/credit")
    assert (await vendor.http.get("/credit")).status_code == 200
    for operation in OPERATIONS:
        assert (await vendor.http.get(f"/script/{operation}")).json() == []
    assert (await vendor.http.put("/script/odd", json=[])).status_code == 404
    assert (await vendor.http.put("/script", json=[{"knob": 1}])).status_code == 400
    header = {"X-Sandbox-Script": '{"status": 418}'}
    assert (await vendor.http.get("/api-keys/check", headers=header)).status_code == 418
    bad = await vendor.http.post("/image-generations", json={**BODY, "prompt": "x [[sandbox: knob=1]]"})
    assert (bad.status_code, bad.json()["error"]) == (400, "Sandbox")


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"x" * (1024 * 1024 + 1)])
async def test_a_body_that_is_no_object_is_refused(vendor: Vendor, body: bytes) -> None:
    answer = await vendor.http.post("/image-generations", content=body)
    assert answer.status_code in (400, 413)
    assert answer.json()["statusCode"] == answer.status_code


async def test_a_restarted_vendor_still_has_everything(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    found: list[dict[str, JsonValue]] = []
    for visit in range(2):
        ledger = Ledger(tmp_path / "ledger.db")
        app = simulator(ledger, pace=2, clock=lambda visit=visit: now + visit * 60)  # type: ignore[misc]
        async with serving(app) as url, httpx.AsyncClient(base_url=url, headers={"api-key": "any"}) as http:
            if not visit:
                found.append((await http.post("/image-generations", json=request().body("r"))).json())
            told = (await http.get(f"/image-generations/{found[0]['id']}")).json()
            assert told["status"] == (3 if visit else 0), "it went on while nobody was there"
            if visit:
                assert len(told["images"]) == 4
                assert told["images"][0]["url"].startswith(url)
                assert len((await http.get(told["images"][0]["url"])).content) > 1000
            assert (await http.get("/credit")).json()["credits"][1]["credit"] == 9999
        ledger.close()


_KILLED = """
import asyncio, os, sys
from pathlib import Path
import httpx
from providers.all_images.simulator import simulator
from providers.sandbox.ledger import Ledger

async def main():
    app = simulator(Ledger(Path(sys.argv[1])), pace=0)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers={"api-key": "k"}) as http:
        body = {"name": "n", "mode": "simple", "prompt": "p", "metaData": {"darkroom_reference": "killed"}}
        print((await http.post("/image-generations", json=body)).json()["id"], flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def test_a_killed_vendor_has_not_lost_what_it_answered(tmp_path: Path) -> None:
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _KILLED, str(tmp_path / "ledger.db"), stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    said, _ = await killed.communicate()
    assert killed.returncode == -9
    async with simulated(Ledger(tmp_path / "ledger.db"), pace=0) as vendor:
        listed = (await vendor.http.get("/image-generations", params={"tag": "none"})).json()
        assert listed["prints"] == []
        told = (await vendor.http.get(f"/image-generations/{said.decode().strip()}")).json()
        assert told["metaData"] == {"darkroom_reference": "killed"}
        assert len(await vendor.ledger.charges("killed")) == 1
