"""Writes docs/commands.md from the commands' own help: `make commands-page`. A test fails where it is out of date."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import click
from tests.cli.command_tree import COMMANDS

from hsae.cli.main import cli

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
_INTRODUCTION = """\
# Commands

Every command and option of `hsae-admin`. `make commands-page` writes this page from the commands' own help; please
don't edit it by hand. `hsae-admin COMMAND --help` prints the same.
"""


def reference() -> str:
    """The page."""
    sections = (_section(path, command) for path, command in COMMANDS.items())
    return "\n".join((_INTRODUCTION, _options("hsae-admin", cli), *sections))


def _section(path: tuple[str, ...], command: click.Command) -> str:
    name = f"hsae-admin {' '.join(path)}"
    arguments = "".join(f" {_argument(p)}" for p in command.params if isinstance(p, click.Argument))
    heading = f"{'#' * (1 + len(path))} `{name}{arguments}`\n\n{inspect.cleandoc(command.help or '')}\n"
    return heading if isinstance(command, click.Group) else f"{heading}\n{_options(name, command)}"


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    if argument.metavar is None and argument.nargs != 1:
        name += "..."
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _options(name: str, command: click.Command) -> str:
    lines = list(_option_lines(command))
    return "\n".join(lines) + "\n" if lines else f"`{name}` has no options.\n"


def _option_lines(command: click.Command) -> Iterator[str]:
    for option in command.params:
        if isinstance(option, click.Option):
            names = ", ".join((*option.opts, *option.secondary_opts))
            yield f"- `{names}{_value(option)}`: {option.help}{_default(option)}"


def _value(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return f" [{'|'.join(map(str, option.type.choices))}]"
    return f" {option.metavar or option.type.name.upper().removesuffix(' RANGE')}"


def _default(option: click.Option) -> str:
    if not option.show_default or option.is_flag:
        return ""
    default = option.default if isinstance(option.default, list | tuple) else [option.default]
    return f" Default: {', '.join(f'`{value}`' for value in default)}."


if __name__ == "__main__":
    PAGE.write_text(reference())
