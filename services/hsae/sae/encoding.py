"""Latents of many rows at once, without their zeros."""

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float
from torch import Tensor

from hsae.errors import UserError
from hsae.sae.model import SparseAutoencoder


@torch.no_grad()
def encode_sparse(
    sae: SparseAutoencoder, x: Float[Tensor, "n_rows d_model"], *, batch_size: int = 2_048
) -> "scipy.sparse.csr_array[np.float32, tuple[int, int]]":
    """The latents of raw activations as float32 [n_rows, n_latents], on the device of the SAE.

    The values are those of `sae.encode` on the consecutive batches of `batch_size` rows; zeros are not stored and the
    column numbers of a row ascend. Raises UserError when a row holds NaN or infinity.
    """
    device = sae.pre_bias.device
    counts, columns, values = [np.zeros(1, np.int64)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for start in range(0, x.shape[0], batch_size):
        batch = x[start : start + batch_size].to(device)
        finite = torch.isfinite(batch).all(dim=1)
        if not bool(finite.all()):
            row = start + int((~finite).to(torch.uint8).argmax())
            raise UserError(
                f"activation row {row} holds NaN or infinity: extract the activations in float32, or leave that "
                "image out"
            )
        dense = sae.encode(batch).cpu().numpy()
        firing_rows, firing_latents = np.nonzero(dense)
        counts.append(np.bincount(firing_rows, minlength=dense.shape[0]))
        columns.append(firing_latents.astype(np.int32))
        values.append(dense[firing_rows, firing_latents])
    offsets = np.cumsum(np.concatenate(counts))
    if offsets[-1] <= np.iinfo(np.int32).max:
        offsets = offsets.astype(np.int32)
    return scipy.sparse.csr_array(
        (np.concatenate(values), np.concatenate(columns), offsets), shape=(x.shape[0], sae.n_latents)
    )
