"""hsae-admin: the command line of the service. A thin layer: every command calls the library and prints."""

from typing import Any

import click

from hsae import __version__
from hsae.cli import completion, dataset, db, demo, doctor, gc, jobs, metrics, results, stack, submit, taxonomy, worker
from hsae.cli.connections import home_option
from hsae.errors import HsaeError, UserError


class _Group(click.Group):
    """A group whose commands report a user's mistake as one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HsaeError as error:
            if isinstance(error, UserError):
                for line in error.details:
                    click.echo(line, err=True)
            raise click.ClickException(" ".join(str(error).split())) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="hsae-admin")
@home_option
def cli() -> None:
    """Train sparse autoencoders on every layer of a vision transformer and score every latent against WordNet."""


for command in (
    stack.up,
    stack.down,
    demo.demo,
    submit.submit,
    jobs.jobs,
    results.results,
    dataset.dataset,
    taxonomy.taxonomy,
    db.db,
    doctor.doctor,
    metrics.metrics,
    worker.worker,
    gc.gc,
    completion.completion,
):
    cli.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    cli(prog_name="hsae-admin")


__all__ = ["cli", "main"]
