"""An image that a reader uploads: taken from its form within bounds, and the pages that refuse it."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from hsae.explorer.parameters import BadAddressError
from hsae.explorer.reading.encoder import MAX_UPLOAD_BYTES, UnreadableImageError
from hsae.explorer.reading.wanted import ModelAbsentError
from hsae.explorer.shown.rendering import message_page


@dataclass(frozen=True, slots=True)
class Upload:
    """What a form brought.

    Attributes:
        content: the image file.
        fields: the other fields of the form.
    """

    content: bytes
    fields: Mapping[str, str]


async def read_upload(request: Request, *, max_fields: int) -> Upload | Response:
    """The uploaded image, or the page that says that it is too large.

    Raises:
        BadAddressError: the form has no image.
    """
    async with request.form(max_files=1, max_fields=max_fields) as form:
        upload = form.get("image")
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        content = await upload.read(MAX_UPLOAD_BYTES + 1) if isinstance(upload, UploadFile) else b""
    if not content:
        raise BadAddressError("No image was sent: choose a file.")
    if len(content) > MAX_UPLOAD_BYTES:
        return message_page(
            request, "The image is too large", f"At most {MAX_UPLOAD_BYTES >> 20} MiB are taken.", status=413
        )
    return Upload(content, fields)


def refused(request: Request, error: UnreadableImageError | ModelAbsentError) -> Response:
    """Why nothing can be said of the image."""
    if isinstance(error, UnreadableImageError):
        return message_page(request, "This is no image that can be used", f"{error}.", status=422)
    return message_page(
        request, "The model is not on this machine", str(error),
        "Its files must be where the job found them when it was submitted, or in the hub's cache.", status=503,
    )  # fmt: skip
