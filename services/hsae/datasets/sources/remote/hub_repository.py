"""A data set's repository on the Hugging Face Hub: its files, from the hub's cache where they are there."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants, errors

from hsae.errors import ServiceError, UserError
from hsae.hub import TRANSPORT_ERROR, is_cached
from hsae.settings import load_settings

_SECONDS = 10
_INCOMPLETE: Any = getattr(errors, "IncompleteSnapshotError", ())
_CONVERTED = "refs/convert/parquet"
"""The branch on which the hub keeps its own copy of most data sets as Parquet."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of one commit: sizes in bytes by name, None where the hub was not asked."""

    commit: str
    files: Mapping[str, int | None]

    def parquet(self) -> list[str]:
        """The names of the Parquet files."""
        return [name for name in self.files if name.endswith(".parquet")]


class HubRepository:
    """A repository. The hub's library knows where its cache is, whether to stay offline, and who is logged in."""

    def __init__(self, name: str) -> None:
        """Asks for nothing yet. `name`: `owner/name`."""
        self.name = name

    @cached_property
    def _cache(self) -> Path | None:
        """The cache's folder; None: the one of the hub's library."""
        return load_settings().model_cache

    def snapshot(self, revision: str | None) -> Snapshot:
        """The files of a revision; without one those of the main branch, or where it has no Parquet the hub's copy.

        Raises:
            UserError: there is no such repository or revision, or no access to it.
            ServiceError: the hub cannot be reached, and its cache has nothing.
        """
        found = self._listed(revision)
        if found.parquet() or revision is not None:
            return found
        try:
            return self._listed(_CONVERTED)
        except ServiceError:
            raise
        except UserError:
            return found

    def _listed(self, revision: str | None) -> Snapshot:
        with self._explained(revision):
            try:
                # One question without a second try: the library's listings ask for half a minute.
                info = huggingface_hub.HfApi().dataset_info(
                    self.name, revision=revision, files_metadata=True, timeout=_SECONDS
                )
            except (errors.OfflineModeIsEnabled, OSError, TRANSPORT_ERROR) as error:
                if isinstance(error, errors.HfHubHTTPError):
                    raise
                return self._cached(revision)
            except errors.HFValidationError:
                raise
            except (ValueError, KeyError, TypeError) as error:
                raise self._odd_answer() from error
        files = {file.rfilename: file.size for file in info.siblings or ()}
        if not info.sha or not all(isinstance(name, str) for name in files):
            raise self._odd_answer()
        return Snapshot(info.sha, files)

    def _odd_answer(self) -> ServiceError:
        """Of a page to sign in to a network, say, or a mirror that is none."""
        return ServiceError(
            f"hf:{self.name}: {constants.ENDPOINT} does not answer like the hub; check the network, and HF_ENDPOINT"
        )

    def _cached(self, revision: str | None) -> Snapshot:
        options: dict[str, Any] = {"revision": revision, "cache_dir": self._cache}
        try:
            found = huggingface_hub.snapshot_download(self.name, repo_type="dataset", local_files_only=True, **options)
        except _INCOMPLETE as error:  # other files than those of the split are none of ours
            found = error.snapshot_path
        folder = Path(found)
        names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        return Snapshot(folder.name, dict.fromkeys(names))

    def file(self, name: str, commit: str) -> Path:
        """A file of a commit; it is downloaded unless the cache has it.

        Raises:
            FileNotFoundError: the commit has no such file.
            UserError: as `snapshot`.
        """
        with self._explained(commit):
            return Path(
                huggingface_hub.hf_hub_download(
                    self.name, name, repo_type="dataset", revision=commit, cache_dir=self._cache, etag_timeout=_SECONDS
                )
            )

    def check_space(self, snapshot: Snapshot, names: Sequence[str]) -> None:
        """Whether the disk of the cache has room for files that are not there yet.

        Raises:
            UserError: it has not.
        """
        cache = self._cache or Path(constants.HF_HUB_CACHE)
        lacking = [name for name in names if not self._is_cached(name, snapshot.commit)]
        needed = sum(snapshot.files[name] or 0 for name in lacking)
        there = next((folder for folder in (cache, *cache.parents) if folder.is_dir()), None)
        free = shutil.disk_usage(there).free if there is not None else needed
        if needed > free:
            raise UserError(
                f"hf:{self.name}: {len(lacking)} files of {needed / 1e9:.1f} GB are to be downloaded, and"
                f" {free / 1e9:.1f} GB are free in {cache}; free some, or name another folder in HF_HUB_CACHE"
            )

    def _is_cached(self, name: str, commit: str) -> bool:
        return is_cached(self.name, name, revision=commit, cache_dir=self._cache, repo_type="dataset")

    @contextmanager
    def _explained(self, revision: str | None) -> Iterator[None]:
        endpoint, place = constants.ENDPOINT, f"hf:{self.name}"
        try:
            yield
        except errors.HFValidationError as error:
            raise UserError(f"{place}: is no data set's id such as hf:owner/name or hf:owner/name:train") from error
        except errors.GatedRepoError as error:
            raise UserError(
                f"{place}: is gated: ask for access at {endpoint}/datasets/{self.name}, then log in with"
                " `hf auth login` or set HF_TOKEN, on workers too"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise UserError(
                f"{place}: there is no such data set on the hub {endpoint}; correct the name (for a private one log in"
                " with `hf auth login` or set HF_TOKEN)"
            ) from error
        except errors.RevisionNotFoundError as error:
            raise UserError(f"{place}: has no revision {revision}; correct it") from error
        except errors.LocalEntryNotFoundError as error:
            raise self._unreachable() from error
        except errors.EntryNotFoundError as error:
            raise FileNotFoundError(2, f"the data set has no such file at revision {revision}") from error
        except (errors.HfHubHTTPError, TRANSPORT_ERROR) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            reason = f"HTTP {status}" if status else type(error).__name__
            raise ServiceError(f"{place}: cannot be fetched from the hub {endpoint} ({reason}); try again") from error
        except OSError as error:  # the disk, or what the library reports as one
            raise ServiceError(f"{place}: cannot be fetched ({error.strerror or type(error).__name__})") from error

    def _unreachable(self) -> ServiceError:
        cache = self._cache or constants.HF_HUB_CACHE
        if constants.HF_HUB_OFFLINE:
            return ServiceError(
                f"hf:{self.name}: is not in the hub's cache {cache}, and HF_HUB_OFFLINE is set; unset it, or copy the"
                " cache of a machine that has it"
            )
        return ServiceError(
            f"hf:{self.name}: the hub {constants.ENDPOINT} cannot be reached, and its cache {cache}"
            " does not have it; check the network (HF_ENDPOINT names a mirror)"
        )
