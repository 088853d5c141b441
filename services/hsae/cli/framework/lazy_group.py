"""A group whose commands are imported when they are called, so that help and completion start at once."""

import gc
from collections import UserDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import click
from click.shell_completion import CompletionItem


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """The place of a command, and its line in a listing.

    Attributes:
        place: module and attribute, as in "hsae.cli.db.query:query".
        summary: the first sentence of the command's help.
    """

    place: str
    summary: str

    def load(self) -> click.Command:
        """Import the command."""
        module, _, attribute = self.place.partition(":")
        with _garbage_kept():
            return cast("click.Command", getattr(import_module(module), attribute))


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Collect no garbage for a while: what an import makes stays, and looking for garbage is a tenth of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


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


class LazyGroup(click.Group):
    """A group of lazy commands: help and completion list them by their summaries and import none of them.

    Without arguments it prints its help and exits with 0, because that is a question and no mistake (Click exits with
    2).

    Attributes:
        lazy: the commands by name.
    """

    def __init__(self, *, lazy: Mapping[str, LazyCommand], **options: Any) -> None:
        super().__init__(**options)
        self.lazy = dict(lazy)
        self.commands = _Commands(lazy)
        self._listed = {name: click.Command(name, help=command.summary) for name, command in lazy.items()}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Print the help of a group without arguments, and exit with 0."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by their summaries."""
        click.Group(commands=self._listed).format_commands(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Complete the commands' names by their summaries."""
        names = [
            CompletionItem(name, help=self._listed[name].get_short_help_str())
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)
