"""The values of relevancy maps that rows of the catalog name."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float16

from hsae.store.arrays import get_arrays
from hsae.store.keys import maps_key
from hsae.store.objects import ObjectStore

PatchMap = Float16[np.ndarray, "n_patch_rows n_patch_cols"]
"""A map: 1 at the most relevant patch, 0 where a patch does not matter."""


def read_maps(store: ObjectStore, rows: Sequence[Mapping[str, Any]]) -> list[PatchMap | None]:
    """The map of every row; None where it is undefined. An object that several rows name is read once.

    Args:
        store: where they are stored.
        rows: of `hsae.catalog.findings.maps.map_rows`.

    Raises:
        ObjectMissingError, ObjectCorruptError: the values are lost; the next submit of maps makes them again.
    """
    objects: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    found: list[PatchMap | None] = []
    for row in rows:
        if row["map_index"] is None:
            found.append(None)
            continue
        named = (row["maps_key"], row["maps_sha256"])
        if named not in objects:
            objects[named] = get_arrays(store, maps_key(*named), sha256=named[1])
        found.append(objects[named][row["method"]][row["map_index"]])
    return found
