"""hsae-admin dataset: register labelled images."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsae.cli.datasets.changes import remove, rename
from hsae.cli.datasets.labels import draft_mapping
from hsae.cli.datasets.report import Registration, print_registration
from hsae.cli.framework.completion import complete_datasets
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.groups import HelpfulGroup
from hsae.cli.printing.output import json_option, print_json, print_rows
from hsae.errors import UserError

if TYPE_CHECKING:
    from hsae.datasets import ImageDataset
    from hsae.taxonomy import SenseChoice, Taxonomy

_COLUMNS = {
    "name": "name",
    "n_images": "images",
    "n_classes": "classes",
    "n_nodes": "nodes",
    "taxonomy": "taxonomy",
    "root": "folder",
    "created_at": "registered",
}
_IMPORTANCE = ("name", "n_images", "n_classes", "root")


@click.group(cls=HelpfulGroup)
def dataset() -> None:
    """Register, check, rename and remove data sets."""


@dataset.command()
@click.argument("name")
@click.argument("path", type=click.Path())
@click.option("--mapping", type=click.Path(path_type=Path), help="CSV folder,synset for folders that are no synsets.")
@click.option(
    "--senses",
    type=click.Choice(["imagenet"]),
    help="Of a word with several senses take the one in the hierarchy of ImageNet-1k's classes.",
)
@click.option("--write-mapping", "draft", type=click.Path(path_type=Path), metavar="FILE",
              help="Register nothing; write a CSV for --mapping, filled in as far as labels are clear.")  # fmt: skip
@click.option("--taxonomy", type=click.Path(path_type=Path),
              help="Instead of WordNet: CSV child,parent or of ranks, or a folder named by rank paths.")  # fmt: skip
@json_option
@pass_connections
def add(
    connections: Connections,
    /,
    name: str,
    path: str,
    draft: Path | None,
    as_json: bool,
    **labelling: Any,
) -> None:
    """Register the images at PATH under NAME.

    PATH is a folder with one folder per class, named by wnid (n02084071), synset (dog.n.01) or a word with one sense
    (golden_retriever), or a CSV path,label with a row for every label of an image. Where words have several senses,
    --write-mapping writes a CSV to choose them in.
    The first data set registered is the default of `submit`.
    """
    if draft is not None:
        draft_mapping(connections, name, path, draft, as_json=as_json, **labelling)
        return
    registered = add_dataset(connections, name, path, **labelling)
    if as_json:
        print_json(registered.as_json())
    else:
        print_registration(registered)


def add_dataset(
    connections: Connections,
    name: str,
    location: str | Path,
    *,
    mapping: Path | None = None,
    taxonomy: Path | None = None,
    senses: "SenseChoice | None" = None,
) -> Registration:
    """Register the data set at a path or URI under a name."""
    from hsae.datasets import resolved, scan, source_at
    from hsae.pipeline.inputs.dataset_names import check_name
    from hsae.taxonomy import load_taxonomy

    # Refused before WordNet is loaded and all images are read.
    check_name(name)
    location = resolved(location)
    source_at(location).check()
    connections.sessions, connections.store  # noqa: B018
    loaded = load_taxonomy(taxonomy, wordnet=connections.settings.wordnet)
    images = scan(location, loaded, mapping=mapping, senses=senses)
    return register_scanned(connections, name, images, loaded)


def register_scanned(connections: Connections, name: str, images: "ImageDataset", taxonomy: "Taxonomy") -> Registration:
    """Register images that were scanned already."""
    from sqlalchemy import func, select

    from hsae.catalog import DatasetClass, transaction
    from hsae.pipeline.inputs.register import register_images

    row, is_new = register_images(name, images, taxonomy, connections.sessions, connections.store)
    with transaction(connections.sessions) as session:
        of_dataset = DatasetClass.dataset_id == row.id
        n_labels = session.execute(select(func.sum(DatasetClass.n_images)).where(of_dataset)).scalar_one()
    return Registration(row, is_new, images, n_labels)


@dataset.command("list")
@json_option
@pass_connections
def list_(connections: Connections, as_json: bool) -> None:
    """List registered data sets."""
    from sqlalchemy import select

    from hsae.catalog import Dataset, transaction

    with transaction(connections.sessions) as session:
        rows = session.scalars(select(Dataset).order_by(Dataset.id)).all()
    print_rows(
        [{key: getattr(row, key) for key in ("fingerprint", *_COLUMNS)} for row in rows],
        _COLUMNS,
        as_json=as_json,
        empty="No data set is registered: `hsae-admin dataset add NAME PATH`.",
        importance=_IMPORTANCE,
    )


@dataset.command()
@click.argument("name", shell_complete=complete_datasets)
@json_option
@pass_connections
def check(connections: Connections, name: str, as_json: bool) -> None:
    """Read every image of the data set NAME and list those that cannot be used."""
    from hsae.catalog import transaction
    from hsae.pipeline.inputs.dataset_names import find_dataset

    with transaction(connections.sessions) as session:
        row = find_dataset(session, name)
    from hsae.datasets import ImageDataset, check_images, source_at
    from hsae.pipeline.inputs.dataset_ref import dataset_ref
    from hsae.pipeline.inputs.stored import read_listing

    images = ImageDataset(
        source=source_at(row.root),
        fingerprint=row.fingerprint,
        listing=read_listing(connections.store, dataset_ref(row)),
        class_names={},
    )
    skipped = check_images(images, max_pixels=connections.settings.max_image_pixels)
    if as_json:
        print_json({"n_images": row.n_images, "skipped": [{"path": s.path, "reason": s.reason} for s in skipped]})
    else:
        for entry in skipped:
            click.echo(f"{entry.path}: {entry.reason}")
        click.echo(f"{row.n_images - len(skipped)} of {row.n_images} images can be read.")
    if len(skipped) > connections.settings.max_skipped_share * row.n_images:
        raise UserError(
            f"{len(skipped)} of {row.n_images} images cannot be read, more than HSAE_MAX_SKIPPED_SHARE allows"
        )


dataset.add_command(rename)
dataset.add_command(remove)
