"""A file that appears whole or not at all, however many processes write it."""

import tempfile
from pathlib import Path

_PARTIAL = ".partial-"  # begins the names of files that are being written


def write_whole(file: Path, content: bytes) -> None:
    """Write a file aside, in its folder, and give it its name.

    Raises:
        OSError: the folder cannot be written, or there is no room.
    """
    with tempfile.NamedTemporaryFile(prefix=_PARTIAL, dir=file.parent, delete=False) as stream:
        aside = Path(stream.name)
        try:
            stream.write(content)
            stream.flush()
            aside.replace(file)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
