"""Archetypal: directions are mixtures of candidate points of the data, with a bounded deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from hsae.sae.variants.topk import TopK
from hsae.sae.variants.variant import FigureStyle, Setting, StepDone

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from hsae.sae.weights import SaeWeights

_POINTS_PER_DIMENSION = 2
_FIRST_POINTS = 2
_TINY = 1e-8


@dataclass(frozen=True)
class Archetypal(TopK):
    """TopK with the decoder of a relaxed archetypal SAE (RA-SAE; Fel et al. 2025, arXiv 2502.12892, section 4).

        paper   D = W C + Lambda,   W >= 0 with rows that sum to 1,   |Lambda_j| <= delta
        here    d_j = unit(a_j + Lambda_j),   a_j = unit((W C)_j),   |Lambda_j| <= delta

    C (`points`) are k-means centroids of training rows, as in the paper; W is `mixture`, Lambda is `relaxation`. After
    each step negative weights become 0, rows of W are divided by their sums, and a Lambda too long is shortened.

    Ours: directions have unit norm as in every SAE here, so that `z` is a length and the losses keep their scale. The
    paper leaves atoms as long as the mixture makes them (its authors' code multiplies all with one learned number). A
    direction lies in the cone of the points instead of their hull. Points are relative to the first `pre_bias`, which
    our decoder adds. The deviation is measured on the unit mixture: whatever the points' lengths, the sine of the angle
    between a direction and its mixture is at most delta. Each latent starts as a mixture of two points drawn with the
    seed.
    """

    kind = "archetypal"
    title = "Archetypal SAE"
    style = FigureStyle(colour="#661100", marker="p", control_width=1.0)
    free_directions = False

    n_points: Annotated[
        int | None,
        Ge(1),
        Setting("candidate points: k-means centroids of training rows; none: twice d_model. Fewer rows are repeated"),
    ] = None
    delta: Annotated[
        float,
        Ge(0),
        Le(1),
        Setting(
            "greatest sine of the angle between a direction and its mixture of points",
            option="--delta",
            help="Greatest sine of the angle of an archetypal SAE's direction and its mixture.  [default: 0.1]",
        ),
    ] = 0.1

    def own_parameters(self, n_latents: int, d_model: int) -> Mapping[str, tuple[int, ...]]:
        """W and Lambda."""
        return {"mixture": (n_latents, self._n_points(d_model)), "relaxation": (n_latents, d_model)}

    def own_buffers(self, n_latents: int, d_model: int) -> Mapping[str, tuple[int, ...]]:
        """C, in scaled space, relative to the first `pre_bias`."""
        return {"points": (self._n_points(d_model), d_model)}

    def fit(self, sae: SaeWeights, centred: Float[Tensor, "n_rows d_model"], seed: int) -> None:
        """Find the points, draw the mixtures, and make the directions from them."""
        import torch

        from hsae.sae.kernels.centroids import centroids

        points, mixture = sae.get_buffer("points"), sae.get_parameter("mixture")
        points.copy_(centroids(centred, points.shape[0], seed))
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(mixture.shape, generator=generator).topk(min(_FIRST_POINTS, mixture.shape[1]), dim=1).indices
        mixture.scatter_(1, drawn, torch.rand(drawn.shape, generator=generator) + _TINY)
        self._project(sae)

    def before_step(self, sae: SaeWeights) -> None:
        """The gradient of the directions goes on to mixtures and deviations; the directions themselves get none."""
        import torch

        gradient = sae.decoder_weight.grad
        assert gradient is not None  # noqa: S101
        with torch.enable_grad():
            torch.autograd.backward(self.directions(sae), gradient)
        gradient.zero_()

    def after_step(self, sae: SaeWeights, done: StepDone) -> None:
        """Mixtures and deviations return to what is allowed; the directions follow them."""
        self._project(sae)

    def directions(self, sae: SaeWeights) -> Float[Tensor, "n_latents d_model"]:
        """The directions of mixtures and deviations, with a gradient towards both."""
        archetypes = _unit(sae.get_parameter("mixture") @ sae.get_buffer("points"))
        return _unit(archetypes + sae.get_parameter("relaxation"))

    def _project(self, sae: SaeWeights) -> None:
        mixture, relaxation = sae.get_parameter("mixture"), sae.get_parameter("relaxation")
        mixture.relu_()
        mixture.div_(mixture.sum(dim=1, keepdim=True).clamp_min(_TINY))
        length = relaxation.norm(dim=1, keepdim=True).clamp_min(_TINY)
        relaxation.mul_((self.delta / length).clamp_max(1.0))
        sae.decoder_weight.copy_(self.directions(sae))

    def _n_points(self, d_model: int) -> int:
        return _POINTS_PER_DIMENSION * d_model if self.n_points is None else self.n_points


def _unit(vectors: Tensor) -> Tensor:
    lengths: Tensor = vectors.norm(dim=1, keepdim=True)
    return vectors / lengths.clamp_min(_TINY)
