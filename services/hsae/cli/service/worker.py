"""hsae-admin worker: checks what a worker needs, then runs it in the same process."""

import os
import sys

import click

from hsae.catalog import QUEUES
from hsae.cli.framework.connections import Connections, home_option, pass_connections
from hsae.cli.service.worker_process import gpu_environment, worker_command
from hsae.errors import UserError
from hsae.pipeline.kinds.registry import stages


def _kinds_of(queue: str) -> str:
    return ", ".join(stage.kind for stage in stages() if stage.queue == queue)


@click.command(context_settings={"ignore_unknown_options": False})
@home_option
@click.option(
    "--queue",
    "queues",
    type=click.Choice(QUEUES),
    multiple=True,
    default=QUEUES,
    help=f"gpu ({_kinds_of('gpu')}, big analyses) or cpu ({_kinds_of('cpu')}); may be given several times."
    "  [default: both]",
)
@click.option("--gpu", type=click.IntRange(min=0), help="Use this GPU and no other; start one worker per GPU.")
@click.option("--name", help="Name in Flower and in logs; must differ from others on this host.  [default: made up]")
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
    help="The least severe messages that are logged.",
)
@click.argument("celery_args", nargs=-1, type=click.UNPROCESSED)
@pass_connections
def worker(
    connections: Connections,
    queues: tuple[str, ...],
    gpu: int | None,
    name: str | None,
    log_level: str,
    celery_args: tuple[str, ...],
) -> None:
    """Run one worker in the foreground: one job at a time. SIGTERM hands its job back and ends it.

    Arguments after -- go to `celery worker`. For several GPUs start one worker each, with --gpu 0, --gpu 1, ...
    """
    queues = tuple(dict.fromkeys(queues))
    if name is not None and (not name.strip() or set(name) & set("@%, ")):
        raise UserError(f"{name!r} is no name for a worker: choose letters, digits and dashes")
    connections.notifier, connections.engine  # noqa: B018 -- refused here in one line, not in a worker's log
    connections.engine.dispose()
    environment = gpu_environment(gpu) if gpu is not None else {}
    if connections.home is not None:
        environment["HSAE_HOME"] = str(connections.home)
    # Two workers of one name would answer for each other; the process keeps its number when it becomes Celery's.
    name = name or (f"gpu{gpu}" if gpu is not None else f"{'-'.join(queues)}-{os.getpid()}")
    command = worker_command(queues, name=name, log_level=log_level, further=celery_args)
    sys.stdout.flush()
    os.execve(command[0], command, {**os.environ, **environment})  # noqa: S606 -- no shell is wanted
