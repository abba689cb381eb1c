"""What every resolver of the schema can reach: `info.context`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import strawberry
from strawberry.dataloader import DataLoader

from resolvers.images import DataUriBudget
from tasks.darkroom import Darkroom
from tasks.records import DEFAULT_PROJECT, ImageRecord


@dataclass(frozen=True, slots=True)
class Rights:
    """Everything about a caller that may change an answer. Two callers with equal rights may share one."""

    base_url: str
    """Where the client reached this server, for absolute picture URLs; without a final slash."""
    project: str = DEFAULT_PROJECT


@dataclass
class Context:
    """One per HTTP request, one per websocket for all its operations, and one for callers who share a subscription;
    so nothing in it is ever cached."""

    darkroom: Darkroom
    rights: Rights
    data_uris: DataUriBudget = field(default_factory=DataUriBudget)
    images: DataLoader[str, list[ImageRecord]] = field(init=False)
    """The pictures of a task, gathered over all the tasks of a page."""

    def __post_init__(self) -> None:
        self.images = DataLoader(load_fn=self._load_images, cache=False)

    async def _load_images(self, task_ids: Sequence[str]) -> list[list[ImageRecord]]:
        found = await self.darkroom.history.images_of(task_ids)
        return [found[task_id] for task_id in task_ids]


Info: TypeAlias = strawberry.Info[Context, None]
