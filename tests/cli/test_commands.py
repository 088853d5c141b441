"""Every command explains itself, and is documented."""

import re

import click
import pytest
from tests.cli.command_reference import PAGE, reference
from tests.cli.command_tree import COMMANDS, GROUPS, LEAVES


def test_the_commands_of_this_version():
    assert {" ".join(path) for path in LEAVES} == {
        "up", "down", "demo", "explore", "submit", "worker", "gc", "completion", "doctor", "db upgrade", "db current",
        "db query", "db reader", "db url", "dataset add", "dataset list", "dataset check",
        "dataset rename", "dataset remove", "taxonomy show",
        "studies list", "studies show", "studies remove", "jobs list", "jobs show", "jobs watch", "jobs logs",
        "jobs cancel", "jobs retry", "metrics", "report",
        "sae list", "sae show", "sae compare", "sae import", "sae export",
        "results layers", "results latents", "results nodes", "results export", "results tree", "results compare",
        "results study", "results edges", "results levels", "results absorption", "results maps",
        "models list", "models show",
        "results interventions", "results names", "results similar",
    }  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help(path):
    command = COMMANDS[path]
    assert command.help
    assert command.get_short_help_str()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_has_help_and_every_argument_is_in_the_help(path):
    command = COMMANDS[path]
    without = [option.opts for option in command.params if isinstance(option, click.Option) and not option.help]
    assert not without, f"hsae-admin {' '.join(path)}: give {without} a help text"
    for argument in command.params:
        if isinstance(argument, click.Argument):
            name = re.sub(r"\W", "", argument.metavar or argument.name.upper())
            described = re.search(rf"\b{name}\b", command.help) or argument.type == click.UNPROCESSED
            assert described, f"hsae-admin {' '.join(path)}: say in the help what {name} is"


def test_every_group_is_lazy():
    groups = {path for path, command in COMMANDS.items() if isinstance(command, click.Group)}
    assert set(GROUPS) == groups | {()}


def test_every_command_and_option_is_in_the_documentation():
    page = PAGE.read_text()
    for path, command in LEAVES.items():
        assert f"`hsae-admin {' '.join(path)}" in page, "run `make commands-page`"
        for option in command.params:
            for name in option.opts if isinstance(option, click.Option) else ():
                assert name in page, "run `make commands-page`"
    assert page == reference(), "run `make commands-page`"


def test_taxonomy_show(admin):
    output = admin(None, "taxonomy", "show", "dog.n.01").output
    for word in ("n02084071", "canine.n.02", "domestic_animal.n.01", "entity.n.01", "puppy.n.01"):
        assert word in output
