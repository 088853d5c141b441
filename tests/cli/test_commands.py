"""Every command explains itself."""

import click
import pytest

from hsae.cli.main import cli


def _commands(group: click.Group, prefix: tuple[str, ...] = ()):
    for name, command in group.commands.items():
        yield (*prefix, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*prefix, name))


COMMANDS = dict(_commands(cli))


def test_the_commands_of_this_version():
    leaves = {" ".join(path) for path, command in COMMANDS.items() if not isinstance(command, click.Group)}
    assert leaves == {
        "up", "down", "demo", "submit", "worker", "gc", "completion", "doctor", "db upgrade", "db current",
        "db query", "db reader", "db url", "dataset add", "dataset list", "dataset check",
        "dataset rename", "dataset remove", "taxonomy show",
        "studies list", "studies show", "studies remove", "jobs list", "jobs show", "jobs watch", "jobs logs",
        "jobs cancel", "jobs retry", "metrics",
        "results layers", "results latents", "results nodes", "results export", "results tree", "results compare",
        "results study", "results edges", "results levels",
    }  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help(path):
    command = COMMANDS[path]
    assert command.help
    assert command.get_short_help_str()


def test_taxonomy_show(admin):
    output = admin(None, "taxonomy", "show", "dog.n.01").output
    for word in ("n02084071", "canine.n.02", "domestic_animal.n.01", "entity.n.01", "puppy.n.01"):
        assert word in output
