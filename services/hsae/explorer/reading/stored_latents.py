"""Which latents fire on an image, and on which images a latent fires: read from copies, never whole in memory."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64

from hsae.explorer.reading.local_copies import LocalCopies
from hsae.store.keys import latents_key

_ENTRIES_AT_ONCE = 1 << 22


@dataclass(frozen=True, slots=True)
class Firing:
    """Where something fires, the strongest first.

    Attributes:
        where: numbers of latents, or of images.
        activations: how strongly there.
    """

    where: Int64[np.ndarray, "n"]
    activations: Float32[np.ndarray, "n"]


class StoredLatents:
    """The stored activations of analyses, by image and by latent; threads share it."""

    def __init__(self, copies: LocalCopies) -> None:
        self._copies = copies

    def of_image(self, analysis_key: str, sha256: str, image: int) -> Firing | None:
        """The latents that fire on an image of the data set's listing; None if the image was not encoded."""
        with self._copies.opened(latents_key(analysis_key, sha256), sha256) as file:
            rows = np.flatnonzero(file.get_tensor("images") == image)
            if len(rows) == 0:
                return None
            start, end = (int(edge) for edge in file.get_slice("indptr")[int(rows[0]) : int(rows[0]) + 2])
            indices = file.get_slice("indices")[start:end]
            data = file.get_slice("data")[start:end]
        return _strongest(indices.astype(np.int64), data)

    def of_latent(self, analysis_key: str, sha256: str, latent: int) -> tuple[Firing, int]:
        """The images on which a latent fires, by their numbers in the listing, and how many were encoded."""
        with self._copies.opened(latents_key(analysis_key, sha256), sha256) as file:
            images: Int32[np.ndarray, "n_images"] = file.get_tensor("images")
            indptr = file.get_tensor("indptr")
            indices, data = file.get_slice("indices"), file.get_slice("data")
            found, values = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
            for start in range(0, int(indptr[-1]), _ENTRIES_AT_ONCE):
                end = min(start + _ENTRIES_AT_ONCE, int(indptr[-1]))
                places = np.flatnonzero(indices[start:end] == latent)
                if len(places):
                    found.append(places + start)
                    values.append(data[start:end][places])
        entries = np.concatenate(found)
        rows = np.searchsorted(indptr, entries, side="right") - 1
        return _strongest(images[rows].astype(np.int64), np.concatenate(values)), len(images)


def _strongest(where: Int64[np.ndarray, "n"], activations: Float32[np.ndarray, "n"]) -> Firing:
    fires = activations > 0
    where, activations = where[fires], activations[fires]
    order = np.lexsort((where, -activations))
    return Firing(where[order], activations[order])
