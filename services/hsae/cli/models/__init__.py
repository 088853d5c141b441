"""hsae-admin models: which backbones there are, and what they are made of."""

import click

from hsae.cli.framework.lazy_group import LazyCommand, LazyGroup

_COMMANDS = {
    "list": LazyCommand("hsae.cli.models.listing:list_", "List the families of models that can be read."),
    "show": LazyCommand("hsae.cli.models.show:show", "Show MODEL: its blocks, widths, tokens and hook points."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def models() -> None:
    """List and show the models whose activations can be read."""
