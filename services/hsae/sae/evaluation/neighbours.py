"""CKNNA: whether the nearest neighbours of a row are the same among the latents as among the activations."""

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from hsae.devices.uploads import uploaded
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.random_streams import CKNNA_STREAM, generator
from hsae.sae.rows.source import ChunkedRows

N_NEIGHBOURS = 10
MOST_ROWS = 1_024
_BATCH_ROWS = 512
_DECIMALS = 10  # so that equal rows tie in any order of summation


@torch.no_grad()
def measure_cknna(
    sae: SparseAutoencoder, rows: ChunkedRows, positions: Int[Tensor, "n"], device: torch.device
) -> tuple[float | None, float | None]:
    """CKNNA of latents and activations, and its null: the same with the rows of the latents shuffled.

    It is over at most 1,024 of the rows, drawn with the SAE's seed. Activations are centred by the mean of these rows
    (ours: the rows of a layer share one great vector, which would make all of them neighbours); latents are not.

    Args:
        sae: on `device`.
        rows: where the activations are.
        positions: which of them, ascending.
        device: where latents are computed.

    Returns:
        Both None where they are undefined: on fewer than 12 rows, or where no two of them are similar.
    """
    drawn = generator(sae.config.seed, CKNNA_STREAM)
    if positions.shape[0] > MOST_ROWS:
        positions = positions[torch.from_numpy(np.sort(drawn.permutation(positions.shape[0])[:MOST_ROWS]))]
    n = positions.shape[0]
    if n < N_NEIGHBOURS + 2:
        return None, None
    chunks, latents = [], []
    for chunk in rows.chunks(positions, _BATCH_ROWS):
        chunks.append(chunk.to("cpu", torch.float64).numpy())
        latents.append(sp.csr_array(sae.encode(uploaded(chunk, device)).to(torch.float64).cpu().numpy()))
    x = np.concatenate(chunks)
    of_x = _cosines(sp.csr_array(x - x.mean(axis=0)))
    of_z = _cosines(sp.csr_array(sp.vstack(latents, format="csr")))
    order = drawn.permutation(n)
    return cknna(of_x, of_z), cknna(of_x, of_z[order][:, order])


def cknna(
    k: Float64[np.ndarray, "n n"], q: Float64[np.ndarray, "n n"], n_neighbours: int = N_NEIGHBOURS
) -> float | None:
    """Centred kernel nearest-neighbour alignment of two matrices of inner products of the same rows.

    With `a_K[i, j]` 1 where row `j` is one of the `n_neighbours` rows other than `i` with the greatest `K[i, j]` (ties:
    the smaller `j`) and 0 elsewhere, `*` by elements, and `HSIC` the unbiased estimator below,

        align(K, Q) = HSIC(a_K * a_Q * K, a_K * a_Q * Q)
        CKNNA(K, Q) = align(K, Q) / sqrt(align(K, K) align(Q, Q))

    1: the same neighbours at the same similarities; near 0: no more in common than by chance. It is Huh et al. 2024,
    "The Platonic Representation Hypothesis" (arXiv 2405.07987), as their published code computes it (rows of unit
    length, 10 neighbours; there 1e-6 is added to the denominator), which arXiv 2502.20578 measures SAEs by.

    Returns:
        None where an SAE's or the layer's own alignment is not above 0: its neighbours are no nearer than other rows.
    """
    near_k, near_q = _nearest(k, n_neighbours), _nearest(q, n_neighbours)
    near_both = near_k & near_q
    own = hsic(near_k * k, near_k * k), hsic(near_q * q, near_q * q)
    if min(own) <= 0:
        return None
    return float(hsic(near_both * k, near_both * q) / np.sqrt(own[0] * own[1]))


def hsic(k: Float64[np.ndarray, "n n"], q: Float64[np.ndarray, "n n"]) -> float:
    """The unbiased estimator of the Hilbert-Schmidt independence criterion (Song et al. 2012, JMLR 13, equation 5).

    With zeros on both diagonals,

        HSIC = (tr(K Q) + sum(K) sum(Q) / ((n - 1)(n - 2)) - 2 sum(K Q) / (n - 2)) / (n (n - 3))

    where `sum` adds all elements of a matrix.
    """
    n = len(k)
    k, q = k - np.diag(np.diag(k)), q - np.diag(np.diag(q))
    trace = float((k * q.T).sum())
    product_sum = float(k.sum(axis=0) @ q.sum(axis=1))
    total = trace + float(k.sum() * q.sum()) / ((n - 1) * (n - 2)) - 2 * product_sum / (n - 2)
    return total / (n * (n - 3))


def _cosines(rows: "sp.csr_array[np.float64]") -> Float64[np.ndarray, "n n"]:
    """Inner products of the rows at unit length; those of a row of zeros are 0."""
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    shares = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    unit = sp.diags_array(shares, format="csr") @ rows
    cosines: Float64[np.ndarray, "n n"] = np.round((unit @ unit.T).toarray(), _DECIMALS)
    return cosines


def _nearest(k: Float64[np.ndarray, "n n"], n_neighbours: int) -> Bool[np.ndarray, "n n"]:
    distances = -k
    np.fill_diagonal(distances, np.inf)
    found = np.argsort(distances, axis=1, kind="stable")[:, :n_neighbours]
    near = np.zeros(k.shape, np.bool_)
    np.put_along_axis(near, found, True, axis=1)
    return near
