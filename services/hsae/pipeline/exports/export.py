"""Analyses as files, so that anyone can check them and continue from them with other tools."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int32
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import Dataset, DatasetClass, Synset, transaction
from hsae.catalog.queries.analyses import find_analysis
from hsae.catalog.queries.conditions import Row
from hsae.errors import UserError
from hsae.hierarchy.statistics.class_sums import ClassSums
from hsae.pipeline.exports.files import Exported, write_files
from hsae.pipeline.exports.page import write_index, write_page
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.image_split import split_listing
from hsae.pipeline.inputs.stored import read_listing, read_taxonomy
from hsae.pipeline.stages.latent_activations import get_latent_activations
from hsae.pipeline.upkeep.damage import losses_noted
from hsae.report.setting_names import setting_names
from hsae.split_config import split_of
from hsae.store.keys import class_sums_key, weights_key
from hsae.store.objects import ObjectStore
from hsae.store.tensors import get_tensors


def export_analysis(analysis: int | None, folder: Path, sessions: sessionmaker[Session], store: ObjectStore) -> Row:
    """Write an analysis (None: the latest) to `folder`, which must be new or empty; returns what was exported.

    `README.md`, written beside the files, describes each of them.

    Raises:
        UserError: there is no such analysis, or `folder` is not empty.
    """
    with _written_aside(folder) as aside:
        row = _export(analysis, aside, sessions, store)
    return row | {"folder": str(folder)}


def export_analyses(
    analyses: Sequence[int], folder: Path, sessions: sessionmaker[Session], store: ObjectStore
) -> list[Row]:
    """Write each of the analyses to its own folder `analysis-<number>` in `folder`, which must be new or empty.

    Raises:
        UserError: as `export_analysis`; then nothing is written.
    """
    rows = []
    with _written_aside(folder) as aside:
        for number in analyses:
            own = aside / f"analysis-{number}"
            own.mkdir()
            rows.append(_export(number, own, sessions, store) | {"folder": str(folder / own.name)})
        names = setting_names({row["id"]: row["sae_config"] for row in rows}, always=("kind", "expansion"))
        write_index(aside, [row | {"sae": names[row["id"]]} for row in rows])
    return rows


@contextmanager
def _written_aside(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that replaces it at the end: a failed export leaves no partial files."""
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror or error}): choose another with -o") from error
    if taken:
        raise UserError(f"{folder} is not an empty folder: choose another with -o")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield aside
            aside.chmod(0o755)
            if folder.exists():
                folder.rmdir()
            aside.rename(folder)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror or error}): choose another with -o") from error


def _export(analysis: int | None, target: Path, sessions: sessionmaker[Session], store: ObjectStore) -> Row:
    """Write one analysis' files into `target`."""
    with transaction(sessions) as session:
        found = find_analysis(session, analysis)
        dataset = dataset_ref(session.get_one(Dataset, found["dataset_id"]))
        labels = session.execute(
            select(Synset.wnid, DatasetClass.label)
            .join(Synset, Synset.id == DatasetClass.synset_id)
            .where(DatasetClass.dataset_id == dataset.id)
        ).all()
    sums_sha256, weights_sha256 = found["class_sums_sha256"], found["weights_sha256"]
    with losses_noted(sessions, "results export"):
        latents = get_latent_activations(store, found["key"], found["activations_sha256"])
        tensors, _ = get_tensors(store, class_sums_key(found["key"], sums_sha256), sha256=sums_sha256)
        weights = store.get(weights_key(found["sae_key"], weights_sha256), sha256=weights_sha256)
    listing = read_listing(store, dataset)
    exported = Exported(
        row=found | {"image_root": dataset.root},
        latents=latents,
        sums=ClassSums.from_arrays({name: tensor.numpy() for name, tensor in tensors.items()}),
        taxonomy=read_taxonomy(store, dataset),
        listing=listing.take(latents.images),
        labels={row.wnid: row.label for row in labels},
        weights=weights,
        parts=_parts(found["split"], listing, latents.images),
    )
    n_pairs = write_files(target, exported)
    write_page(target, exported, n_pairs)
    return exported.row | {"n_pairs": n_pairs, "n_latents": latents.z.shape[1]}


def _parts(stored: Row | None, listing: pa.Table, images: Int32[np.ndarray, "n_images"]) -> list[str] | None:
    """What each image does, given by their numbers in the listing."""
    config = split_of(stored)
    if config is None:
        return None
    split = split_listing(listing, config)
    names = np.array(["train and select" if split.is_halved else "train", "select", "score", "unused"])
    return [str(name) for name in names[split.part[images]]]
