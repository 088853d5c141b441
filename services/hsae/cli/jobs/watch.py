"""hsae-admin jobs watch, and how `submit --wait` waits."""

from collections.abc import Callable

import click

from hsae.catalog import transaction
from hsae.cli.framework.completion import complete_studies
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.study_choice import say, study_or_latest
from hsae.cli.jobs.progress import wait_for_study
from hsae.cli.jobs.skipped_images import print_skipped
from hsae.errors import UserError


@click.command()
@click.argument("study", type=int, required=False, shell_complete=complete_studies)
@pass_connections
def watch(connections: Connections, study: int | None) -> None:
    """Watch the jobs of a STUDY (default: the latest) until they are done."""
    with transaction(connections.sessions) as session:
        number, note = study_or_latest(session, study)
    say(note, quiet=False)
    watch_study(connections, number)


def watch_study(connections: Connections, study_id: int, *, then: Callable[[], None] = lambda: None) -> None:
    """Show a study's jobs until none is left to do; at the end print how many images were skipped.

    Args:
        connections: the service.
        study_id: the study.
        then: prints the study's results; called if all jobs succeeded, before the skipped images.

    Raises:
        UserError: a job failed or was cancelled.
    """
    try:
        wait_for_study(connections, study_id)
        then()
    except UserError:  # of a job that failed; why may be among the skipped images
        print_skipped(connections, study_id)
        raise
    print_skipped(connections, study_id)
