"""hsae-admin taxonomy: look at WordNet or at a custom tree."""

import click

from hsae.cli.framework.lazy_group import LazyCommand, LazyGroup

_COMMANDS = {
    "show": LazyCommand(
        "hsae.cli.taxonomy.show:show", "Show NODE: its meaning, its hypernyms up to the root, its direct hyponyms."
    ),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def taxonomy() -> None:
    """Look at the taxonomy."""
