"""Read one object, and distinguish a damaged object from a server that is down."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import urllib3

from hsae.errors import ServiceError, UserError
from hsae.store.faults import CLIENT_ERRORS, ObjectCorruptError, fault_of_one_object

T = TypeVar("T")

# A failed read is repeated for at least this long; a server that takes longer to fail is asked twice.
_AGAIN_SECONDS = 3.0
_PAUSE_SECONDS = 0.5


class Readable(Protocol):
    """Where objects can be read whole."""

    @property
    def bucket(self) -> str:
        """The bucket, for messages."""

    def get(self, key: str, *, sha256: str | None = None) -> bytes:
        """See `hsae.store.objects.ObjectStore.get`."""


def read_object(
    key: str,
    bucket: str,
    *,
    read: Callable[[], T],
    probe: Callable[[], None],
    explained: Callable[[Exception], UserError],
) -> T:
    """Return the result of `read`, with retries.

    A server whose disk has bad blocks fails for the objects in them and for no others. If a read fails in that way,
    `probe` writes and reads another object. If that works and a later read fails again, the object is lost; if it does
    not work, the server is down.

    Args:
        key: the object's key.
        bucket: the object's bucket.
        read: reads the object once; may raise what the S3 client raises.
        probe: raises `ServiceError` if the server can read no other object either.
        explained: maps an error of the client to the exception to raise.

    Raises:
        ObjectCorruptError: the server can read other objects, but not this one.
        UserError: what `explained` returns.
    """
    give_up_at: float | None = None
    # By hand: the time counts from the first failure, in tenacity from the first read; and `probe` comes in between.
    while True:
        try:
            return read()
        except CLIENT_ERRORS as error:
            fault = fault_of_one_object(error)
            if fault is None:
                raise explained(error) from error
            now = time.monotonic()
            if give_up_at is not None and now >= give_up_at:
                raise ObjectCorruptError(key, bucket, f"{fault}, while the server gives other objects") from error
            give_up_at = now + _AGAIN_SECONDS if give_up_at is None else give_up_at
            try:
                probe()
            except ServiceError as refusal:
                raise explained(error) from refusal
        time.sleep(_PAUSE_SECONDS)


def take_body(body: urllib3.BaseHTTPResponse, take: Callable[[urllib3.BaseHTTPResponse], T]) -> T:
    """Apply `take` to the body of a response, then release its connection."""
    try:
        return take(body)
    finally:
        body.close()
        body.release_conn()
