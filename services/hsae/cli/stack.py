"""hsae-admin up and down: everything on one machine."""

import sys
from dataclasses import asdict

import click

from hsae.cli.connections import Connections, home_option, pass_connections
from hsae.cli.output import json_option, print_json

WORKER = "worker"


def bring_up(connections: Connections, *, worker: bool = True) -> None:
    """Start the private stack, migrate its database, make its bucket, and start one worker."""
    from hsae.catalog import connect, migrate
    from hsae.embedded import Stack
    from hsae.settings import Settings
    from hsae.store import ObjectStore

    home = connections.settings.home
    stack = Stack(home)
    info = stack.start()
    # What the stack says counts here, also where HSAE_* variables name other servers.
    settings = connections.use(Settings(home=home, **asdict(info)))
    engine = connect(settings)
    migrate.upgrade(engine)
    engine.dispose()
    ObjectStore.from_settings(settings).ensure_bucket()
    if worker:
        stack.start_process(WORKER, worker_command(), {"HSAE_HOME": str(home), **info.environment()})


def worker_command() -> list[str]:
    """The command of one worker."""
    return [
        sys.executable, "-m", "celery", "--app", "hsae_worker.app", "worker",
        "--loglevel", "INFO", "--without-mingle", "--without-gossip",
    ]  # fmt: skip


@click.command()
@home_option
@click.option("--worker/--no-worker", default=True, show_default=True, help="Also start one worker.")
@json_option
@pass_connections
def up(connections: Connections, worker: bool, as_json: bool) -> None:
    """Start a private stack on this machine: Postgres, Valkey, SeaweedFS and one worker; its data is kept.

    The other commands find it by themselves. Nothing listens beyond the loopback interface.
    """
    from hsae.embedded import Stack

    bring_up(connections, worker=worker)
    status = Stack(connections.settings.home).status()
    running = [*status.servers, *status.processes]
    if as_json:
        print_json(
            {
                "home": str(status.home),
                "processes": [{"name": s.name, "pid": s.pid, "port": s.port} for s in running],
            }
        )
        return
    click.echo(f"The stack in {status.home} is running:")
    for part in running:
        click.echo(f"  {part.name:<10} pid {part.pid}" + (f", port {part.port}" if part.port else ""))
    click.echo("Next: `hsae-admin dataset add NAME PATH`, then `hsae-admin submit --layer 8 --wait`.")
    click.echo("Stop it with `hsae-admin down`.")


@click.command()
@home_option
@pass_connections
def down(connections: Connections) -> None:
    """Stop the private stack and its worker; the data stays."""
    from hsae.embedded import Stack

    stack = Stack(connections.settings.home)
    was_running = any(part.running for part in (*stack.status().servers, *stack.status().processes))
    stack.stop()
    click.echo(f"The stack in {stack.home} {'is stopped; its data stays' if was_running else 'was not running'}.")
