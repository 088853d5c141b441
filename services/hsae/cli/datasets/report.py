"""The report of `dataset add`, and of a submit that registers a folder, about the registered images."""

from typing import Any

import click

from hsae.cli.datasets.labels import labels_json, print_decisions
from hsae.datasets import ImageDataset, told_apart
from hsae.pipeline.submission.registration import Registration

_N_MERGED = 8


def print_registration(registration: Registration, *, err: bool = False) -> None:
    """Print how labels were resolved, what was registered, what was left out, and which names are of the same class."""
    row, images = registration.dataset, registration.images
    print_decisions(images.decisions, err=err)
    labels = f" with {registration.n_labels} labels" if registration.n_labels > row.n_images else ""
    click.echo(
        f"{'Registered' if registration.is_new else 'Already registered:'} {row.name}: {row.n_images} images{labels} of"
        f" {row.n_classes} classes, {row.n_nodes} taxonomy nodes ({row.taxonomy}).",
        err=err,
    )
    if images.left_out:
        click.echo(f"Left out: {images.left_out.text()}.", err=err)
    if images.merged:
        click.echo(f"One class under several names: {_merged(images)}.", err=err)


def registration_json(registration: Registration) -> dict[str, Any]:
    """The registration for programs."""
    columns = ("name", "fingerprint", "checksums", "n_images", "n_classes", "n_nodes", "taxonomy", "root", "created_at")
    images = registration.images
    return {name: getattr(registration.dataset, name) for name in columns} | {
        "n_labels": registration.n_labels,
        "new": registration.is_new,
        "left_out": images.left_out.as_json(),
        "labels": labels_json(images.decisions),
        "merged": [{"class": class_id, "names": list(names)} for class_id, names in images.merged.items()],
    }


def _merged(images: ImageDataset) -> str:
    classes = [
        " = ".join(told_apart(list(names))) + ("" if class_id in names else f" ({class_id})")
        for class_id, names in images.merged.items()
    ]
    more = len(classes) - _N_MERGED
    return "; ".join(classes[:_N_MERGED]) + (f"; and {more} more classes" if more > 0 else "")
