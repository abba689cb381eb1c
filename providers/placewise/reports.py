"""What a report about a task says: a polled answer, or what was sent to a callback URL.

The shape comes from the settings (`channel.ReportShape`); nothing about it is documented (contract placewise §5).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pydantic import JsonValue
from pydantic_core import from_json

from providers.errors import BadResponseError, Transport, TruncatedError
from providers.links import LinkFetcher
from providers.pictures import CutPictureError, NotAPictureError, decode_picture, is_cut
from providers.placewise.channel import ReportShape
from providers.placewise.errors import FailedError, Speaker

_LARGE = 256 * 1024
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"GIF8")


class UnreadableReportError(ValueError):
    """A report that is neither JSON nor a picture; the text says what it is."""


class NoPictureYetError(Exception):
    """A report says that the task is finished, and has no picture."""


@dataclass(frozen=True, slots=True)
class Report:
    """One report. `picture` is the file, or the link, data URI or base64 where it is."""

    status: str | None = None
    picture: bytes | str | None = None
    finished: bool = False
    failed: bool = False
    reason: str | None = None


async def read_report(media_type: str, body: bytes, shape: ReportShape) -> Report:
    """What `body` says. Raises UnreadableReportError."""
    if media_type.partition(";")[0].strip().lower().startswith("image/") or body.startswith(_MAGIC):
        return Report(picture=body, finished=True)
    try:
        document: JsonValue = await asyncio.to_thread(from_json, body) if len(body) > _LARGE else from_json(body)
    except ValueError as exc:
        kind = media_type or "of an unknown type"
        raise UnreadableReportError(f"is {kind} and no JSON (it starts with {body[:40]!r})") from exc
    status = shape.status_in(document)
    picture = shape.image_in(document)
    done = picture is not None if shape.status is None else status in shape.done
    return Report(
        status=status,
        picture=picture if done else None,
        finished=done,
        failed=status is not None and status in shape.failed,
        reason=shape.reason_in(document),
    )


@dataclass(frozen=True, slots=True)
class PictureSource:
    """Turns a finished report into the picture's file."""

    links: LinkFetcher
    speaker: Speaker

    async def picture_of(self, report: Report) -> bytes:
        """The file, byte for byte. Raises NoPictureYetError for a report without one, and a ProviderError for a failed
        task and for a picture that cannot be had.
        """
        if report.failed:
            said = report.reason or f"its state is {report.status}"
            raise FailedError(
                f"{self.speaker.host} could not make the picture: {self.speaker.clean(said)}.",
                transport=Transport.ACCEPTED,
                vendor_code=report.status,
                vendor_message=None if report.reason is None else self.speaker.clean(report.reason),
            )
        if report.picture is None:
            raise NoPictureYetError
        data = await self._file(report.picture)
        if is_cut(data):
            raise self._cut()
        return data

    async def _file(self, picture: bytes | str) -> bytes:
        if isinstance(picture, bytes):
            return picture
        if picture.lower().startswith(("http://", "https://")):
            return await self.links.fetch(picture)
        try:
            return await asyncio.to_thread(decode_picture, picture)
        except CutPictureError as exc:
            raise self._cut() from exc
        except NotAPictureError as exc:
            raise BadResponseError(
                f"Where {self.speaker.host} should have put the picture there is neither a link nor base64 (it starts "
                f"with {self.speaker.clean(picture[:40])!r}).",
                transport=Transport.ACCEPTED,
            ) from exc

    def _cut(self) -> TruncatedError:
        return TruncatedError(
            f"The picture file from {self.speaker.host} ends before its end. It was billed all the same.",
            transport=Transport.ACCEPTED,
            billed=True,
        )
