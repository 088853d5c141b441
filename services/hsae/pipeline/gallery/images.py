"""One image file of a registered data set from wherever its source keeps it, or one line that says why not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hsae.datasets import ImageSource, ImageStream, local_path, source_at
from hsae.datasets.sources.local_files import LocalFiles
from hsae.errors import UserError

MAX_FILE_BYTES = 256 << 20
"""The largest file that `read_image` takes into memory."""


class ImageUnavailableError(UserError):
    """An image cannot be shown; the message is one line that names the image or the root. Show a placeholder."""


def read_image(root: str, path: str) -> bytes:
    """An image file as it is stored, such as a JPEG.

    Args:
        root: `dataset.root`, a folder or a URI.
        path: the image's path in the data set's listing; from the catalog, never from a request.

    Raises:
        ImageUnavailableError: the root is not mounted here, or the file is gone, cannot be read, or is huge.
        UserError: there is no source for the root's scheme, or its server is away.
    """
    with image_stream(root, path) as stream:
        content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        where = source_at(root).locate(path)
        raise ImageUnavailableError(f"image {where}: has more than {MAX_FILE_BYTES >> 20} MiB and is not shown whole")
    return content


@contextmanager
def image_stream(root: str, path: str) -> Iterator[ImageStream]:
    """The stream of `read_image` for the block, of a file of any size.

    Raises:
        ImageUnavailableError: as `read_image`, also where reading fails within the block.
        UserError: as `read_image`.
    """
    source = source_at(root)
    try:
        with source.open(path) as stream:
            yield stream
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ImageUnavailableError(_why(source, path, error)) from error


def version_of(root: str, path: str) -> str:
    """What changes when the image file is replaced: such as its size and time; empty where only reading it would tell.

    Raises:
        ImageUnavailableError: as `read_image`.
        UserError: as `read_image`.
    """
    source = source_at(root)
    try:
        return source.version(path)
    except (OSError, ValueError) as error:
        raise ImageUnavailableError(_why(source, path, error)) from error


def _why(source: ImageSource, path: str, error: OSError | ValueError) -> str:
    folder = local_path(source.root)
    is_mounted = folder is None or not isinstance(source, LocalFiles) or folder.is_dir()
    if not is_mounted and not Path(path).is_absolute():
        return f"{source.root}: the data set's folder is not on this machine; mount it at the same place as on workers"
    if isinstance(error, FileNotFoundError):
        return f"image {source.locate(path)}: the file is gone; put it back where it was when the data set was added"
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return f"image {source.locate(path)}: cannot be read ({reason})"
