"""Options that come from the kinds of SAE: which kinds there are, and the settings that not all of them have."""

from collections.abc import Callable
from typing import TypeVar

import click

from hsae.sae.variants import VARIANTS, own_settings

Command = TypeVar("Command", bound=Callable[..., object])

SAE_KIND = click.Choice(list(VARIANTS))


def kind_options(command: Command) -> Command:
    """Add the options of the settings that only some kinds have, in the order of the options' names."""
    settings = [setting for setting in own_settings().values() if setting.about.option]
    for setting in sorted(settings, key=lambda setting: setting.about.option, reverse=True):
        about = setting.about
        value_type = click.Choice(setting.choices) if setting.choices else setting.type
        add = click.option(about.option, setting.name, type=value_type, help=about.help or about.description)
        command = add(command)
    return command
