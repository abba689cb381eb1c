"""What every resolver of the schema can reach: `info.context`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import strawberry
from strawberry.dataloader import DataLoader

from tasks.darkroom import Darkroom
from tasks.records import ImageKind, ImageRecord


@dataclass
class Context:
    """One per HTTP request, and one per websocket for all its operations; so nothing in it is ever cached."""

    darkroom: Darkroom
    base_url: str
    """Where the client reached this server, for absolute picture URLs; without a final slash."""
    connection_params: dict[str, object] | None = None
    """The payload of `connection_init`; Strawberry sets it."""
    images: DataLoader[tuple[str, ImageKind], list[ImageRecord]] = field(init=False)
    """The pictures of a task, gathered over all the tasks of a page."""

    def __post_init__(self) -> None:
        self.images = DataLoader(load_fn=self._load_images, cache=False)

    async def _load_images(self, keys: Sequence[tuple[str, ImageKind]]) -> list[list[ImageRecord]]:
        found = {
            kind: await self.darkroom.history.images_of({task_id for task_id, other in keys if other is kind}, kind)
            for kind in {kind for _, kind in keys}
        }
        return [found[kind][task_id] for task_id, kind in keys]


Info: TypeAlias = strawberry.Info[Context, None]
