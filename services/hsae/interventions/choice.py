"""Which latents stand for a node, from what they do on the images that select.

label        the label of the latent is the node, or a node under it
selectivity  activation inside the node over that outside, with a guard for latents that fire everywhere
attribution  gradient x activation on the node's log-odds
given        by hand
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from hsae.devices.numerics import products
from hsae.devices.precision import Precision
from hsae.errors import UserError
from hsae.interventions.edits import TokenPlaces, visited
from hsae.interventions.passes import LaterBlocks
from hsae.interventions.readouts import LinearReadout
from hsae.sae.model import SparseAutoencoder


@dataclass(frozen=True, slots=True, eq=False)
class LatentUse:
    """How latents fire inside and outside a node, on the images that select.

    Attributes:
        inside: mean activation inside.
        outside: mean activation outside.
        density_outside: share of the images outside on which a latent fires.
        density: share of all images on which it fires.
        typical: mean activation where it fires; 0 for one that never does.
    """

    inside: Float64[np.ndarray, "n_latents"]
    outside: Float64[np.ndarray, "n_latents"]
    density_outside: Float64[np.ndarray, "n_latents"]
    density: Float64[np.ndarray, "n_latents"]
    typical: Float64[np.ndarray, "n_latents"]

    @classmethod
    def of(cls, z: "sp.csr_array[np.float32]", is_inside: Bool[np.ndarray, "n"]) -> "LatentUse":
        """Of activations float32[n, n_latents]; images without any count as 0."""
        fires = (z > 0).astype(np.float64)
        exact = z.astype(np.float64)

        def mean(rows: "sp.csr_array[np.float64]") -> Float64[np.ndarray, "n_latents"]:
            return np.asarray(rows.sum(axis=0)).ravel() / max(1, rows.shape[0])

        n_fire: Float64[np.ndarray, "n_latents"] = np.asarray(fires.sum(axis=0)).ravel()
        typical = np.asarray(exact.sum(axis=0)).ravel() / np.maximum(1, n_fire)
        return cls(
            mean(exact[is_inside]), mean(exact[~is_inside]), mean(fires[~is_inside]), n_fire / max(1, len(is_inside)),
            typical,
        )  # fmt: skip

    def selectivity(self) -> Float64[np.ndarray, "n_latents"]:
        """Mean activation inside over that outside plus the mean of all latents.

        The last term (ours) keeps a latent that fired once, and never outside, from the first place. SAUCE (arXiv
        2503.14530) ranks by the activation on images with and without the concept; its exact formula is not followed.
        """
        whole = float((self.inside.mean() + self.outside.mean()) / 2)
        scores: Float64[np.ndarray, "n_latents"] = self.inside / (self.outside + (whole if whole > 0 else 1.0))
        return scores


def best_latents(
    scores: Float64[np.ndarray, "n_latents"],
    use: LatentUse,
    node: str,
    *,
    n_latents: int,
    max_density: float,
) -> Int64[np.ndarray, "n_chosen"]:
    """The latents with the greatest positive scores that do not fire everywhere; ties: the smaller latent.

    Args:
        scores: of every latent.
        use: how the latents fire.
        node: its name, for the message.
        n_latents: at most so many.
        max_density: of those that fire on a larger share of the images outside none is chosen.

    Raises:
        UserError: there is none.
    """
    is_good = (scores > 0) & (use.density_outside <= max_density) & (use.inside > 0)
    order = np.lexsort((np.arange(len(scores)), -scores))
    chosen = order[is_good[order]][:n_latents]
    if not len(chosen):
        raise UserError(
            f"{node} has no latent: none that fires on its images fires on at most {max_density:g} of the others: raise"
            " max_density, choose by label, or take another layer"
        )
    return np.sort(chosen)


def labelled_latents(ranked: Sequence[tuple[int, bool]], node: str, n_latents: int) -> Int64[np.ndarray, "n_chosen"]:
    """The surest latents whose label is at or under a node.

    Args:
        ranked: every latent, the surest first, and whether its label is at or under the node.
        node: its name, for the message.
        n_latents: at most so many.

    Raises:
        UserError: there is none.
    """
    chosen = [latent for latent, is_under in ranked if is_under][:n_latents]
    if not chosen:
        raise UserError(
            f"{node} has no latent: no label of this SAE is at or under it: choose by selectivity or attribution, or"
            " take another layer"
        )
    return np.array(sorted(chosen), np.int64)


@dataclass(frozen=True, slots=True)
class Attributed:
    """What attribution needs of a model: an SAE at a layer, and the probe behind the last one.

    Attributes:
        sae: on the device of the streams.
        layer: its layer.
        last: the layer that the probe reads.
        places: the tokens that are edited.
        probe: the readout.
        precision: of the products of the blocks between them, backwards, too.
    """

    sae: SparseAutoencoder
    layer: int
    last: int
    places: TokenPlaces
    probe: LinearReadout
    precision: Precision = "float32"

    def of_batch(
        self, blocks: LaterBlocks, stream: Tensor, is_inside: Sequence[Bool[np.ndarray, "n_classes"]]
    ) -> list[Float64[np.ndarray, "n_latents"]]:
        """For several nodes, gradient x activation of every latent, added over the images and tokens of a batch.

        The gradient is that of the node's log-odds at the unedited activations. To first order it is what the log-odds
        lose where the latent is taken away.

        Args:
            blocks: what follows the layer.
            stream: all tokens after the layer.
            is_inside: the classes of every node.
        """
        rows = visited(stream, self.places)
        with torch.no_grad():
            z = rows.latents(self.sae)
        change = torch.zeros_like(rows.x, requires_grad=True)
        # Where the change is 0 an edit keeps the bits, and has no gradient: it is added here.
        with torch.enable_grad():
            moved = _added(stream, self.places, change)
            final = blocks.resume(moved, self.layer, self.last) if self.last > self.layer else moved
            logits = self.probe.logits(final)
            found = []
            for at, inside in enumerate(is_inside):
                mask = torch.from_numpy(inside).to(logits.device)
                odds = logits[:, mask].logsumexp(1) - logits[:, ~mask].logsumexp(1)
                keep = at + 1 < len(is_inside)
                with products(self.precision):
                    (gradient,) = torch.autograd.grad(odds.sum(), change, retain_graph=keep)
                by_latent = (gradient @ self.sae.decoder_weight.T) / self.sae.input_scale
                found.append((by_latent * z).double().sum(0).cpu().numpy())
        return found


def attribution(
    attributed: Attributed,
    batches: Iterable[tuple[LaterBlocks, Tensor]],
    is_inside: Sequence[Bool[np.ndarray, "n_classes"]],
    check: Callable[[], None] = lambda: None,
) -> list[Float64[np.ndarray, "n_latents"]]:
    """The attribution of every latent to each of some nodes, added over batches; see `Attributed.of_batch`."""
    totals = [np.zeros(attributed.sae.n_latents) for _ in is_inside]
    for blocks, stream in batches:
        check()
        for total, found in zip(totals, attributed.of_batch(blocks, stream, is_inside), strict=True):
            total += found
    return totals


def _added(stream: Tensor, places: TokenPlaces, change: Tensor) -> Tensor:
    numbers = list(places.numbers)
    added = change.view(len(stream), -1, stream.shape[2]).expand(-1, len(numbers), -1)
    whole = torch.zeros(stream.shape, device=stream.device, dtype=torch.float32)
    index = torch.tensor(numbers, device=stream.device)
    return stream + whole.index_add(1, index, added.contiguous()).to(stream.dtype)
