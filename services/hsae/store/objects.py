"""Objects in one bucket of an S3 server. Objects are written and read whole, and every read is checked by checksum."""

import hashlib
import io
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, Self

import urllib3
from minio.error import S3Error
from minio.helpers import check_bucket_name

from hsae.errors import ServiceError, UserError
from hsae.settings import SILENCE_SECONDS, Settings
from hsae.store.clients import S3Clients, ServerAccess
from hsae.store.faults import (
    CLIENT_ERRORS,
    ObjectCorruptError,
    ObjectMissingError,
    explain,
    missing_bucket,
)
from hsae.store.keys import doctor_key, fill_checksum
from hsae.store.reading import T, read_object, take_body

_SHA256_HEADER = "x-amz-meta-sha256"
_MAX_OBJECT_BYTES = 5 * 2**30  # S3's limit of one PUT
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A stored object: its key, the sha256 of its bytes (64 hex digits), and their number."""

    key: str
    sha256: str
    n_bytes: int


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object of a listing: its key, its size, and the time of its last write by the server's clock."""

    key: str
    n_bytes: int
    last_modified: datetime


class ObjectStore:
    """One bucket of an S3 server, through the `minio` client. Safe to share between threads and across a fork.

    Every method raises `hsae.errors.ServiceError` if the server cannot be reached, refuses the keys, has no such
    bucket, or is full. Retries cover a restart of the server of a few seconds; there are no endless retries. Keys are
    paths without a leading or trailing slash. No key may be the folder of another key, because some servers store
    objects as files.
    """

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        bucket: str,
        *,
        region: str = "us-east-1",
        secure: bool = False,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        """Connects to nothing yet; an endpoint, region or bucket name that cannot be one is a `UserError`.

        A connection that is silent for `silence_seconds` is given up.
        """
        self.endpoint = endpoint
        self.bucket = bucket
        self.remedy_if_away = "start it or correct HSAE_S3_ENDPOINT"
        self._bucket_seen = False
        try:
            check_bucket_name(bucket, strict=True)
        except ValueError as error:
            raise UserError(f"{error}: correct HSAE_S3_BUCKET (3 to 63 of a-z 0-9 . -)") from error
        self._clients = S3Clients(ServerAccess(endpoint, access_key, secret_key, region, secure, silence_seconds))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The store of the settings.

        Raises:
            UserError: settings are missing; the message lists them.
        """
        required = {
            "HSAE_S3_ENDPOINT": settings.s3_endpoint,
            "HSAE_S3_ACCESS_KEY": settings.s3_access_key,
            "HSAE_S3_SECRET_KEY": settings.s3_secret_key and settings.s3_secret_key.get_secret_value(),
        }
        missing = [name for name, value in required.items() if not value]
        if missing:
            raise UserError(
                f"no object store is configured ({', '.join(missing)} not set): set "
                f"{'it' if len(missing) == 1 else 'them'}, or start a private stack with `hsae-admin up`"
            )
        endpoint, access_key, secret_key = (value or "" for value in required.values())
        store = cls(
            endpoint,
            access_key,
            secret_key,
            settings.s3_bucket,
            region=settings.s3_region,
            secure=settings.s3_secure,
        )
        store.remedy_if_away = settings.remedy_if_away("s3_endpoint")
        return store

    def __repr__(self) -> str:
        return f"ObjectStore({self.endpoint!r}, bucket={self.bucket!r})"

    def ensure_bucket(self) -> None:
        """Create the bucket if it does not exist; several processes may do so at once."""
        with self._explained(None):
            for _ in range(5):  # SeaweedFS may stumble over another worker that creates it
                if self._clients.writing.bucket_exists(self.bucket):
                    break
                try:
                    self._clients.writing.make_bucket(self.bucket)
                except S3Error as error:  # another worker was faster; if another account owns it, the next look fails
                    if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists", "NoSuchBucket"):
                        raise
        self._bucket_seen = True

    def put(
        self, key: str, data: bytes | memoryview, *, content_type: str = "application/octet-stream"
    ) -> StoredObject:
        """Store `data` under `key` in one request (all or nothing); an existing object is replaced.

        In a key of `hsae.store.keys` without its checksum, the checksum is filled in; `StoredObject.key` is the whole
        key.
        """
        content = bytes(data)
        if len(content) > _MAX_OBJECT_BYTES:
            raise UserError(f"object {key} has {len(content)} bytes, S3's limit is 5 GiB: ask for smaller shards")
        digest = hashlib.sha256(content).hexdigest()
        key = fill_checksum(key, digest)
        with self._explained(_checked(key), writing=True):
            self._clients.writing.put_object(
                self.bucket,
                key,
                io.BytesIO(content),
                len(content),
                content_type=content_type,
                metadata={_SHA256_HEADER: digest},
                part_size=_MAX_OBJECT_BYTES,  # one part: a multipart upload could be left half done
            )
        return StoredObject(key, digest, len(content))

    def get(self, key: str, *, sha256: str | None = None) -> bytes:
        """Read an object.

        Args:
            key: key of the object.
            sha256: expected checksum; None: the checksum in the object's metadata.

        Raises:
            ObjectMissingError: there is no such object.
            ObjectCorruptError: the checksum differs; or the server cannot read this object, although it reads others.
        """
        data, stored_sha256 = self._read(_checked(key), lambda body: (body.read(), body.headers.get(_SHA256_HEADER)))
        self._compare(key, len(data), hashlib.sha256(data).hexdigest(), sha256 or stored_sha256)
        return data

    def check(self, key: str, *, sha256: str, into: BinaryIO | None = None) -> int:
        """Read the object piece by piece, also into an empty file if one is given; returns its size in bytes.

        Raises:
            UserError: as for `get`.
        """

        def measure(body: urllib3.BaseHTTPResponse) -> tuple[int, str]:
            digest, n_bytes = hashlib.sha256(), 0
            if into is not None:  # an earlier try may have ended half-way
                into.seek(0)
                into.truncate()
            for piece in body.stream(_PIECE_BYTES):
                if into is not None:
                    into.write(piece)
                digest.update(piece)
                n_bytes += len(piece)
            return n_bytes, digest.hexdigest()

        n_bytes, actual = self._read(_checked(key), measure)
        self._compare(key, n_bytes, actual, sha256)
        return n_bytes

    def _compare(self, key: str, n_bytes: int, actual: str, expected: str | None) -> None:
        if expected is not None and actual != expected:
            reason = f"{n_bytes} bytes with sha256 {actual[:12]}… instead of {expected[:12]}…"
            raise ObjectCorruptError(key, self.bucket, reason)

    def _read(self, key: str, take: Callable[[urllib3.BaseHTTPResponse], T]) -> T:
        """Apply `take` to the body of the object."""

        def read() -> T:
            return take_body(self._clients.reading.get_object(self.bucket, key), take)

        return read_object(key, self.bucket, read=read, probe=self.probe, explained=lambda e: self._explain(e, key))

    def probe(self) -> None:
        """Write a small object, read it back and delete it.

        Raises:
            ServiceError: that does not work.
        """
        content = secrets.token_bytes(1024)
        probe = self.put(doctor_key(secrets.token_hex(8)), content)
        try:
            with self._explained(probe.key):
                back = take_body(self._clients.writing.get_object(self.bucket, probe.key), lambda body: body.read())
            if back != content:
                raise ServiceError(
                    f"what is written to the S3 server at {self.endpoint} reads back differently: check its disk"
                )
        finally:
            self.delete(probe.key)

    def stat(self, key: str) -> int | None:
        """The size of the object in bytes; None if there is no such object."""
        try:
            with self._explained(_checked(key)):
                return self._clients.writing.stat_object(self.bucket, key).size
        except ObjectMissingError:
            self._require_bucket()
            return None

    def exists(self, key: str) -> bool:
        """Whether the object exists."""
        return self.stat(key) is not None

    def delete(self, key: str) -> None:
        """Delete the object; no error if it does not exist."""
        with self._explained(_checked(key)):
            self._clients.writing.remove_object(self.bucket, key)

    def delete_prefix(self, prefix: str) -> None:
        """Delete all objects of the folder `prefix`, which must end with a slash: `a/1` would also match `a/10`."""
        if not prefix.endswith("/"):
            raise ValueError(f"prefix {prefix!r} does not end with a slash")
        for key in list(self.list(prefix)):
            self.delete(key)

    def list(self, prefix: str) -> Iterator[str]:
        """The keys that start with `prefix`, in the server's order."""
        return (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[ListedObject]:
        """The objects whose keys start with `prefix`, in the server's order."""
        listing = self._clients.writing.list_objects(self.bucket, prefix=prefix, recursive=True)
        while True:
            with self._explained(None):
                item = next(listing, None)
            if item is None:
                return
            if item.object_name is not None and not item.is_dir:
                yield ListedObject(item.object_name, item.size or 0, item.last_modified or datetime.now(UTC))

    def _require_bucket(self) -> None:
        # HEAD has no body, so a missing bucket looks like a missing key.
        if not self._bucket_seen:
            with self._explained(None):
                self._bucket_seen = self._clients.writing.bucket_exists(self.bucket)
            if not self._bucket_seen:
                raise missing_bucket(self.endpoint, self.bucket)

    @contextmanager
    def _explained(self, key: str | None, *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except CLIENT_ERRORS as error:
            raise self._explain(error, key, writing=writing) from error

    def _explain(self, error: Exception, key: str | None, *, writing: bool = False) -> UserError:
        return explain(
            error,
            endpoint=self.endpoint,
            bucket=self.bucket,
            key=key,
            writing=writing,
            remedy_if_away=self.remedy_if_away,
        )


def _checked(key: str) -> str:
    if not key or key != key.strip("/") or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"{key!r} is no object key")
    return key
