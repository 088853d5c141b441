"""A worker's log: the service's own format instead of Celery's, in the parent and in its children."""

from pathlib import Path
from typing import Any

from celery.signals import celeryd_init, setup_logging

from hsae import logs
from hsae_worker.app import settings


@setup_logging.connect  # type: ignore[untyped-decorator]
def set_up_logging(loglevel: int, logfile: str | None = None, **_: Any) -> None:
    """Follow --loglevel and --logfile, and HSAE_LOG_FORMAT."""
    logs.configure(settings, level=loglevel, file=Path(logfile) if logfile else None)


@celeryd_init.connect  # type: ignore[untyped-decorator]
def without_banner(instance: Any, **_: Any) -> None:
    """Where programs read the log, no banner for people comes before it."""
    if settings.log_format == "json":
        instance.quiet = True
