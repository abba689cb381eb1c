"""`Node`: anything with a global id."""

from __future__ import annotations

import strawberry


@strawberry.interface(description="Anything that can be found again by its id.")
class Node:
    """The Relay interface."""

    id: strawberry.ID = strawberry.field(description="Identifies it among everything this server knows; opaque.")
