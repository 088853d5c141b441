"""Tars in a bucket of an S3 server as an image source."""

import errno
import glob
import itertools
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import PurePosixPath

from minio.error import S3Error

from hsae.datasets.sources.packed.packed_files import MOST_FILES, without_ranges
from hsae.datasets.sources.registry import without_password
from hsae.datasets.sources.remote.remote_file import Range, RemoteFile
from hsae.datasets.sources.remote.remote_tars import TARS, RemoteTars, written_out
from hsae.errors import UserError
from hsae.settings import SILENCE_SECONDS, load_settings
from hsae.store.clients import S3Clients, ServerAccess
from hsae.store.faults import CLIENT_ERRORS, ObjectMissingError, explain


class S3Tars(RemoteTars):
    """Tars in a bucket: `s3://bucket/data/train-{000..146}.tar?label=breed`, a pattern with `*`, or their folder.

    Server and keys are those of `HSAE_IMAGES_S3_*`, or else of `HSAE_S3_*`; see `TarImages`.
    """

    def __init__(self, location: str) -> None:
        """Make the source of a URI; nothing is asked yet.

        Raises:
            UserError: it names no bucket, holds a key, or has a setting that there is none of.
        """
        place, _, query = location.partition("?")
        shown = without_password(place)
        if shown != place:
            raise UserError(
                f"{shown}: leave the keys out of the URI, which is stored with the data set: HSAE_S3_* has them"
            )
        bucket, _, key = place.partition("://")[2].partition("/")
        if not bucket:
            raise UserError(
                f"{shown}: names no bucket; write s3://BUCKET/FOLDER or s3://BUCKET/FOLDER/train-{{000..009}}{TARS}"
            )
        super().__init__(f"s3://{bucket}/{key}", query)
        self._bucket = Bucket(bucket)
        is_folder = not key.lower().endswith(TARS)
        self._pattern = f"{key.strip('/')}/*{TARS}".lstrip("/") if is_folder else key
        parts = PurePosixPath(self._pattern).parts[:-1]
        plain = itertools.takewhile(lambda part: not glob.has_magic(part) and "{" not in part, parts)
        self._folder = "".join(f"{part}/" for part in plain)

    def list_names(self) -> Sequence[str]:
        """See `RemoteTars`. A wildcard stands for no slash."""
        names: list[str] = []
        for pattern in without_ranges(self._pattern):
            if glob.has_magic(pattern):
                names += self._matching(pattern)
            else:
                names += written_out(self.uri, pattern.removeprefix(self._folder))
        if not names:
            raise UserError(f"{self.uri}: no {TARS} is there (looked for {self._pattern} in the bucket)")
        return names

    def file_named(self, name: str) -> "S3File":
        """See `RemoteTars`."""
        return S3File(self._bucket, f"{self._folder}{name}")

    def _matching(self, pattern: str) -> list[str]:
        n_parts = len(PurePosixPath(pattern).parts)
        prefix = pattern[: next(place for place, sign in enumerate(pattern) if sign in "*?[")]
        keys = [
            key
            for key in self._bucket.keys(prefix)
            if len(PurePosixPath(key).parts) == n_parts and PurePosixPath(key).match(pattern)
        ]
        return [key.removeprefix(self._folder) for key in keys]


class Bucket:
    """A bucket of the S3 server that the settings name for images, or of hsae's own. Threads share it."""

    def __init__(self, name: str) -> None:
        """Connects to nothing yet."""
        self.name = name

    @cached_property
    def _access(self) -> ServerAccess:
        """The settings, which are those of the machine that reads.

        Raises:
            UserError: some are missing.
        """
        settings = load_settings()
        if settings.images_s3_endpoint:
            own = settings.images_s3_secret_key
            return ServerAccess(
                settings.images_s3_endpoint,
                settings.images_s3_access_key or "",
                own.get_secret_value() if own else "",
                settings.images_s3_region,
                settings.images_s3_secure,
                SILENCE_SECONDS,
            )
        secret = settings.s3_secret_key.get_secret_value() if settings.s3_secret_key else None
        found = {
            "HSAE_S3_ENDPOINT": settings.s3_endpoint,
            "HSAE_S3_ACCESS_KEY": settings.s3_access_key,
            "HSAE_S3_SECRET_KEY": secret,
        }
        missing = [name for name, value in found.items() if not value]
        if missing:
            raise UserError(
                f"s3://{self.name}: set {', '.join(missing)}: the S3 server that has the images, and its keys"
            )
        endpoint, access_key, secret_key = (value or "" for value in found.values())
        region, secure = settings.s3_region, settings.s3_secure
        return ServerAccess(endpoint, access_key, secret_key, region, secure, SILENCE_SECONDS)

    @cached_property
    def clients(self) -> S3Clients:
        """The connections.

        Raises:
            UserError: the settings are missing or wrong.
        """
        try:
            return S3Clients(self._access)
        except UserError as error:
            raise UserError(self._in_our_words(error)) from error

    def _in_our_words(self, error: UserError) -> str:
        """The line with the names of the settings that are used here."""
        own = load_settings().images_s3_endpoint
        return re.sub(r"\bHSAE_S3_(?!BUCKET)", "HSAE_IMAGES_S3_", str(error)) if own else str(error)

    def keys(self, prefix: str) -> Sequence[str]:
        """The keys that start with a prefix.

        Raises:
            UserError: there is no such bucket, or it holds too many.
            ServiceError: the server cannot be reached, or refuses the keys.
        """
        keys: list[str] = []
        try:
            for item in self.clients.writing.list_objects(self.name, prefix=prefix, recursive=True):
                if item.object_name is not None and not item.is_dir:
                    keys.append(item.object_name)
                    if len(keys) > MOST_FILES:
                        raise UserError(
                            f"s3://{self.name}/{prefix}: holds more than {MOST_FILES:,} objects; name the tars"
                        )
        except CLIENT_ERRORS as error:
            self.refused(error, None)
        except ValueError as error:
            raise self.cannot_be(prefix, error) from error
        return keys

    def cannot_be(self, key: str, error: ValueError) -> UserError:
        """What the client says of a bucket or key that no server has, before it asks one."""
        return UserError(f"s3://{self.name}/{key}: {error}; correct the URI")

    def refused(self, error: Exception, key: str | None) -> None:
        """Raise what an error of the client means.

        Raises:
            OSError: there is no such object or bucket.
            ServiceError: anything else.
        """
        endpoint = self._access.endpoint
        if isinstance(error, S3Error) and error.code == "NoSuchBucket":
            there = f"there is no bucket {self.name} on the S3 server at {endpoint}"
            if key is None:
                raise UserError(
                    self._in_our_words(UserError(f"{there}; correct the URI or HSAE_S3_ENDPOINT"))
                ) from error
            raise FileNotFoundError(errno.ENOENT, there) from error
        if isinstance(error, S3Error) and error.code == "InvalidRange":
            raise OSError(errno.EIO, "the object is empty or shorter than before") from error
        settings = load_settings()
        remedy = settings.remedy_if_away("s3_endpoint")
        if settings.images_s3_endpoint:
            remedy = "start it or correct HSAE_S3_ENDPOINT"
        found = explain(error, endpoint=endpoint, bucket=self.name, key=key, writing=False, remedy_if_away=remedy)
        if isinstance(found, ObjectMissingError):
            raise FileNotFoundError(errno.ENOENT, f"there is no such object on the S3 server at {endpoint}") from error
        raise type(found)(self._in_our_words(found)) from error


class S3File(RemoteFile):
    """An object of a bucket."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        """Asks for nothing yet."""
        self._bucket = bucket
        self._key = key

    def __str__(self) -> str:
        return f"s3://{self._bucket.name}/{self._key}"

    def ask(self, offset: int, size: int) -> Range:
        """See `RemoteFile`."""
        client = self._bucket.clients.reading
        try:
            answer = client.get_object(self._bucket.name, self._key, offset=offset, length=size)
        except CLIENT_ERRORS as error:
            self._bucket.refused(error, self._key)
            raise
        except ValueError as error:
            raise self._bucket.cannot_be(self._key, error) from error
        total = answer.headers.get("Content-Range", "").rpartition("/")[2] or answer.headers.get("Content-Length", "")
        if not total.isdecimal():
            answer.close()
            raise OSError(errno.EPROTO, "the server does not say how large the object is")
        return Range(answer, int(total), answer.headers.get("ETag", ""))
