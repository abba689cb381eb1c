"""A stand-in for Darkroom's server, as far as the GraphiQL page can tell: its ready operations, pictures, and headers.

It keeps nothing and knows one task. The page's tests ask only for what the real server does too.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated

import strawberry
from PIL import Image as Raster
from PIL import ImageDraw, ImageFilter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:;"
    " connect-src 'self' ws: wss:; worker-src 'self' blob:"
)
TASK_ID = "VGFzazox"
PROMPT = "A lighthouse at dusk"


@strawberry.enum
class TaskStatus(Enum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"


@strawberry.type
class Image:
    stage: strawberry.Private[int]
    width: int = 1024
    height: int = 1024

    @strawberry.field
    def url(self, width: int | None = None) -> str:
        return f"/images/{self.stage}.png" + ("" if width is None else f"?width={width}")


@strawberry.type
class Task:
    id: strawberry.ID = strawberry.ID(TASK_ID)
    number: int = 1
    status: TaskStatus = TaskStatus.QUEUED
    prompt: str = PROMPT
    images: list[Image] = strawberry.field(default_factory=list)


@strawberry.interface
class Error:
    code: str
    message: str


@strawberry.type
class Problem:
    path: str
    message: str
    allowed: list[str] | None = None


@strawberry.type
class ValidationError(Error):
    problems: list[Problem] = strawberry.field(default_factory=list)


@strawberry.type
class StartGenerationSuccess:
    task: Task


@strawberry.interface
class TaskEvent:
    sequence: int
    at: datetime = strawberry.field(default_factory=lambda: datetime.now(UTC))


@strawberry.type
class TaskStatusChanged(TaskEvent):
    status: TaskStatus = TaskStatus.RUNNING


@strawberry.type
class Progress:
    fraction: float
    origin: str = "ESTIMATED"


@strawberry.type
class TaskProgressed(TaskEvent):
    progress: Progress = strawberry.field(default_factory=lambda: Progress(fraction=0.0))


@strawberry.type
class PartialImageReady(TaskEvent):
    image: Image = strawberry.field(default_factory=lambda: Image(stage=1))
    index: int = 0
    partial_image_index: int = 0


@strawberry.type
class ImageReady(TaskEvent):
    image: Image = strawberry.field(default_factory=lambda: Image(stage=4))
    index: int = 0


@strawberry.type
class TaskSucceeded(TaskEvent):
    pass


@strawberry.type
class Failure:
    code: str
    message: str


@strawberry.type
class TaskFailed(TaskEvent):
    failure: Failure = strawberry.field(default_factory=lambda: Failure(code="REFUSED", message="No."))


@strawberry.type
class Capabilities:
    max_images: int = 10
    max_partial_images: int = 3


@strawberry.type
class Parameter:
    name: str
    type: str
    required: bool
    description: str


@strawberry.type
class Provider:
    name: str = "openai_images"
    title: str = "OpenAI-style images"
    sandbox: bool = True
    capabilities: Capabilities = strawberry.field(default_factory=Capabilities)
    parameters: list[Parameter] = strawberry.field(
        default_factory=lambda: [Parameter(name="prompt", type="String", required=True, description="What to draw.")]
    )


@strawberry.type
class PageInfo:
    has_next_page: bool = False
    end_cursor: str | None = None


@strawberry.type
class TaskEdge:
    node: Task


@strawberry.type
class TaskConnection:
    edges: list[TaskEdge]
    page_info: PageInfo = strawberry.field(default_factory=PageInfo)


@strawberry.input
class OpenAIImagesInput:
    model: str
    prompt: str
    size: str | None = None
    partial_images: int | None = None
    quality: str | None = None


@strawberry.input
class GenerationRequest:
    openai_images: OpenAIImagesInput


@strawberry.input
class StartGenerationInput:
    request: GenerationRequest


@strawberry.type
class Query:
    @strawberry.field
    def tasks(self, first: int = 20) -> TaskConnection:
        done = Task(status=TaskStatus.SUCCEEDED, images=[Image(stage=4)])
        return TaskConnection(edges=[TaskEdge(node=done)][:first])

    @strawberry.field
    def providers(self) -> list[Provider]:
        return [Provider()]


@strawberry.type
class Mutation:
    @strawberry.mutation
    def start_generation(
        self, input: StartGenerationInput
    ) -> Annotated[StartGenerationSuccess | ValidationError, strawberry.union("StartGenerationResult")]:
        request = input.request.openai_images
        if not request.prompt:
            problem = Problem(path="request.openaiImages.prompt", message="must not be empty")
            return ValidationError(code="VALIDATION", message="1 problem", problems=[problem])
        return StartGenerationSuccess(task=Task())


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def task_events(self, id: strawberry.ID) -> AsyncGenerator[TaskEvent]:
        if id != TASK_ID:
            raise LookupError(f"no task has the id {id!r}")
        yield TaskStatusChanged(sequence=1)
        for partial in range(3):
            await asyncio.sleep(PAUSE)
            yield TaskProgressed(sequence=2 + 2 * partial, progress=Progress(fraction=(partial + 1) / 4))
            image = Image(stage=partial + 1)
            yield PartialImageReady(sequence=3 + 2 * partial, partial_image_index=partial, image=image)
        await asyncio.sleep(PAUSE)
        yield ImageReady(sequence=8)
        yield TaskSucceeded(sequence=9)


PAUSE = 0.02
"""Seconds between two stages of the picture."""


class Api(GraphQL[None, None]):
    async def render_graphql_ide(self, request: Request) -> Response:
        return FileResponse(STATIC / "graphiql.html")


STATIC = Path(__file__).parents[2] / "graph" / "static"


async def picture(request: Request) -> Response:
    width = int(request.query_params.get("width", "1024"))
    drawn = await asyncio.to_thread(_draw, request.path_params["stage"], width)
    return Response(drawn, media_type="image/png")


def _draw(stage: int, width: int) -> bytes:
    raster = Raster.linear_gradient("L").resize((512, 512)).convert("RGB")
    pencil = ImageDraw.Draw(raster)
    pencil.rectangle((0, 360, 512, 512), fill=(20, 60, 90))
    pencil.polygon([(220, 380), (292, 380), (276, 140), (236, 140)], fill=(230, 225, 215))
    pencil.ellipse((226, 96, 286, 156), fill=(255, 210, 120))
    raster = raster.filter(ImageFilter.GaussianBlur((4 - stage) * 14)).resize((width, width))
    file = io.BytesIO()
    raster.save(file, "PNG")
    return file.getvalue()


class _WithPolicy:
    """Adds the policy header to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, send_with_policy)


def app() -> ASGIApp:
    schema = strawberry.Schema(
        Query,
        Mutation,
        Subscription,
        types=[TaskStatusChanged, TaskProgressed, PartialImageReady, ImageReady, TaskSucceeded, TaskFailed],
    )
    api = Api(schema, subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL])
    return _WithPolicy(
        Starlette(
            routes=[
                Route("/graphql", api),
                WebSocketRoute("/graphql", api),
                Route("/images/{stage:int}.png", picture),
                Mount("/static", StaticFiles(directory=STATIC)),
            ]
        )
    )
