"""A job's log in the object store: `logs/<job id>/<fence>.jsonl`, one object per start of the job."""

import json
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self, TextIO

from hsae.catalog import Json
from hsae.errors import HsaeError, UserError
from hsae.logs import JobMark, JsonLinesFormatter, adopt_transformers, current_job, job_context, prepare
from hsae.store.faults import ObjectMissingError
from hsae.store.keys import job_log_key, job_log_prefix
from hsae.store.objects import ObjectStore

log = logging.getLogger(__name__)

_LOGGERS = ("hsae", "hsae_worker", "py.warnings", "transformers")
_UPLOAD_SECONDS = 10.0
_CLOSE_SECONDS = 10.0
_MAX_BYTES = 5_000_000
_RESERVED_BYTES = 100_000  # of these, for errors: what ended an attempt must not be lost behind its chatter


class JobLog:
    """Records what hsae, Python's warnings and transformers log while the job runs, as redacted JSON lines.

    It is uploaded every `upload_seconds` if it grew, and at the end. A store that cannot be reached costs one warning
    and never fails the job. Beyond `max_bytes` a line says that lines are missing, and only errors are kept.
    """

    def __init__(
        self,
        store: ObjectStore,
        job_id: int,
        fence: int,
        *,
        upload_seconds: float = _UPLOAD_SECONDS,
        max_bytes: int = _MAX_BYTES,
    ) -> None:
        self._store = store
        self._job_id = job_id
        self._key = job_log_key(job_id, fence)
        self._mark = JobMark(job_id, fence)
        self._upload_seconds = upload_seconds
        self._lines = _Lines(self._mark, max_bytes)
        self._uploaded_bytes = 0
        self._warned = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"job-log-{job_id}", daemon=True)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        adopt_transformers()
        with ExitStack() as opening:
            opening.enter_context(job_context(self._mark.job_id, self._mark.fence))
            for name in _LOGGERS:
                logger = logging.getLogger(name)
                logger.addHandler(self._lines)
                opening.callback(logger.removeHandler, self._lines)
            opening.enter_context(_all_is_logged())
            self._open = opening.pop_all()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        self._stop.set()
        # A store that swallows packets must not keep a stopping worker: then the thread is left behind.
        self._thread.join(timeout=_CLOSE_SECONDS)

    def _run(self) -> None:
        pause = min(1.0, self._upload_seconds)  # early once, for a job that takes its worker down with it
        while not self._stop.wait(pause):
            self._upload()
            pause = self._upload_seconds
        self._upload()

    def _upload(self) -> None:
        content = self._lines.content()
        if len(content) == self._uploaded_bytes:
            return
        try:
            self._store.put(self._key, content, content_type="application/jsonl")
        except HsaeError as error:
            if not self._warned:
                log.warning("the log of job %d cannot be stored now: %s", self._job_id, error)
            self._warned = True
        else:
            self._uploaded_bytes = len(content)
            self._warned = False


@contextmanager
def _all_is_logged() -> Iterator[None]:
    """Log Python's warnings, and all that hsae says even in a quiet process, while a job of this process runs."""
    with _open_logs.changing:
        if _open_logs.number == 0:
            ours = logging.getLogger("hsae")
            _open_logs.before = ours.level, warnings.showwarning
            if ours.getEffectiveLevel() > logging.INFO:
                ours.setLevel(logging.INFO)
            warnings.showwarning = _log_warning
        _open_logs.number += 1
    try:
        yield
    finally:
        with _open_logs.changing:
            _open_logs.number -= 1
            if _open_logs.number == 0:
                level, warnings.showwarning = _open_logs.before
                logging.getLogger("hsae").setLevel(level)


class _OpenLogs:
    """The logs that are open in this process, and what was before the first of them."""

    def __init__(self) -> None:
        self.changing = threading.Lock()
        self.number = 0
        self.before: tuple[int, Any] = (logging.NOTSET, None)


_open_logs = _OpenLogs()


class _Lines(logging.Handler):
    """The records of one job as JSON lines, up to a number of bytes."""

    def __init__(self, mark: JobMark, max_bytes: int) -> None:
        super().__init__()
        self._mark = mark
        self._max_bytes = max_bytes
        self._content = bytearray()
        self._full = False
        prepare(self, JsonLinesFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        if current_job() not in (None, self._mark):
            return  # of another job in this process
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001 -- logging's own rule: a bad record must not stop the program
            self.handleError(record)
            return
        free = self._max_bytes - len(self._content)
        if len(line) <= (
            free if record.levelno >= logging.ERROR else free - min(_RESERVED_BYTES, self._max_bytes // 2)
        ):
            self._content += line
        elif not self._full:
            self._full = True
            text = f"this log has reached {self._max_bytes} bytes: further lines are dropped, except errors"
            full = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
            full.job_id, full.fence = self._mark.job_id, self._mark.fence
            self._content += self.format(full).encode() + b"\n"

    def content(self) -> bytes:
        """All whole lines so far."""
        self.acquire()
        try:
            return bytes(self._content)
        finally:
            self.release()


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    text = warnings.formatwarning(message, category, filename, lineno, line).strip()
    if file is not None:
        file.write(text + "\n")
    else:
        logging.getLogger("py.warnings").warning("%s", text)


def logged_starts(store: ObjectStore, job_id: int) -> list[int]:
    """The fences of the starts of a job with a log in the store, ascending."""
    names = (key.removeprefix(job_log_prefix(job_id)) for key in store.list(job_log_prefix(job_id)))
    return sorted(int(name.removesuffix(".jsonl")) for name in names)


def read_job_log(store: ObjectStore, job_id: int, fence: int | None = None) -> list[Json]:
    """The records of one start of a job (default: the latest with a log), oldest first.

    Each has `time`, `level`, `logger`, `message`, and possibly `exception`.

    Raises:
        UserError: there is no such log.
    """
    starts = logged_starts(store, job_id)
    if not starts:
        raise UserError(f"job {job_id} has no log: it was not started yet, or its worker was killed at once")
    if fence is None:
        fence = starts[-1]
    if fence not in starts:
        raise UserError(f"job {job_id} has no log of attempt {fence}: there are {', '.join(map(str, starts))}")
    try:
        content = store.get(job_log_key(job_id, fence))
    except ObjectMissingError as error:
        raise UserError(f"the log of attempt {fence} of job {job_id} was just removed") from error
    return [json.loads(line) for line in content.splitlines()]
