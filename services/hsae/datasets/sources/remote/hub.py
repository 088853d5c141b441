"""Data sets of the Hugging Face Hub by their ids, as an image source."""

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from hsae.datasets.sources.packed.class_names import class_names_from
from hsae.datasets.sources.packed.packed_files import name_and_place, query_of, settings_in
from hsae.datasets.sources.packed.parquet import PARQUET_SUFFIX, ParquetSource
from hsae.datasets.sources.packed.table_images import TableImages
from hsae.datasets.sources.remote.hub_repository import HubRepository, Snapshot
from hsae.datasets.sources.remote.hub_splits import chosen
from hsae.errors import UserError

_LOCATION = re.compile(r"hf:(//)?(?P<name>[\w.-]+/[\w.-]+)(:(?P<split>[\w.-]+))?(\?(?P<query>.*))?", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DOWNLOADS = 4
_TEXT_BYTES = 1 << 20


class HubSource(ParquetSource):
    """The Parquet files of a repository: `hf:owner/name:train?label=breed`; an image's path is `FILE/ROW`.

    The files are downloaded into the hub's cache. The location that is stored names the commit, so that other machines
    read the same bytes. Settings: those of `TableImages`, `subset`, and `revision`.
    """

    settings_known = (*TableImages.settings_known, "subset", "revision")

    def __init__(self, location: str) -> None:
        """Make the source; nothing is asked yet.

        Raises:
            UserError: it is no id, or has a setting that there is none of.
        """
        found = _LOCATION.fullmatch(location)
        if found is None:
            raise UserError(f"{location}: is no data set of the hub; write hf:owner/name or hf:owner/name:train")
        self.split = found["split"]
        self._repository = HubRepository(found["name"])
        settings = settings_in(found["query"] or "")
        self.place = f"hf:{found['name']}"
        self.set_up(location, settings)
        self.root = self._with(settings)

    @property
    def settings_hint(self) -> str:
        """See `TableImages`."""
        return self._with({}) + "?"

    @cached_property
    def folder(self) -> Path:
        """There is none: names of files are those of the repository."""
        return Path()

    @cached_property
    def files(self) -> dict[str, Path]:
        """See `PackedFiles`; all files of the split are downloaded.

        Raises:
            UserError: there is no such repository, split or subset, no access to it, or no room for it.
        """
        names = self._names_of_split
        self._repository.check_space(self._snapshot, names)
        try:
            with ThreadPoolExecutor(max_workers=_DOWNLOADS) as pool:
                return dict(zip(names, pool.map(self._file, names), strict=True))
        except OSError as error:
            raise UserError(f"{self.place}: cannot be downloaded ({error.strerror or error})") from error

    def check(self) -> None:
        """See `ImageSource`; nothing is downloaded."""
        _ = self._names_of_split

    def file_and_place(self, path: str) -> tuple[Path, str]:
        """See `PackedFiles`; the file is downloaded unless the cache has it."""
        name, place = name_and_place(path, PARQUET_SUFFIX)
        return self._file(name), place

    def locate(self, path: str) -> str:
        """See `ImageSource`."""
        return f"{self.place}/{path}"

    def version(self, path: str) -> str:
        """See `ImageSource`: the commit, which a stored location names."""
        revision = self.settings.get("revision") or ""
        return revision if _COMMIT.fullmatch(revision) else self._snapshot.commit

    def class_names(self) -> tuple[str, ...] | None:
        """See `TableImages`. The file of names is one of the repository's."""
        return class_names_from(self.settings.get("classes"), self._text, lambda name: f"{self.place}/{name}")

    @cached_property
    def _snapshot(self) -> Snapshot:
        """The commit; from now on the location names it."""
        snapshot = self._repository.snapshot(self.settings.get("revision"))
        self.root = self._with({**self.settings, "revision": snapshot.commit})
        return snapshot

    @cached_property
    def _names_of_split(self) -> list[str]:
        names = self._snapshot.parquet()
        if not names:
            raise UserError(
                f"{self.place}: has no {PARQUET_SUFFIX} files; download it (hf download --repo-type dataset"
                f" {self._repository.name} --local-dir FOLDER) and give the folder, CSV or tars in it"
            )
        return chosen(names, subset=self.settings.get("subset"), split=self.split, place=self.place)

    def _file(self, name: str) -> Path:
        # A worker's location names the commit: it need not ask which files there are.
        return self._repository.file(name, self.settings.get("revision") or self._snapshot.commit)

    def _text(self, name: str) -> bytes | None:
        if name not in self._snapshot.files:
            return None
        path = self._repository.file(name, self._snapshot.commit)
        if path.stat().st_size > _TEXT_BYTES:
            raise UserError(f"{self.place}/{name}: is too large for a list of class names")
        return path.read_bytes()

    def _with(self, settings: Mapping[str, str]) -> str:
        return self.place + (f":{self.split}" if self.split else "") + query_of(settings)
