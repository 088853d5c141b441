"""The images of data sets by their positions: path and classes, from the listing in the object store."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import pyarrow as pa

from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.inputs.stored import read_listing
from hsae.store.objects import ObjectStore

_N_KEPT = 2


@dataclass(frozen=True, slots=True)
class Listed:
    """An image: its position in the listing, its path, and the wnids of its classes."""

    image: int
    path: str
    classes: tuple[str, ...]


class Listings:
    """The listings that pages asked for last; threads share them. A million images take about 100 MB."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._kept: OrderedDict[str, pa.Table] = OrderedDict()
        self._lock = Lock()

    def images(self, dataset: DatasetRef, images: Sequence[int]) -> dict[int, Listed]:
        """The images at these positions that there are, by position.

        Raises:
            UserError: the listing cannot be read.
        """
        table = self._table(dataset)
        there = [image for image in dict.fromkeys(images) if 0 <= image < table.num_rows]
        rows = table.take(pa.array(there, pa.int64())).to_pylist()
        return {image: _listed(image, row) for image, row in zip(there, rows, strict=True)}

    def _table(self, dataset: DatasetRef) -> pa.Table:
        with self._lock:
            table = self._kept.get(dataset.listing_sha256)
            if table is None:
                listing = read_listing(self._store, dataset)
                wanted = [name for name in ("path", "class_id", "class_ids") if name in listing.column_names]
                table = listing.select(wanted)
                self._kept[dataset.listing_sha256] = table
                while len(self._kept) > _N_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(dataset.listing_sha256)
            return table


def _listed(image: int, row: dict[str, object]) -> Listed:
    classes = row.get("class_ids", [row.get("class_id")])
    return Listed(image, str(row["path"]), tuple(str(one) for one in classes or ()))  # type: ignore[attr-defined]
