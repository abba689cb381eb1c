"""The sandbox as one app, over a real socket."""

from __future__ import annotations

import httpx
import pytest
from starlette.responses import PlainTextResponse

from providers.sandbox.app import sandbox
from providers.sandbox.ledger import Ledger
from tests.serving import serving

pytestmark = pytest.mark.anyio


async def test_every_simulated_api_is_served_under_its_name(ledger: Ledger) -> None:
    app = sandbox({"one": PlainTextResponse("first"), "two": PlainTextResponse("second")}, ledger)
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/one/any/path")).text == "first"
        assert (await client.get("/two/any/path")).text == "second"
        assert (await client.get("/three/any/path")).status_code == 404
        index = (await client.get("/")).json()
    assert index["simulators"] == ["/one", "/two"]
    assert "retry_after" in index["script"]["schema"]["properties"]


async def test_the_ledger_is_listed_whole_or_by_reference(ledger: Ledger) -> None:
    await ledger.charge(provider="one", reference="task-1", submission="req_1", images=2)
    await ledger.charge(provider="two", reference=None, submission="req_2", images=1)
    async with serving(sandbox({}, ledger)) as url, httpx.AsyncClient(base_url=url) as client:
        whole = (await client.get("/ledger")).json()
        [only] = (await client.get("/ledger", params={"reference": "task-1"})).json()
        assert (await client.get("/ledger", params={"reference": "task-9"})).json() == []
    assert [charge["submission"] for charge in whole] == ["req_1", "req_2"]
    assert whole[1]["reference"] is None
    assert only == whole[0]
    assert only["at"].endswith("+00:00")
