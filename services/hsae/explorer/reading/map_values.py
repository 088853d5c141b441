"""The values of single relevancy maps, read from copies of objects that may hold thousands of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hsae.explorer.reading.local_copies import LocalCopies
from hsae.pipeline.gallery.stored_maps import PatchMap
from hsae.store.keys import maps_key


def map_values(copies: LocalCopies, row: Mapping[str, Any]) -> PatchMap:
    """The map of a row of `map_rows` that has one.

    Raises:
        ServiceError: too many copies are being made already.
        UserError: the maps are lost or damaged.
    """
    with copies.opened(maps_key(row["maps_key"], row["maps_sha256"]), row["maps_sha256"]) as file:
        place = int(row["map_index"])
        (values,) = np.asarray(file.get_slice(row["method"])[place : place + 1])
    return values
