"""hsae-admin sae: sparse autoencoders, trained here or by other programs."""

import click

from hsae.cli.framework.lazy_group import LazyCommand, LazyGroup

_COMMANDS = {
    "compare": LazyCommand(
        "hsae.cli.saes.compare:compare", "Compare SAEs: settings, figures, and how similar their directions are."
    ),
    "export": LazyCommand("hsae.cli.saes.export:export", "Write an SAE for another program, or in our own format."),
    "import": LazyCommand("hsae.cli.saes.import_:import_", "Register an SAE that another program trained."),
    "list": LazyCommand("hsae.cli.saes.listing:list_", "List SAEs, or with --imported those of other programs."),
    "show": LazyCommand(
        "hsae.cli.saes.show:show", "Show an SAE: its settings, its figures on held-out and training rows, its origin."
    ),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def sae() -> None:
    """List, show, compare, import and export SAEs."""
