"""A vendor made of bare sockets, for tests that decide what each look at a generation finds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pydantic import JsonValue

from providers.contract import Submission
from tests.providers.all_images.account import REFERENCE, Outcome, account, path_of, run, wire
from tests.providers.upstream import Heard, Upstream, http, json_body, upstream

CREATE, LIST, READ = ("POST", "/image-generations"), ("GET", "/image-generations"), ("GET", "/image-generations/g")
RETRY, PUT = ("POST", "/image-generations/retry/g"), ("PUT", "/image-generations/g")
NOT_FOUND = json_body({"statusCode": 404, "message": "Not found", "error": "Not Found"}, status="404 Not Found")


def generation(status: JsonValue, images: int | list[JsonValue] = 0, **more: JsonValue) -> dict[str, JsonValue]:
    listed: list[JsonValue] = [{"id": f"i{n}"} for n in range(images)] if isinstance(images, int) else images
    return {"id": "g", "status": status, "images": listed, "metaData": {"darkroom_reference": REFERENCE}, **more}


class Vendor:
    """Answers each look with the next of `looks`, the last for ever; pictures are their own path."""

    def __init__(self, *looks: dict[str, JsonValue] | bytes, **routes: bytes) -> None:
        self.looks = [look if isinstance(look, bytes) else json_body(look) for look in looks]
        self.create = routes.get("create", json_body(generation(0)))
        self.list = routes.get("list", json_body({"filteredResults": 0, "prints": []}))
        self.routes = {RETRY: routes.get("retry", b""), PUT: routes.get("put", json_body(generation(4)))}
        self.pictures: dict[str, list[bytes]] = {}

    async def __call__(self, heard: Heard, writer: asyncio.StreamWriter) -> None:
        method, path = path_of(heard.line)
        if (method, path) == CREATE:
            writer.write(self.create)
        elif (method, path) == LIST:
            writer.write(self.list)
        elif (method, path) == READ:
            writer.write(self.looks.pop(0) if len(self.looks) > 1 else self.looks[0])
        elif path == "/images/download":
            image_id = str(wire(heard.body)["id"])
            writer.write(self._next(path, http(f"full {image_id}".encode(), media_type="image/jpeg")))
        elif path.startswith("/images/"):
            writer.write(self._next(path, http(path.encode(), media_type="image/jpeg")))
        else:
            writer.write(self.routes.get((method, path), NOT_FOUND))

    def _next(self, path: str, usual: bytes) -> bytes:
        return self.pictures[path].pop(0) if self.pictures.get(path) else usual


async def made(
    vendor: Vendor, resume: Submission | None = None, known: Mapping[str, int] | None = None, **settings: object
) -> tuple[Outcome, Upstream]:
    async with upstream(vendor) as server:
        return await run(account(server.url, **settings), resume=resume, known=known), server


def paths(server: Upstream) -> list[tuple[str, str]]:
    return [path_of(heard.line) for heard in server.heard]
