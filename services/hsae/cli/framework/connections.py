"""What commands share: the settings of this call, and open connections to the parts they need."""

from pathlib import Path

import click

from hsae.pipeline.connections import Connections

__all__ = ["Connections", "home_option", "pass_connections"]

pass_connections = click.make_pass_decorator(Connections, ensure=True)


def _set_home(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        connections = ctx.ensure_object(Connections)
        connections.home = value.resolve()


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    callback=_set_home,
    expose_value=False,
    help="Data folder of the private stack.  [default: HSAE_HOME, else the user data folder]",
)
