"""Tables in terminals of several widths: no name is broken, and no row is wider than the terminal."""

import re

from rich.cells import cell_len

WIDTHS = (40, 60, 80, 120, None)
"""Columns of a terminal; None: a pipe."""


def assert_fits(admin, service, arguments, width: int | None, *names: str) -> None:
    """Run a command in a terminal of `width` columns: it prints every name whole, and in rows that fit."""
    # What rich takes for a terminal.
    terminal = {} if width is None else {"TERM": "xterm", "TTY_COMPATIBLE": "1", "NO_COLOR": "1", "COLUMNS": str(width)}
    result = admin(service, *arguments, **terminal)
    assert result.exit_code == 0, result.output
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", result.stdout)
    for name in names:
        assert name in shown, shown
    if width is None:
        assert "Left out" not in shown
        return
    # Text goes on where the terminal wraps it, and so does a name that is wider by itself; rows of several columns fit.
    rows = [line.strip() for line in shown.splitlines() if "  " in line.strip()]
    assert [line for line in rows if cell_len(line) > width] == [], shown
