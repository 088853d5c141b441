"""hsae-admin explore: the explorer, in a browser."""

from pathlib import Path

import click

from hsae.cli.framework.connections import Connections, home_option, pass_connections


@click.command()
@home_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8808, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME",
    help="A further name by which browsers may ask for it; may be given several times.  [default: this machine's own"
    " loopback names and --host]",
)  # fmt: skip
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for small pictures and copies of objects.  [default: in the user's cache folder]",
)
@click.option(
    "--cache-size", type=click.FloatRange(0.1), default=2.5, show_default=True, help="The most that it holds, in GB."
)
@pass_connections
def explore(
    connections: Connections, /, host: str, port: int, hosts: tuple[str, ...], cache: Path | None, cache_size: float
) -> None:
    """Serve pages of studies, the taxonomy, latents and images, until stopped.

    It only reads: as hsae_reader where HSAE_READER_PASSWORD is set, otherwise in read-only transactions. Whoever
    reaches the port sees everything, without a password: keep it on loopback.
    """
    # Starlette, uvicorn and what pages read take a second; only this command needs them.
    import platformdirs

    from hsae.explorer.serving import Cache, Explorer, is_loopback

    folder = cache or Path(platformdirs.user_cache_dir("hsae", appauthor=False)) / "explorer"
    bounded = Cache(folder, int(cache_size * 1e9))
    explorer = Explorer(connections.settings, bounded, host=host, port=port, hosts=hosts)
    if not is_loopback(host):
        click.echo(f"Warning: whoever reaches {host}:{explorer.port} sees everything, without a password", err=True)
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"Explorer: http://{shown}:{explorer.port}/  (Ctrl+C stops it)")
    explorer.run()
