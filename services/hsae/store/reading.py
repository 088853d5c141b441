"""Reading one object: an object that the server cannot give is told from a server that is away."""

import time
from collections.abc import Callable
from typing import TypeVar

import urllib3

from hsae.errors import ServiceError, UserError
from hsae.store.faults import CLIENT_ERRORS, ObjectCorruptError, fault_of_one_object

T = TypeVar("T")

# A read that failed is repeated for so long at least; a server that takes longer to fail is asked twice.
_AGAIN_SECONDS = 3.0
_PAUSE_SECONDS = 0.5


def read_object(
    key: str,
    bucket: str,
    *,
    read: Callable[[], T],
    probe: Callable[[], None],
    explained: Callable[[Exception], UserError],
) -> T:
    """What `read` returns.

    A server whose disk has rotten blocks fails at the objects in them and at no others. Where a read fails in that
    way, `probe` writes and reads another object. If that works and a later read fails again, the object is lost;
    if it does not, the server is away.

    Args:
        key: the object's key.
        bucket: the object's bucket.
        read: reads the object once; may raise what the S3 client raises.
        probe: raises `ServiceError` where the server gives no other object either.
        explained: what to raise for an error of the client.

    Raises:
        ObjectCorruptError: the server gives other objects, but not this one.
        UserError: what `explained` returns.
    """
    give_up_at: float | None = None
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
    """What `take` makes of an answer's body; its connection is free afterwards."""
    try:
        return take(body)
    finally:
        body.close()
        body.release_conn()
