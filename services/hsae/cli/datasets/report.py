"""What `dataset add`, and a submit that registers a folder, say of the images that they registered."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from hsae.cli.datasets.labels import labels_json, print_decisions

if TYPE_CHECKING:
    from hsae.catalog import Dataset
    from hsae.datasets import ImageDataset

_N_MERGED = 8


@dataclass(frozen=True, slots=True)
class Registration:
    """A registered data set, whether it is new, and what its scan found; `n_labels`: of all images together."""

    dataset: "Dataset"
    is_new: bool
    images: "ImageDataset"
    n_labels: int

    def as_json(self) -> dict[str, Any]:
        """All of it for programs."""
        columns = ("name", "fingerprint", "n_images", "n_classes", "n_nodes", "taxonomy", "root", "created_at")
        return {name: getattr(self.dataset, name) for name in columns} | {
            "n_labels": self.n_labels,
            "new": self.is_new,
            "left_out": self.images.left_out.as_json(),
            "labels": labels_json(self.images.decisions),
            "merged": [{"class": class_id, "names": list(names)} for class_id, names in self.images.merged.items()],
        }


def print_registration(registration: Registration, *, err: bool = False) -> None:
    """How labels were read, what was registered, what was left out, and which names mean the same class."""
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


def _merged(images: "ImageDataset") -> str:
    from hsae.datasets import told_apart

    classes = [
        " = ".join(told_apart(list(names))) + ("" if class_id in names else f" ({class_id})")
        for class_id, names in images.merged.items()
    ]
    more = len(classes) - _N_MERGED
    return "; ".join(classes[:_N_MERGED]) + (f"; and {more} more classes" if more > 0 else "")
