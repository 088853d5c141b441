"""Registers a data set: `dataset add`, and a submit of a folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from hsae.catalog import Dataset, DatasetClass, transaction
from hsae.datasets import ImageDataset, WhenRead, resolved, scan, source_at
from hsae.datasets.mapping import MAPPING_COLUMNS
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.pipeline.inputs.dataset_names import NameTakenError, check_name
from hsae.pipeline.inputs.register import register_images
from hsae.taxonomy import SenseChoice, Taxonomy, load_taxonomy
from hsae.taxonomy.csv_rows import read_csv_rows

_N_NAMES = 100


@dataclass(frozen=True, slots=True)
class Registration:
    """A registered data set.

    Attributes:
        dataset: its row.
        is_new: whether it was registered now.
        images: the result of its scan.
        n_labels: number of labels of all images together.
    """

    dataset: Dataset
    is_new: bool
    images: ImageDataset
    n_labels: int


def add_dataset(
    connections: Connections,
    name: str,
    location: str | Path,
    *,
    mapping: Path | None = None,
    taxonomy: Path | None = None,
    senses: SenseChoice | None = None,
    checksums: WhenRead | None = None,
) -> Registration:
    """Register the data set at a path or URI under a name.

    Args:
        connections: the service.
        name: of the data set.
        location: path or URI.
        mapping: as in `scan`.
        taxonomy: of a custom tree; None: WordNet.
        senses: as in `scan`.
        checksums: when files are read first; None: as for the data set that has the name already, otherwise at the
            registration.

    Raises:
        UserError: the data set cannot be registered.
    """
    # Refused before WordNet is loaded and all images are read.
    check_name(name)
    location = resolved(location)
    source_at(location).check()
    if mapping is not None:
        read_csv_rows(mapping, MAPPING_COLUMNS)
    connections.sessions, connections.store  # noqa: B018
    loaded = load_taxonomy(taxonomy, wordnet=connections.settings.wordnet)
    checksums = checksums or _when_read(connections, (name,))
    images = scan(location, loaded, mapping=mapping, senses=senses, checksums=checksums)
    return register_scanned(connections, name, images, loaded)


def register_scanned(connections: Connections, name: str, images: ImageDataset, taxonomy: Taxonomy) -> Registration:
    """Register images that were scanned already."""
    row, is_new = register_images(name, images, taxonomy, connections.sessions, connections.store)
    with transaction(connections.sessions) as session:
        of_dataset = DatasetClass.dataset_id == row.id
        n_labels = session.execute(select(func.sum(DatasetClass.n_images)).where(of_dataset)).scalar_one()
    return Registration(row, is_new, images, n_labels)


def register_under_own_name(
    connections: Connections, own: str, location: str, *, registered_as: tuple[str, ...], option: str
) -> Registration:
    """Register the images of a submit; where other images have the name, under it with a number.

    Args:
        connections: the service.
        own: the name of the folder or file itself.
        location: an absolute path or URI.
        registered_as: the names of data sets that were registered from there.
        option: what the user gave the location by.

    Raises:
        UserError: the images cannot be registered.
    """
    taxonomy = load_taxonomy(wordnet=connections.settings.wordnet)
    try:
        images = scan(location, taxonomy, checksums=_when_read(connections, registered_as))
    except UserError as error:
        if not registered_as:
            raise
        raise UserError(
            f"{error}; if it was registered with a mapping or another taxonomy, take it by its name:"
            f" {option} {registered_as[0]}"
        ) from error
    # Images that were added since are another data set, which may not take the place of the one of this very name.
    # A name that others gave to this folder may be that of a CSV in it.
    names = registered_as if own in registered_as else (*registered_as, own, *_further_names(own))
    taken: NameTakenError | None = None
    for name in names:
        try:
            return register_scanned(connections, name, images, taxonomy)
        except NameTakenError as error:
            taken = taken or error
    raise taken or UserError(f"no name is left for {location}: `hsae-admin dataset add NAME {location}`")


def _when_read(connections: Connections, names: tuple[str, ...]) -> WhenRead:
    """When the files of the data set of the first of these names are read; of a new data set at the registration."""
    with transaction(connections.sessions) as session:
        found = session.scalar(select(Dataset.checksums).where(Dataset.name.in_(names)).order_by(Dataset.id).limit(1))
    return "extraction" if found == "extraction" else "registration"


def _further_names(own: str) -> Iterator[str]:
    return (f"{own}-{number}" for number in range(2, _N_NAMES))
