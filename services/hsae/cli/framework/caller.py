"""Who runs the command."""

import getpass
import socket


def caller() -> str:
    """User and host, as in `ada@laptop`: for the history of a job."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
