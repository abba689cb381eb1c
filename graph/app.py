"""The ASGI application: everything this server answers, wired together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from graph.callbacks import CallbackRoute
from graph.http import STATIC, GraphQLView
from graph.images import Images
from graph.refusal import refusal
from graph.schema import schema
from graph.settings import ServerSettings
from graph.stopping import AnswersWhenStopping
from providers.contract import ProviderDefinition
from providers.registry import PROVIDERS
from providers.sandbox.app import sandbox
from providers.sandbox.ledger import Ledger
from tasks.darkroom import Darkroom
from tasks.errors import DatabaseUnavailableError, StorageError
from tasks.settings import TaskSettings

log = logging.getLogger(__name__)


def create_app(
    server: ServerSettings,
    tasks: TaskSettings,
    *,
    base_url: str,
    definitions: Sequence[ProviderDefinition[BaseModel]] = PROVIDERS,
    works: bool = True,
) -> Starlette:
    """The application. `base_url` is where it will be reached from this machine, for its own simulators; where it does
    not work, tasks are left to other nodes."""
    darkroom = Darkroom(
        tasks,
        definitions,
        sandbox_url=server.sandbox_url or f"{base_url}/sandbox",
        public_url=server.public_url,
        base_url=base_url,
        works=works,
    )
    view = GraphQLView(schema, darkroom, server)
    routes: list[BaseRoute] = [
        Route("/", lambda _: RedirectResponse("/graphql")),
        Route("/graphql", view, methods=["GET", "POST"]),
        WebSocketRoute("/graphql", view),
        Route("/images/{id}", Images(darkroom).get, methods=["GET"]),
        Route("/callbacks/{token}", CallbackRoute(darkroom).post, methods=["POST"]),
        Route("/healthz", health, methods=["GET"]),
        Mount("/static", GZipMiddleware(Assets(directory=STATIC, check_dir=False))),
    ]
    ledger = None
    if server.sandbox_url is None and any(provider.sandbox for provider in darkroom.providers.values()):
        ledger = Ledger(tasks.home / "sandbox" / "ledger.db")
        routes.append(Mount("/sandbox", sandbox({one.name: one.simulator(ledger) for one in definitions}, ledger)))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await darkroom.open()
        try:
            yield
        finally:
            await darkroom.close()
            if ledger is not None:
                ledger.close()

    middleware = [Middleware(AnswersWhenStopping)]
    if server.allowed_origins:
        middleware.insert(
            0,
            Middleware(CORSMiddleware, allow_origins=server.allowed_origins, allow_methods=["*"], allow_headers=["*"]),
        )
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=middleware,
        exception_handlers={DatabaseUnavailableError: unavailable, StorageError: unavailable},
    )
    app.state.darkroom, app.state.live = darkroom, view.live
    return app


class Assets(StaticFiles):
    """The built pages. What Vite named after its content never changes."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """With the caching that the name allows."""
        response = super().file_response(*args, **kwargs)
        hashed = "/assets/" in str(args[0])
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
        response.headers["x-content-type-options"] = "nosniff"
        return response


async def unavailable(_: Request, error: Exception) -> Response:
    """The database or the picture store is away: whoever asked may come again, as providers do with their reports."""
    log.warning("%s", error)
    response = refusal(503, "This server cannot reach what it keeps just now; try again in a moment.")
    response.headers["retry-after"] = "1"
    return response


async def health(_: Request) -> Response:
    """Alive. Asks no provider anything, and never generates."""
    return Response('{"status":"ok"}', media_type="application/json")
