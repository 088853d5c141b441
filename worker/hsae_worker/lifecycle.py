"""What a worker does beside its tasks: it looks for lost jobs, and its children die with it."""

import ctypes
import logging
import os
import signal
import socket
import sys
import threading
from typing import Any

from celery.signals import worker_process_init, worker_ready, worker_shutting_down

from hsae.errors import HsaeError
from hsae_worker.app import settings

log = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1
_stopping = threading.Event()


@worker_process_init.connect  # type: ignore[untyped-decorator]
def die_with_parent(**_: Any) -> None:
    """Have the kernel kill this child when the worker is killed, so that no orphan keeps a GPU."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@worker_ready.connect  # type: ignore[untyped-decorator]
def start_reconciler(**_: Any) -> None:
    """Look for expired leases and lost messages for as long as the worker lives."""
    threading.Thread(target=_reconcile, name="reconciler", daemon=True).start()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def stop_reconciler(**_: Any) -> None:
    """Stop looking."""
    _stopping.set()


def _reconcile() -> None:
    from hsae.pipeline.reconcile import reconcile

    who = f"reconciler {socket.gethostname()}:{os.getpid()}"
    while True:
        try:
            for job_id in reconcile(settings, who):
                log.info("job %d is ready: rang for it", job_id)
        except HsaeError as error:
            log.warning("reconciler: %s", error)
        except Exception:
            log.exception("reconciler: this round failed")
        if _stopping.wait(settings.reconcile_seconds):
            return
