"""Processes that tests interrupt as Ctrl-C does."""

import signal


def heed_ctrl_c() -> None:
    """For `preexec_fn`: what a shell runs in the background inherits an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
