"""The commands as a tree: groups and what they list, each by the words that call it."""

from collections.abc import Iterator

import click

from hsae.cli.framework.lazy_group import LazyGroup
from hsae.cli.main import cli


def walk(group: click.Group = cli, *above: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below `group`, groups before what they list."""
    for name in sorted(group.commands):
        command = group.commands[name]
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from walk(command, *above, name)


COMMANDS = dict(walk())
LEAVES = {path: command for path, command in COMMANDS.items() if not isinstance(command, click.Group)}
GROUPS: dict[tuple[str, ...], LazyGroup] = {
    (): cli,
    **{path: command for path, command in COMMANDS.items() if isinstance(command, LazyGroup)},
}
