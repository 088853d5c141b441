"""How the service logs: text or JSON lines on standard error, each with its job, none with a secret."""

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr
from pythonjsonlogger.json import JsonFormatter

from hsae.settings import Settings

_HANDLER_NAME = "hsae"
# Below WARNING these log requests with headers and signed URLs.
_QUIET = ("urllib3", "minio", "PIL", "matplotlib", "httpx", "httpcore", "httpx2", "httpcore2", "fsspec", "filelock")
_HIDDEN = "***"
_MIN_SECRET_LENGTH = 6  # a shorter one, such as "hsae", would match ordinary words; in URLs it is hidden anyway
_PATTERNS = (
    # presigned URLs and the Authorization header of S3
    (re.compile(r"(?i)\b(signature|credential|security-token)(=|%3d)[^\s,&\"'<>\\]+"), rf"\1\2{_HIDDEN}"),
    # scheme://user:password@host
    (re.compile(r"(://[^\s/@:]*:)[^\s/@]+@"), rf"\1{_HIDDEN}@"),
    # connection strings of libpq
    (re.compile(r"(?i)\b(password=)(?:'[^']*'|[^\s'\"&]+)"), rf"\1{_HIDDEN}"),
)


@dataclass(frozen=True, slots=True)
class JobMark:
    """The job and start that a log record belongs to; `fence` counts the starts of the job, from 1."""

    job_id: int
    fence: int


_running: list[JobMark] = []
_mark: ContextVar[JobMark | None] = ContextVar("hsae_job", default=None)
_secrets: set[str] = set()


def current_job() -> JobMark | None:
    """The job that the calling thread works on, if any.

    A thread started by a job (prefetching, heartbeat) counts as the job's while no other job runs in this process.
    """
    return _mark.get() or (_running[0] if len(_running) == 1 else None)


@contextmanager
def job_context(job_id: int, fence: int) -> Iterator[JobMark]:
    """Mark every log record of this block as the job's."""
    mark = JobMark(job_id, fence)
    token = _mark.set(mark)
    _running.append(mark)
    try:
        yield mark
    finally:
        _running.remove(mark)
        _mark.reset(token)


def hide_secrets(settings: Settings) -> None:
    """Add the passwords and keys of these settings to those that `redact` hides."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if not isinstance(value, SecretStr):
            continue
        secret = value.get_secret_value()
        if "://" in secret:
            try:
                secret = urlsplit(secret).password or ""
            except ValueError:
                continue  # not a URL; the code that connects with it reports that
        for form in {secret, unquote(secret), quote(unquote(secret), safe="")}:
            if len(form) >= _MIN_SECRET_LENGTH:
                # as it is, inside a JSON string, and inside a repr
                _secrets.update({form, json.dumps(form)[1:-1], repr(form)[1:-1]})


def redact(text: str) -> str:
    """`text` without known secrets, passwords in URLs, and the signatures of presigned URLs."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


class _JobFilter(logging.Filter):
    """Adds the job to every record; filters nothing out."""

    def filter(self, record: logging.LogRecord) -> bool:
        mark = current_job()
        if mark is not None and not hasattr(record, "job_id"):
            record.job_id, record.fence = mark.job_id, mark.fence
        return True


def _utc(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Redact the finished text rather than the record: that covers message, arguments, exceptions and all else.
class TextFormatter(logging.Formatter):
    """`time level logger [job 12, start 1] message`, redacted; an exception follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(name)s%(job)s %(message)s", defaults={"job": ""})

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """UTC, ISO 8601, milliseconds."""
        del datefmt
        return _utc(record)

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        job_id = getattr(record, "job_id", None)
        record.__dict__["job"] = "" if job_id is None else f" [job {job_id}, start {getattr(record, 'fence', '?')}]"
        try:
            return redact(super().format(record))
        finally:
            del record.__dict__["job"]


class JsonLinesFormatter(JsonFormatter):
    """One JSON object per line: time, level, logger, message, and if present job_id, fence and exception."""

    def __init__(self) -> None:
        super().__init__(
            ["asctime", "levelname", "name", "message"],
            rename_fields={
                "asctime": "time", "levelname": "level", "name": "logger", "exc_info": "exception",
                "stack_info": "stack",
            },
            json_ensure_ascii=False,
        )  # fmt: skip

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """UTC, ISO 8601, milliseconds."""
        del datefmt
        return _utc(record)

    def format(self, record: logging.LogRecord) -> str:
        """One record as a line of JSON."""
        return redact(super().format(record))


def prepare(handler: logging.Handler, formatter: logging.Formatter) -> None:
    """Set the formatter of a handler, and add the job to its records."""
    handler.setFormatter(formatter)
    handler.addFilter(_JobFilter())


def configure(settings: Settings, *, level: int = logging.INFO, file: Path | None = None) -> None:
    """Log to standard error, or to `file`, in the settings' format; a second call replaces the first.

    Raises:
        OSError: when `file` cannot be written.
    """
    hide_secrets(settings)
    # A watched file is opened again after logrotate moved it away.
    handler = logging.StreamHandler(sys.stderr) if file is None else WatchedFileHandler(file, encoding="utf-8")
    prepare(handler, JsonLinesFormatter() if settings.log_format == "json" else TextFormatter())
    handler.set_name(_HANDLER_NAME)
    handler.setLevel(level)
    root = logging.getLogger()
    for old in [old for old in root.handlers if old.get_name() == _HANDLER_NAME]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)


def adopt_transformers() -> None:
    """Make transformers, if it is loaded, log through our handlers instead of its own."""
    library = sys.modules.get("transformers.utils.logging")
    if library is not None:
        library.disable_default_handler()
        library.enable_propagation()
