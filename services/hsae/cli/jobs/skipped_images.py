"""The report of skipped images at the end of `submit --wait` and `jobs watch`."""

from dataclasses import asdict
from typing import Any

import click

from hsae.catalog import transaction
from hsae.catalog.queries.skipped_images import skipped_images
from hsae.cli.framework.connections import Connections


def print_skipped(connections: Connections, study_id: int) -> None:
    """Print one line on standard error for each data set of which the study's extractions skipped images."""
    with transaction(connections.sessions) as session:
        found = skipped_images(session, study_id)
    for one in (found.trains, found.scores):
        if one is not None and one.n_skipped:
            of = "images" if found.scores is None else f"images of {one.dataset}"
            click.echo(
                f"{one.n_skipped} of {one.n_images} {of} could not be read and were skipped:"
                f" `hsae-admin dataset check {one.dataset}` lists them.",
                err=True,
            )


def skipped_json(connections: Connections, study_id: int) -> dict[str, Any]:
    """The same for programs: `skipped`, and `score_skipped` of another data set that is scored, once it is read."""
    with transaction(connections.sessions) as session:
        found = skipped_images(session, study_id)
    skipped = {"skipped": None if found.trains is None else asdict(found.trains)}
    return skipped if found.scores is None else skipped | {"score_skipped": asdict(found.scores)}
