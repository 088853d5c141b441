"""What ablating a latent takes from the image embedding of its strongest images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from hsae.devices.uploads import uploaded
from hsae.interventions.edits import Edit, Rows, TokenPlaces, VisitedRows, decodes_linearly
from hsae.interventions.passes import Intervention, LaterBlocks, LayerEdit, outcomes
from hsae.sae.model import SparseAutoencoder

Embed = Callable[[Float[Tensor, "batch n_all d_model"]], Float[Tensor, "batch d_embedding"]]
"""From the stream after the last block to the image's embedding."""


@dataclass(frozen=True)
class OwnLatentAway(Edit):
    """Of every image another latent becomes 0; the SAE's error term stays.

    Attributes:
        sae: the SAE of the layer, on the device of the stream.
        latents: the latent of every image, in the order of the stream.
    """

    sae: SparseAutoencoder
    latents: Int64[Tensor, "batch"]

    def change(self, rows: VisitedRows) -> Rows:
        """decode(z') - decode(z)."""
        z = rows.latents(self.sae)
        own = self.latents.repeat_interleave(len(z) // len(self.latents))
        if decodes_linearly(self.sae):
            return -z.gather(1, own[:, None]) * self.sae.decoder_weight[own] / self.sae.input_scale
        return self.sae.decode(z.scatter(1, own[:, None], 0.0)) - self.sae.decode(z)


@dataclass(frozen=True, slots=True)
class EmbeddedPass:
    """Where latents are ablated and what is read.

    Attributes:
        sae: the SAE.
        layer: its layer.
        last: the last layer.
        places: the tokens that are edited.
        embed: reads the image's embedding.
    """

    sae: SparseAutoencoder
    layer: int
    last: int
    places: TokenPlaces
    embed: Embed


@dataclass(frozen=True, slots=True)
class EffectOf:
    """An image and a latent that is ablated on it.

    Attributes:
        row: of the image in its batch.
        latent: the latent.
        position: where its effect is added up.
    """

    row: int
    latent: int
    position: int


@dataclass(slots=True, eq=False)
class Effects:
    """Mean changes of unit embeddings, added up batch by batch.

    Attributes:
        n_latents: how many latents there are.
        total: sum over the images of (with the latent - without it), float64[n_latents, d_embedding]; None: no image.
        n_images: images of every latent.
    """

    n_latents: int
    total: Tensor | None = None
    n_images: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """No image yet."""
        self.n_images = torch.zeros(self.n_latents, dtype=torch.int64)

    def add(self, positions: Int64[Tensor, "n"], change: Float[Tensor, "n d_embedding"]) -> None:
        """Add the changes of some images, each of one latent."""
        given = change.double().cpu()
        if self.total is None:
            self.total = torch.zeros(self.n_latents, given.shape[1], dtype=torch.float64)
        self.total.index_add_(0, positions, given)
        self.n_images += torch.bincount(positions, minlength=self.n_latents)

    @property
    def mean(self) -> Float[Tensor, "n_latents d_embedding"]:
        """The mean change; 0 of latents without images."""
        if self.total is None:
            return torch.zeros(self.n_latents, 1, dtype=torch.float64)
        return self.total / self.n_images.clamp(min=1)[:, None]


def add_effects(
    effects: Effects,
    embedded: EmbeddedPass,
    blocks: LaterBlocks,
    stream: Float[Tensor, "batch n_all d_model"],
    pairs: Sequence[EffectOf],
    batch_size: int,
) -> None:
    """Ablate latents on a batch of images, each pair of an image and a latent in a pass of its own row.

    Args:
        effects: what is added to.
        embedded: where and how.
        blocks: what follows the layer.
        stream: the images after the layer, unedited.
        pairs: the images and latents.
        batch_size: rows per pass.
    """
    with torch.no_grad():
        layer, last = embedded.layer, embedded.last
        plain = blocks.resume(stream, layer, last) if last > layer else stream
        before = nn.functional.normalize(embedded.embed(plain), dim=1)
        for start in range(0, len(pairs), batch_size):
            part = pairs[start : start + batch_size]
            rows = uploaded(torch.tensor([pair.row for pair in part]), stream.device)
            latents = uploaded(torch.tensor([pair.latent for pair in part]), stream.device)
            positions = torch.tensor([pair.position for pair in part])
            edit = LayerEdit(layer, embedded.places, OwnLatentAway(embedded.sae, latents))
            (after,) = outcomes(blocks, layer, stream[rows], [Intervention((edit,))], last)
            effects.add(positions, before[rows] - nn.functional.normalize(embedded.embed(after), dim=1))
