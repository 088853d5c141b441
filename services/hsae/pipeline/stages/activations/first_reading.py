"""Checksums of files that no registration has read: the first extraction enters them, later ones compare."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from hsae.catalog import ImageChecksum
from hsae.datasets import source_at
from hsae.errors import UserError
from hsae.extraction.listed import ListedImage
from hsae.pipeline.inputs.dataset_ref import DatasetRef

_ROWS_PER_INSERT = 5000


def check_first_reading(
    session: Session, dataset: DatasetRef, images: Sequence[ListedImage], checksums: Mapping[int, str]
) -> None:
    """Enter the checksums of files that were read for the first time, and compare the others with the first ones.

    Args:
        session: enters them in its transaction. Images come in their order, so that two of these wait for each other
            at most one way.
        dataset: the images are of.
        images: in the order of the listing; nothing is done where their files were read at the registration.
        checksums: sha256 (hex) of the files that were read now, by image.

    Raises:
        UserError: a file has another content than at its first reading, though its version is the same.
    """
    read = [one for one in images if one.sha256 is None and one.image in checksums]
    for start in range(0, len(read), _ROWS_PER_INSERT):
        part = read[start : start + _ROWS_PER_INSERT]
        rows = [{"dataset_id": dataset.id, "image": one.image, "sha256": checksums[one.image]} for one in part]
        session.execute(insert(ImageChecksum).on_conflict_do_nothing(), rows)
        of_part = ImageChecksum.image.between(part[0].image, part[-1].image)
        query = select(ImageChecksum.image, ImageChecksum.sha256).where(ImageChecksum.dataset_id == dataset.id, of_part)
        first = {row.image: row.sha256 for row in session.execute(query)}
        changed = [one.path for one in part if first[one.image] != checksums[one.image]]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise UserError(
                f"{source_at(dataset.root).locate(changed[0])}{more}: not the content that an extraction read first,"
                " though size and time are the same: register the data set anew with `dataset add`"
            )
