"""hsae-admin studies: list, show and remove studies."""

import click

from hsae.cli.framework.lazy_group import LazyCommand, LazyGroup

_COMMANDS = {
    "list": LazyCommand("hsae.cli.studies.listing:list_", "List studies, the latest last."),
    "remove": LazyCommand(
        "hsae.cli.studies.remove:remove", "Take STUDY off the list, once its jobs are done or cancelled."
    ),
    "show": LazyCommand(
        "hsae.cli.studies.show:show",
        "Show a STUDY (default: the latest): its request, its jobs, and its analyses with their artifacts.",
    ),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def studies() -> None:
    """List, show and remove studies: what `submit` was asked for."""
