"""`Image`: a stored picture."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import strawberry

import resolvers.images
from graph.context import Info
from graph.enums import ImageKind
from graph.ids import encode
from graph.scalars import BigInt
from graph.types.node import Node
from tasks.imaging import THUMBNAIL_WIDTHS
from tasks.records import ImageRecord


@strawberry.type(description="A picture that is stored on this server. The bytes never change.")
class Image(Node):
    """A row of `image`, with the bytes behind a URL."""

    record: strawberry.Private[ImageRecord]
    kind: ImageKind = strawberry.field(description="Whether it is the finished picture, or an earlier stage of it.")
    index: int = strawberry.field(description="Which picture of its task it is, from 0.")
    partial_image_index: int | None = strawberry.field(
        description="Which stage of the picture it is, from 0; null for the finished one."
    )
    width: int = strawberry.field(description="Pixels from left to right.")
    height: int = strawberry.field(description="Pixels from top to bottom.")
    media_type: str = strawberry.field(description="The file's type, read from its bytes, like `image/png`.")
    byte_size: BigInt = strawberry.field(description="The size of the file in bytes.")
    sha256: str = strawberry.field(description="The SHA-256 of the file in hexadecimal; also its HTTP ETag.")
    late: bool = strawberry.field(
        description="Whether it arrived after its task had been canceled or given up, and was kept because it was paid "
        "for."
    )
    created_at: datetime = strawberry.field(description="When it was stored.")

    @strawberry.field(
        description="Where to GET the file. Without `width` that is the original, byte for byte; with it, a WebP "
        f"thumbnail of the next of these widths: {', '.join(map(str, THUMBNAIL_WIDTHS))}. It may be cached for ever."
    )
    def url(
        self,
        info: Info,
        width: Annotated[
            int | None, strawberry.argument(description="The width in pixels that the picture is shown at.")
        ] = None,
    ) -> str:
        """The absolute address of the file."""
        return info.context.rights.base_url + resolvers.images.path(self.record, width)

    @strawberry.field(
        description="A very small version as a `data:` URI of a few hundred bytes, to show, blurred, until the file "
        "has loaded. Null when the file cannot be decoded."
    )
    async def placeholder(self, info: Info) -> str | None:
        """The tiny stand-in."""
        return await resolvers.images.placeholder(info.context.darkroom, self.record)

    @strawberry.field(
        description="The whole file as a `data:` URI, for tools that cannot fetch `url`. Null when the file is larger "
        f"than `maxBytes` (at most {resolvers.images.DATA_URI_LIMIT:,}), or when you have had "
        f"{resolvers.images.DATA_URI_BUDGET:,} bytes in this second already."
    )
    async def data_uri(
        self,
        info: Info,
        max_bytes: Annotated[
            int, strawberry.argument(description="The largest file that is wanted inline.")
        ] = 1_000_000,
    ) -> str | None:
        """The file, inline."""
        return await resolvers.images.data_uri(info.context.darkroom, self.record, max_bytes, info.context.data_uris)


def image_of(record: ImageRecord) -> Image:
    """The schema's view of a stored picture."""
    return Image(
        id=strawberry.ID(encode("Image", record.id)),
        record=record,
        kind=record.kind,
        index=record.index,
        partial_image_index=record.partial_image_index if record.partial_image_index >= 0 else None,
        width=record.width,
        height=record.height,
        media_type=record.media_type,
        byte_size=BigInt(record.byte_size),
        sha256=record.sha256,
        late=record.late,
        created_at=record.created_at,
    )
