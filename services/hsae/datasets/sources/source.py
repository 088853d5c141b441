"""The interface of an image source: a place that lists labelled images and gives their bytes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader, BytesIO
from typing import ClassVar

from hsae.datasets.sources.left_out import LeftOut
from hsae.errors import UserError

ImageStream = BytesIO | BufferedReader


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image of a source.

    Attributes:
        path: its name in the data set's listing and the argument of `ImageSource.read`. UTF-8, without NUL, the same on
            every machine, and unique.
        labels: what it shows, at least one.
        group: what it shares with images that it must not be split from (style, subject, camera); None: nothing.
        digest: sha256 (hex) and size of its file, where the source had to receive that anyway; None: it is read.
    """

    path: str
    labels: tuple[str, ...]
    group: str | None = None
    digest: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Stamp:
    """What is known of an image's file without reading it.

    Attributes:
        version: what changes when the image is replaced; empty where only reading it would tell.
        n_bytes: its size; None where only reading it would tell.
    """

    version: str
    n_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """The images of a source.

    Attributes:
        images: in any order.
        left_out: what was found there and not taken.
    """

    images: Sequence[SourceImage]
    left_out: LeftOut = field(default_factory=LeftOut)


class ImageSource(ABC):
    """Labelled images in some place. A new kind of source defines `list` and `read`; the other methods have defaults.

    A worker makes its source anew from `root`, so `read` must not depend on what `list` found. Threads share a source.
    Every method raises `ServiceError` if a server cannot be reached.
    """

    remedy: ClassVar[str] = "correct the label"
    """What a user can do about a label that names no synset."""

    def __init__(self, uri: str, root: str | None = None) -> None:
        """Make the source; read nothing, because it may not be known yet whether the place exists.

        Args:
            uri: what the user gave, for messages.
            root: what the catalog keeps as `dataset.root` (default: the URI). A source made from it reads the same
                paths.
        """
        self.uri = uri
        self.root = uri if root is None else root

    @abstractmethod
    def list(self) -> Contents:
        """Every image with its labels; called once or twice.

        Raises:
            UserError: the images cannot be listed, or would make the data set wrong.
        """

    @abstractmethod
    def read(self, path: str) -> bytes:
        """The image file as it is stored, such as a JPEG.

        Args:
            path: `SourceImage.path`.

        Raises:
            OSError: the image is missing or cannot be read; the text says why.
        """

    def open(self, path: str) -> ImageStream:
        """The file of `read` as a stream that can seek. A source of files need not hold a whole file in memory."""
        return BytesIO(self.read(path))

    def check(self) -> None:  # noqa: B027  (a source may have nothing to look at)
        """Check quickly, before anything that takes time, that the place exists.

        Raises:
            UserError: it does not.
        """

    def labels(self) -> Mapping[str, str]:
        """Where each label stands, for messages, by label. Called first, since labels are checked before images.

        Raises:
            UserError: as `list`.
        """
        labels = sorted({label for image in self.list().images for label in image.labels})
        return {label: f"label {label!r} of {self.uri}" for label in labels}

    def hint(self, unknown: Sequence[str]) -> str:
        """What else may be wrong when the labels `unknown` name no synset; empty by default."""
        return ""

    def locate(self, path: str) -> str:
        """The place of an image, for messages."""
        return f"{self.root}/{path}"

    def version(self, path: str) -> str:
        """What changes when the image is replaced; empty where only reading it would tell.

        Raises:
            OSError: the image is missing.
        """
        return ""

    def stamp(self, path: str) -> Stamp:
        """The image's version, and its size where that is known as cheaply.

        Raises:
            OSError: the image is missing.
        """
        return Stamp(self.version(path))


@contextmanager
def readable(source: ImageSource, path: str) -> Iterator[None]:
    """An `OSError` of the block, which looks at an image, as a user's error.

    Raises:
        UserError: the image is missing or cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"image {source.locate(path)}: cannot be read ({error.strerror or error})") from error


@contextmanager
def opened(source: ImageSource, path: str) -> Iterator[ImageStream]:
    """An image's stream for the block.

    Raises:
        UserError: the image is missing or cannot be read.
    """
    with readable(source, path), source.open(path) as file:
        yield file
