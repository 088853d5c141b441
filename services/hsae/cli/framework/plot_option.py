"""The option of commands that can draw what they print."""

from pathlib import Path

import click

from hsae.report.plot_suffixes import check_suffix


def _plot_path(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Refuse another format before anything is read."""
    if path is not None:
        check_suffix(path)
    return path


plot_option = click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_plot_path,
    help="Also draw it to this file: .png, or .svg or .pdf for papers.",
)
