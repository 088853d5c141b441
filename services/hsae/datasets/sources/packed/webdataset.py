"""Tars of this machine, in the way of WebDataset, as an image source."""

from collections.abc import Mapping

from hsae.datasets.sources.packed.class_names import class_names_of
from hsae.datasets.sources.packed.packed_files import PackedFiles
from hsae.datasets.sources.packed.stored_file import LocalFile, StoredFile
from hsae.datasets.sources.packed.tar_images import TarImages
from hsae.datasets.sources.registry import register_source

TAR_SUFFIX = ".tar"


@register_source("tar")
class WebDatasetSource(TarImages, PackedFiles):
    """Tars: `tar:///data/train-{000..146}.tar`, or a path that ends in .tar; see `TarImages`."""

    suffix = TAR_SUFFIX

    def tars(self) -> Mapping[str, StoredFile]:
        """See `TarImages`."""
        return {name: LocalFile(path) for name, path in self.files.items()}

    def tar_and_member(self, path: str) -> tuple[StoredFile, str]:
        """See `TarImages`."""
        file, member = self.file_and_place(path)
        return LocalFile(file), member

    def class_names(self) -> tuple[str, ...] | None:
        """See `TarImages`."""
        return class_names_of(self.settings.get("classes"), self.folder)
