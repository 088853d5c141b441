"""Errors of the S3 server and its network as one-line exceptions that name the remedy."""

from xml.etree.ElementTree import ParseError

import urllib3.exceptions as http
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from hsae.errors import ServiceError, UserError
from hsae.store.connection import CONNECT_TIMEOUT_SECONDS
from hsae.store.keys import DATASETS, TAXONOMIES, artifact_of

# All that the client raises except for bugs of hsae (OSError: a broken CA file).
CLIENT_ERRORS = (MinioException, http.HTTPError, ParseError, OSError)
# The body ended before its announced length; only the reading of a body raises these.
_CUT_SHORT = (http.ProtocolError, http.ReadTimeoutError)

_REFUSED = {
    "InvalidAccessKeyId": "it does not know the access key",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "InvalidToken": "it does not accept the keys",
    "ExpiredToken": "the keys have expired",
    "AccessDenied": "access denied",
    "AccountProblem": "the account has a problem",
}
_FULL = {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"}
_FULL_TEXTS = ("no free volumes", "no writable volumes", "no space left", "storage full", "quota exceeded")
_HTTP_INSUFFICIENT_STORAGE = 507
_HTTP_SERVER_FAULT = 500


class ObjectMissingError(UserError):
    """An object that the catalog or a manifest names is not in the bucket."""

    def __init__(self, key: str, bucket: str) -> None:
        """Both arguments stay in `args`, so that the exception survives pickling between processes."""
        super().__init__(key, bucket)
        self.key = key
        self.bucket = bucket

    @property
    def fact(self) -> str:
        """What is wrong, without the remedy."""
        return f"object {self.key} is missing from bucket {self.bucket}"

    def __str__(self) -> str:
        return f"{self.fact}: {_remedy(self.key)}, or restore the bucket from its backup"


class ActivationsDroppedError(ObjectMissingError):
    """The shards of an activation set were deleted because its studies asked for that; `what` says which and when."""

    def __init__(self, key: str, bucket: str, what: str) -> None:
        """All arguments stay in `args`, so that the exception survives pickling between processes."""
        super().__init__(key, bucket)
        self.args = (key, bucket, what)
        self.what = what

    @property
    def fact(self) -> str:
        """What is wrong, without the remedy."""
        return self.what

    def __str__(self) -> str:
        return f"{self.what}: submit the study again with --keep (without drop_after) to extract them again"


class ObjectCorruptError(UserError):
    """An object's bytes are not those that were written, or not what its format demands."""

    def __init__(self, key: str, bucket: str, reason: str) -> None:
        """All arguments stay in `args`, so that the exception survives pickling between processes."""
        super().__init__(key, bucket, reason)
        self.key = key
        self.bucket = bucket
        self.reason = reason

    @property
    def fact(self) -> str:
        """What is wrong, without the remedy."""
        return f"object {self.key} in bucket {self.bucket} is damaged ({self.reason})"

    def __str__(self) -> str:
        return f"{self.fact}: {_remedy(self.key)}"


def _remedy(key: str) -> str:
    if artifact_of(key)[0] in {DATASETS, TAXONOMIES}:
        return "run `hsae-admin dataset add` again as before, which stores it anew"
    return "submit again to make it anew"


def fault_of_one_object(error: Exception) -> str | None:
    """The reason of a failed read, if the object itself may be damaged; None for any other failure.

    Among HTTP statuses only 500 may mean that. Other statuses mean that the server, or the network to it, is overloaded
    or down. SeaweedFS tries for 14 s before it answers 500; a busy one gives no answer within the silence timeout.
    """
    if isinstance(error, _CUT_SHORT):
        return "its body is cut short"
    if isinstance(error, http.MaxRetryError) and isinstance(error.reason, http.ReadTimeoutError):
        return "no answer, time and again"
    status, text = _answer(error)
    if status != _HTTP_SERVER_FAULT or _tells_of_full_storage(error, text):
        return None
    return f"HTTP {status}: {_line(text)}"


def explain(
    error: Exception, *, endpoint: str, bucket: str, key: str | None, writing: bool, remedy_if_away: str
) -> UserError:
    """The one-line exception for an error of the client.

    Args:
        error: what the client raised.
        endpoint: host and port of the server.
        bucket: name of the bucket.
        key: object of the request; None: the request was about the bucket.
        writing: whether the request was to store bytes.
        remedy_if_away: what to do where the server cannot be reached.

    Returns:
        `ObjectMissingError` for a missing key, `ServiceError` for everything else.
    """
    server = f"the S3 server at {endpoint}"
    if isinstance(error, http.HTTPError):
        return _explain_connection(error, endpoint, remedy_if_away)
    if isinstance(error, OSError):
        return ServiceError(f"{server} cannot be reached ({_line(error)}): correct HSAE_S3_ENDPOINT")
    target = f"object {key} in bucket {bucket}" if key else f"bucket {bucket}"
    status, text = _answer(error)
    if isinstance(error, S3Error):
        code = error.code or ""
        if code in ("NoSuchKey", "NoSuchObject") and key:
            return ObjectMissingError(key, bucket)
        if code == "NoSuchBucket":
            return missing_bucket(endpoint, bucket)
        if code in _REFUSED:
            return ServiceError(
                f"{server} refuses us at {target} ({code}: {_REFUSED[code]}): "
                "correct HSAE_S3_ACCESS_KEY and HSAE_S3_SECRET_KEY, or give that key rights on the bucket"
            )
        if code == "RequestTimeTooSkewed":
            return ServiceError(f"{server} refuses us: the clocks of the two machines differ; set them right")
    if status == _HTTP_INSUFFICIENT_STORAGE or _tells_of_full_storage(error, text):
        return ServiceError(f"{server} is full ({_line(text)}): free some space there; jobs go on by themselves")
    if status >= _HTTP_SERVER_FAULT:
        # SeaweedFS answers a bare InternalError when no volume is left, or a block fails its checksum.
        advice = (
            "its disk may be full: look at its free space and its log; jobs go on by themselves"
            if writing
            else "look at its log; jobs go on by themselves"
        )
        return ServiceError(f"{server} failed at {target} (HTTP {status}: {_line(text)}); {advice}")
    if isinstance(error, S3Error):
        return ServiceError(f"{server} refuses a request for {target} ({_line(text)}): see the server's log")
    return ServiceError(f"{endpoint} does not answer like an S3 server ({_line(text)}): correct HSAE_S3_ENDPOINT")


def missing_bucket(endpoint: str, bucket: str) -> ServiceError:
    """The exception for a bucket that does not exist."""
    return ServiceError(
        f"bucket {bucket} does not exist on the S3 server at {endpoint}: "
        "run `hsae-admin doctor`, which creates it, or correct HSAE_S3_BUCKET"
    )


def _explain_connection(error: http.HTTPError, endpoint: str, remedy_if_away: str) -> ServiceError:
    cause: BaseException = error
    if isinstance(cause, http.MaxRetryError) and cause.reason is not None:
        cause = cause.reason
    if isinstance(cause, http.SSLError):
        return ServiceError(
            f"no TLS connection to the S3 server at {endpoint} ({_line(cause)}): "
            "correct HSAE_S3_SECURE, or name its certificate authority in SSL_CERT_FILE"
        )
    if isinstance(cause, http.NameResolutionError):
        reason = "its host name is unknown"
    elif isinstance(cause, http.ConnectTimeoutError) and not isinstance(cause, http.NewConnectionError):
        reason = f"no connection within {CONNECT_TIMEOUT_SECONDS:g} s"
    elif isinstance(cause, http.ReadTimeoutError):
        reason = "it gives no answer"
    elif isinstance(cause, http.NewConnectionError) and isinstance(cause.__cause__, OSError):
        reason = (cause.__cause__.strerror or _line(cause.__cause__)).lower()
    elif isinstance(cause, http.ProtocolError):
        timed_out = any(isinstance(detail, TimeoutError) for detail in cause.args)
        reason = "it takes no more data" if timed_out else "it closed the connection"
    else:
        reason = _line(cause)
    return ServiceError(f"the S3 server at {endpoint} cannot be reached ({reason}): {remedy_if_away}")


def _tells_of_full_storage(error: Exception, text: str) -> bool:
    if isinstance(error, S3Error) and error.code in _FULL:
        return True
    return any(phrase in text.lower() for phrase in _FULL_TEXTS)


def _answer(error: Exception) -> tuple[int, str]:
    """The HTTP status of an error response (0 without a response), and its text."""
    if isinstance(error, S3Error):
        return error.response.status, f"{error.code or ''} {error.message or ''}"
    if isinstance(error, ServerError):
        return error.status_code, _line(error)
    # The body is no XML, or other XML. The client keeps the status of a non-XML response only in a private field.
    return int(getattr(error, "_code", 0)) if isinstance(error, InvalidResponseError) else 0, _line(error)


def _line(error: object) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:199] + "…"
