"""A group whose commands are imported when they are called, so that help and completion start at once."""

from collections import UserDict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import click
from click.shell_completion import CompletionItem

from hsae.cli.framework.groups import HelpfulGroup


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command is, and what a listing says of it.

    Attributes:
        place: module and attribute, as in "hsae.cli.service.db:db".
        summary: the first sentence of the command's help.
    """

    place: str
    summary: str

    def load(self) -> click.Command:
        """Import the command."""
        module, _, attribute = self.place.partition(":")
        return cast("click.Command", getattr(import_module(module), attribute))


class _Commands(UserDict[str, click.Command]):
    """The commands by name; each is imported at its first look-up."""

    def __init__(self, lazy: Mapping[str, LazyCommand]) -> None:
        super().__init__()
        self.data = cast("dict[str, click.Command]", dict(lazy))

    def __getitem__(self, name: str) -> click.Command:
        found: click.Command | LazyCommand = self.data[name]
        if isinstance(found, LazyCommand):
            found = self.data[name] = found.load()
        return found


class LazyGroup(HelpfulGroup):
    """A group of lazy commands. What lists them uses their summaries."""

    def __init__(self, *, lazy: Mapping[str, LazyCommand], **options: Any) -> None:
        super().__init__(**options)
        self.commands = _Commands(lazy)
        self._listed = {name: click.Command(name, help=command.summary) for name, command in lazy.items()}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        click.Group(commands=self._listed).format_commands(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        names = [
            CompletionItem(name, help=self._listed[name].get_short_help_str())
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)
