"""hsae-admin: the command line of the service. A thin layer: every command calls the library and prints."""

import errno
from typing import Any

import click

from hsae.cli.framework.connections import home_option
from hsae.cli.framework.lazy_group import LazyCommand, LazyGroup
from hsae.errors import HsaeError, UserError

_COMMANDS = {
    "completion": LazyCommand("hsae.cli.completion:completion", "Print the completion script of a SHELL."),
    "dataset": LazyCommand("hsae.cli.datasets:dataset", "Register, check, rename and remove data sets."),
    "db": LazyCommand("hsae.cli.db:db", "Migrate the database and query it."),
    "demo": LazyCommand("hsae.cli.demo:demo", "Run everything on bundled images and weights, offline."),
    "doctor": LazyCommand("hsae.cli.service.doctor:doctor", "Check every part of the service."),
    "down": LazyCommand("hsae.cli.service.stack:down", "Stop the private stack and its workers."),
    "explore": LazyCommand("hsae.cli.explore:explore", "Serve pages of studies, the taxonomy, latents and images."),
    "gc": LazyCommand("hsae.cli.service.gc:gc", "Delete objects of the bucket that no row of the catalog refers to."),
    "jobs": LazyCommand("hsae.cli.jobs:jobs", "List, show, watch, cancel and retry jobs."),
    "metrics": LazyCommand("hsae.cli.service.metrics:metrics", "Serve Prometheus metrics of jobs, queues and workers."),
    "models": LazyCommand("hsae.cli.models:models", "List and show the models whose activations can be read."),
    "report": LazyCommand(
        "hsae.cli.report:report", "Write a STUDY as one HTML file that opens in any browser, without a network."
    ),
    "results": LazyCommand("hsae.cli.results:results", "Look at scores, and export them."),
    "sae": LazyCommand("hsae.cli.saes:sae", "List, show, compare, import and export SAEs."),
    "studies": LazyCommand("hsae.cli.studies:studies", "List, show and remove studies: what `submit` was asked for."),
    "submit": LazyCommand("hsae.cli.submit:submit", "Queue extraction, SAE training and hierarchy analysis."),
    "taxonomy": LazyCommand("hsae.cli.taxonomy:taxonomy", "Look at the taxonomy."),
    "up": LazyCommand("hsae.cli.service.stack:up", "Start a private stack on this machine."),
    "worker": LazyCommand("hsae.cli.service.worker:worker", "Run one worker in the foreground."),
}
"""A new command is one line here."""
_FULL = {errno.ENOSPC, errno.EDQUOT}


class _Group(LazyGroup):
    """A group whose commands report a user's mistake as one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HsaeError as error:
            if isinstance(error, UserError):
                for line in error.details:
                    click.echo(line, err=True)
            raise click.ClickException(" ".join(str(error).split())) from error
        except UnicodeEncodeError as error:  # nothing is printed in place of what cannot be: a CSV would be wrong
            raise click.ClickException(
                f"what is to be printed cannot be written as {error.encoding}: choose a locale of UTF-8, or set"
                " PYTHONIOENCODING=utf-8"
            ) from error
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise click.ClickException(
                f"the output cannot be written ({error.strerror}): free some space, or write it elsewhere"
            ) from error


@click.group(
    cls=_Group, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="hsae", prog_name="hsae-admin")
@home_option
def cli() -> None:
    """Train sparse autoencoders on every layer of a vision transformer and score every latent against WordNet."""


def main() -> None:
    """Entry point of the console script."""
    cli(prog_name="hsae-admin")


__all__ = ["cli", "main"]
