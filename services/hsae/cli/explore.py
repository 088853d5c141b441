"""hsae-admin explore: the explorer, in a browser."""

import ipaddress
import math
import re
from pathlib import Path

import click
import platformdirs

from hsae.cli.framework.connections import Connections, home_option, pass_connections

# A name, or `*.` and a name for all names below it.
_NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?", re.IGNORECASE)


def _names(_: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not (_NAME.fullmatch(name) or _is_address(name)):
            raise click.BadParameter(
                f"{name!r} is no name of a host: give it as browsers ask for it, without http:// and without a port;"
                " *.NAME stands for all names below NAME."
            )
    return names


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _finite(_: click.Context, parameter: click.Parameter, size: float) -> float:
    if not math.isfinite(size):
        raise click.BadParameter(f"{size} is no size: give a number of GB.")
    return size


@click.command()
@home_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8808, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME", callback=_names,
    help="A further name by which browsers may ask for it; may be given several times.  [default: this machine's own"
    " loopback names and --host]",
)  # fmt: skip
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for small pictures and copies of objects.  [default: in the user's cache folder]",
)
@click.option(
    "--cache-size", type=click.FloatRange(0.1), default=2.5, show_default=True, callback=_finite,
    help="The most that it holds, in GB.",
)  # fmt: skip
@pass_connections
def explore(
    connections: Connections, /, host: str, port: int, hosts: tuple[str, ...], cache: Path | None, cache_size: float
) -> None:
    """Serve pages of studies, the taxonomy, latents and images, until stopped.

    It only reads: as hsae_reader where HSAE_READER_PASSWORD is set, otherwise in read-only transactions. Whoever
    reaches the port sees everything, without a password: keep it on loopback.
    """
    # Starlette, uvicorn and what pages read take a second; only this command needs them.
    from hsae.explorer.serving import Cache, Explorer, is_loopback

    folder = cache or Path(platformdirs.user_cache_dir("hsae", appauthor=False)) / "explorer"
    bounded = Cache(folder, int(cache_size * 1e9))
    explorer = Explorer(connections.settings, bounded, host=host, port=port, hosts=hosts)
    if not is_loopback(host):
        click.echo(f"Warning: whoever reaches {host}:{explorer.port} sees everything, without a password", err=True)
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"Explorer: http://{shown}:{explorer.port}/  (Ctrl+C stops it)")
    explorer.run()
