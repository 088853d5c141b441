"""Which files figures are written to. Commands ask before they compute anything; matplotlib is not needed for it."""

from pathlib import Path

from hsae.errors import UserError

PLOT_SUFFIXES = (".png", ".svg", ".pdf")


def check_suffix(path: Path) -> str:
    """The suffix of a figure's file in lower case.

    Raises:
        UserError: it is none of `PLOT_SUFFIXES`.
    """
    suffix = path.suffix.lower()
    if suffix not in PLOT_SUFFIXES:
        raise UserError(f"{path} is no file of a figure: its name must end in {', '.join(PLOT_SUFFIXES)}")
    return suffix
