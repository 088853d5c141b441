"""hsae-admin up and down: the whole service on one machine."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from hsae.catalog import QUEUES, connect
from hsae.catalog.server import migrate
from hsae.cli.framework.connections import Connections, home_option, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_json
from hsae.cli.service.worker_process import gpu_environment, worker_command
from hsae.embedded import Stack
from hsae.errors import UserError
from hsae.settings import Settings
from hsae.store.objects import ObjectStore

WORKER = "worker"
CPU_WORKER = f"{WORKER}-cpu"
_GPU_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/kfd"))
"""Devices that the drivers of NVIDIA's and AMD's GPUs make; torch, which knows better, takes seconds to load."""
_STOP_SECONDS = 40.0  # a worker needs up to 30 to hand its job back


def bring_up(connections: Connections, *, worker: bool = True, gpus: Sequence[int] = ()) -> None:
    """Start the private stack, migrate its database, make its bucket, and start workers: see `_environments`.

    Raises:
        UserError: a GPU does not exist, or a worker of all GPUs may be using it.
    """
    home = connections.settings.home
    stack = Stack(home)
    running = {process.name for process in stack.status().processes if process.running}
    environments = _environments(running, gpus) if worker else {}
    info = stack.start()
    # What the stack says counts here, also where HSAE_* variables name other servers.
    settings = connections.use(Settings(home=home, **asdict(info)))
    engine = connect(settings)
    migrate.upgrade(engine)
    engine.dispose()
    ObjectStore.from_settings(settings).ensure_bucket()
    for name, environment in environments.items():
        queues = ("cpu",) if name == CPU_WORKER else QUEUES
        command = worker_command(queues, name=name.removeprefix(f"{WORKER}-"))
        stack.start_process(name, command, {"HSAE_HOME": str(home), **info.environment(), **environment})


def _environments(running: set[str], gpus: Sequence[int]) -> dict[str, dict[str, str]]:
    """The workers to start: by name the variables that give each its GPU.

    One for every GPU in `gpus`. Without `gpus` one worker for all jobs; on a machine without a GPU also one for the
    jobs of the queue cpu: a job alone seldom keeps all cores busy, so analyses run beside trainings.

    Raises:
        UserError: a worker of all GPUs is running.
    """
    if not gpus:  # workers of single GPUs stay the only ones
        if running - {WORKER, CPU_WORKER}:
            return {}
        return {WORKER: {}} if any(device.exists() for device in _GPU_DRIVERS) else {WORKER: {}, CPU_WORKER: {}}
    if WORKER in running:
        raise UserError("a worker without --gpu is running and may use every GPU: run `hsae-admin down` first")
    return {f"{WORKER}-gpu{gpu}": gpu_environment(gpu) for gpu in gpus}


@click.command()
@home_option
@click.option("--worker/--no-worker", default=True, show_default=True, help="Also start workers.")
@click.option(
    "--gpu",
    "gpus",
    type=click.IntRange(min=0),
    multiple=True,
    help="Start a worker for this GPU; may be given several times.  [default: one worker for all; without a GPU two]",
)
@json_option
@pass_connections
def up(connections: Connections, worker: bool, gpus: tuple[int, ...], as_json: bool) -> None:
    """Start a private stack on this machine: Postgres, Valkey, SeaweedFS and a worker; its data is kept.

    Without a GPU it has two workers, so that analyses run beside trainings. The other commands find it by themselves.
    Nothing listens beyond the loopback interface.
    """
    if gpus and not worker:
        raise UserError("--gpu starts workers and --no-worker none: leave one of them out")
    bring_up(connections, worker=worker, gpus=gpus)
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
        click.echo(f"  {part.name:<11} pid {part.pid}" + (f", port {part.port}" if part.port else ""))
    click.echo("Next: `hsae-admin dataset add NAME PATH`, then `hsae-admin submit --layer 8 --wait`.")
    click.echo("Stop it with `hsae-admin down`.")


@click.command()
@home_option
@pass_connections
def down(connections: Connections) -> None:
    """Stop the private stack and its workers; the data stays."""
    stack = Stack(connections.settings.home)
    was_running = any(part.running for part in (*stack.status().servers, *stack.status().processes))
    stack.stop(grace_seconds=_STOP_SECONDS)
    click.echo(f"The stack in {stack.home} {'is stopped; its data stays' if was_running else 'was not running'}.")
