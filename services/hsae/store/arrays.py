"""Named tensors of a safetensors object as NumPy arrays, without torch, which takes seconds to load."""

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from hsae.store.faults import ObjectCorruptError
from hsae.store.objects import ObjectStore


def get_arrays(store: ObjectStore, key: str, *, sha256: str | None) -> dict[str, np.ndarray]:
    """The tensors of the object `key`, none of which may be of bfloat16 (NumPy has no such type).

    Raises:
        ObjectCorruptError: the object is no safetensors file.
        UserError: as for `ObjectStore.get`.
    """
    data = store.get(key, sha256=sha256)
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ObjectCorruptError(key, store.bucket, f"no safetensors file: {error}") from error
