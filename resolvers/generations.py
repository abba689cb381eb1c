"""`startGeneration`: validated parameters in, a stored and queued task out."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, JsonValue

from tasks.darkroom import Darkroom
from tasks.records import TaskRecord
from tasks.start import NewTask


async def start_generation(
    darkroom: Darkroom,
    *,
    provider: str,
    request: BaseModel,
    idempotency_key: str | None,
    name: str | None,
    tags: Sequence[str],
    metadata: JsonValue,
) -> TaskRecord:
    """Start a generation, or answer with the one that the idempotency key belongs to.

    Raises `tasks.errors.IdempotencyConflictError` when the key belongs to another request.
    """
    return await darkroom.start(
        NewTask(
            provider=provider,
            request=request,
            sandbox=darkroom.providers[provider].sandbox,
            idempotency_key=idempotency_key,
            name=name,
            tags=tags,
            metadata=metadata,
        )
    )
