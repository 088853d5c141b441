"""Why an image cannot be used: one exception with one line, for every error inside Pillow."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from hsae.errors import HsaeError, UserError


class UnreadableImageError(HsaeError):
    """This file cannot be used as an image; `reason` is one line, the same at every attempt."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoMemoryForImageError(UnreadableImageError):
    """Decoding failed for lack of memory: it may work when less memory is in use, or the file is damaged."""

    def __init__(self) -> None:
        super().__init__("not enough memory to decode it, or a damaged image")


@contextmanager
def one_reason(name: str, max_pixels: int, formats: tuple[str, ...]) -> Iterator[None]:
    """Turn every error of the block into an `UnreadableImageError`, or into a `UserError` if it comes from the disk."""
    try:
        yield
    except HsaeError:
        raise
    except MemoryError as error:
        raise NoMemoryForImageError from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(f"more than the limit of {max_pixels} pixels") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"not a readable {', '.join(formats)} image") from error
    # Pillow's decoders name no set of exceptions for damaged data, and anything from struct.error to
    # AttributeError does occur; the cause stays attached.
    except Exception as error:
        # EINVAL: damaged offsets make Pillow seek below zero.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise UserError(f"image {name}: cannot be read ({error.strerror or error})") from error
        reason = " ".join(f"damaged image: {error or type(error).__name__}".split())
        raise UnreadableImageError(reason) from error
