"""The report of skipped images at the end of `submit --wait` and `jobs watch`."""

from dataclasses import asdict
from typing import Any

import click

from hsae.catalog import transaction
from hsae.catalog.queries.skipped_images import skipped_images
from hsae.cli.framework.connections import Connections


def print_skipped(connections: Connections, study_id: int) -> None:
    """Print one line on standard error if the study's extraction skipped images."""
    with transaction(connections.sessions) as session:
        found = skipped_images(session, study_id)
    if found is not None and found.n_skipped:
        click.echo(
            f"{found.n_skipped} of {found.n_images} images could not be read and were skipped:"
            f" `hsae-admin dataset check {found.dataset}` lists them.",
            err=True,
        )


def skipped_json(connections: Connections, study_id: int) -> dict[str, Any] | None:
    """The same for programs; None before an extraction has succeeded."""
    with transaction(connections.sessions) as session:
        found = skipped_images(session, study_id)
    return None if found is None else asdict(found)
