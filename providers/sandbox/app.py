"""The sandbox as one app: every simulated API under its name, and the ledger they all bill into."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from providers.sandbox.ledger import Ledger
from providers.sandbox.script import HEADER, Script


def sandbox(simulators: Mapping[str, ASGIApp], ledger: Ledger) -> Starlette:
    """The simulated APIs under `/<name>/…`, what they billed at `/ledger`, and what else there is at `/`.

    `GET /ledger` is a JSON list of charges, oldest first; `?reference=` shows those of one request. The ledger
    stays open when the app ends: whoever opened it closes it.
    """

    async def index(request: Request) -> Response:
        listing = {
            "simulators": [f"{request.scope.get('root_path', '')}/{name}" for name in simulators],
            "ledger": f"{request.scope.get('root_path', '')}/ledger",
            "script": {"header": HEADER, "directive": "[[sandbox: knob=value]]", "schema": Script.model_json_schema()},
        }
        return Response(orjson.dumps(listing), media_type="application/json")

    async def charges(request: Request) -> Response:
        found = await ledger.charges(request.query_params.get("reference"))
        return Response(orjson.dumps(found), media_type="application/json")

    mounts = [Mount(f"/{name}", app=app) for name, app in simulators.items()]
    return Starlette(routes=[Route("/", index), Route("/ledger", charges), *mounts])
