"""Files of figures: the suffix decides the format."""

import os
from contextlib import suppress
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from hsae.errors import UserError
from hsae.report.plot_suffixes import check_suffix

_UNDATED = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""The same figure gives the same bytes, whenever it is drawn."""


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, or for papers as SVG or PDF with vectors and embedded fonts; a file appears whole.

    Args:
        figure: the figure.
        path: of the file; its folder is made.

    Raises:
        UserError: the suffix is another one, or the file cannot be written.
    """
    suffix = check_suffix(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with rc_context({"pdf.fonttype": 42, "svg.hashsalt": "hsae"}):  # type 42: editors of a journal keep the text
            figure.savefig(aside, dpi=110, format=suffix[1:], metadata=_UNDATED[suffix])
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise UserError(f"{path} cannot be written ({error.strerror or error})") from error
