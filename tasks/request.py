"""The request of a task, as the provider's own model again."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from providers.contract import ProviderDefinition
from providers.errors import InvalidRequestError, Transport
from tasks.records import TaskRecord


def request_of(task: TaskRecord, definition: ProviderDefinition[BaseModel]) -> BaseModel:
    """What was asked for. Raises `InvalidRequestError` for one that an older version stored, with other rules."""
    try:
        return definition.request.model_validate(task.request)
    except ValidationError as exc:
        transport = Transport(task.transport or Transport.NOT_SENT)
        raise InvalidRequestError(
            f"The stored request no longer fits this version's rules for {definition.title}: {exc}",
            transport=transport,
            billed=False if transport is Transport.NOT_SENT else None,
        ) from exc
