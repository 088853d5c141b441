"""Activations in memory, and an SAE's latents of them."""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from hsae.errors import UserError
from hsae.sae.model import SparseAutoencoder

Rows = Float[np.ndarray, "n_rows d_model"] | Float[Tensor, "n_rows d_model"]
_ROWS_PER_BATCH = 4096


def as_rows(x: Any) -> tuple[Float[Tensor, "n_rows d_model"], int]:
    """Activations as a matrix on the CPU, and how many rows an image has.

    Args:
        x: float[n_images, d_model], or float[n_images, n_tokens, d_model], as NumPy array, torch tensor or lists.

    Raises:
        UserError: it has another shape, or is no array of floating-point numbers.
    """
    try:
        tensor = x.detach().cpu().to_dense() if isinstance(x, Tensor) else torch.from_numpy(np.ascontiguousarray(x))
    except (TypeError, ValueError) as error:
        raise UserError(f"the activations are no array of numbers ({error}): give float[n_images, d_model]") from error
    if tensor.ndim not in (2, 3) or 0 in tensor.shape:
        raise UserError(
            f"the activations are {list(tensor.shape)}: give [n_images, d_model], or [n_images, n_tokens, d_model]"
        )
    if not tensor.is_floating_point():
        raise UserError(f"the activations are {tensor.dtype}: give floating-point numbers")
    if tensor.dtype == torch.float64:
        tensor = tensor.float()
    return tensor.flatten(0, -2), 1 if tensor.ndim == 2 else tensor.shape[1]


def latents_of(sae: SparseAutoencoder, x: Any) -> "sp.csr_array[np.float32]":
    """An SAE's latents of activations; of an image with several tokens a latent's greatest activation over them.

    Args:
        sae: on any device.
        x: as for `as_rows`.

    Returns:
        float32[n_images, n_latents].

    Raises:
        UserError: as `as_rows`; the width is not the SAE's, or a value is NaN or infinite.
    """
    rows, n_tokens = as_rows(x)
    if rows.shape[1] != sae.d_model:
        raise UserError(
            f"the activations have {rows.shape[1]} dimensions and the SAE {sae.d_model}: give those of its layer"
        )
    check_finite_rows(rows)
    device = sae.pre_bias.device
    found = []
    with torch.inference_mode():
        for part in torch.split(rows, max(1, _ROWS_PER_BATCH // n_tokens) * n_tokens):
            z = sae.encode(part.to(device)).view(-1, n_tokens, sae.n_latents).amax(1)
            found.append(sp.csr_array(z.cpu().numpy()))
    return sp.csr_array(sp.vstack(found, format="csr"))


def check_finite_rows(rows: Float[Tensor, "n_rows d_model"]) -> None:
    """Check that no row holds NaN or infinity.

    Raises:
        UserError: names the first row that does.
    """
    finite = torch.isfinite(rows).all(dim=1)
    if not bool(finite.all()):
        raise UserError(f"row {int((~finite).to(torch.uint8).argmax())} of the activations holds NaN or infinity")


def mean_rows(x: Any) -> Float32[np.ndarray, "n_images d_model"]:
    """One row of activations for each image: its only token, or the mean of its tokens. Raises as `as_rows`."""
    rows, n_tokens = as_rows(x)
    means: Tensor = rows.float() if n_tokens == 1 else rows.float().view(-1, n_tokens, rows.shape[1]).mean(1)
    return means.numpy()
