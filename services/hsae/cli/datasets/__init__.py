"""hsae-admin dataset: register labelled images."""

import click

from hsae.cli.framework.lazy_group import LazyCommand, LazyGroup

_COMMANDS = {
    "add": LazyCommand("hsae.cli.datasets.add:add", "Register the images at PATH under NAME."),
    "check": LazyCommand(
        "hsae.cli.datasets.check:check", "Read every image of the data set NAME and list those that cannot be used."
    ),
    "list": LazyCommand("hsae.cli.datasets.listing:list_", "List registered data sets."),
    "remove": LazyCommand(
        "hsae.cli.datasets.remove:remove", "Forget the data set NAME, which no study uses; its images are not touched."
    ),
    "rename": LazyCommand("hsae.cli.datasets.rename:rename", "Give the data set OLD the name NEW."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def dataset() -> None:
    """Register, check, rename and remove data sets."""
