"""Whether a map says what the model uses: what becomes of a latent as patches are taken away or brought in.

Deletion and insertion (Petsiuk, Das and Saenko 2018, arXiv 1806.07421): patches in the order of their relevancy. A
good map makes the activation fall at once when its patches go, and rise at once when they come.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hsae.backbones.backbone import Backbone
from hsae.relevancy.objective import Objective


@dataclass(frozen=True, slots=True)
class Curves:
    """The objective on every image as patches go or come, most relevant first.

    Attributes:
        deletion: from the whole image to none of its patches.
        insertion: from none to the whole image.
    """

    deletion: Float[Tensor, "n n_points"]
    insertion: Float[Tensor, "n n_points"]

    def areas(self) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        """The areas under the two curves, in units of the whole image's value; NaN where that is not above 0."""
        whole = self.deletion[:, 0]
        whole = torch.where(whole > 0, whole, torch.nan)
        return _area(self.deletion) / whole, _area(self.insertion) / whole


def curves(
    backbone: Backbone,
    objective: Objective,
    images: Float[Tensor, "n 3 height width"],
    maps: Float[Tensor, "n n_patch_rows n_patch_cols"],
    *,
    n_steps: int = 16,
) -> Curves:
    """Both curves of every image.

    A patch that is gone has the mean colour that the preprocessing subtracts. Among equal patches the first goes first.

    Args:
        backbone: whose deepest layer the objective reads.
        objective: one number per image.
        images: from `Backbone.pixel_values`.
        maps: relevancy of every patch.
        n_steps: points of a curve after the first one.
    """
    n_patches = maps[0].numel()
    place = _places(maps.flatten(1))
    deletion, insertion = [], []
    for step in range(n_steps + 1):
        n_first = round(step * n_patches / n_steps)
        first = (place < n_first).view_as(maps)
        deletion.append(_values(backbone, objective, _kept(images, ~first)))
        insertion.append(_values(backbone, objective, _kept(images, first)))
    return Curves(torch.stack(deletion, 1), torch.stack(insertion, 1))


def _places(relevancy: Float[Tensor, "n n_patches"]) -> Tensor:
    """The place of every patch in the order of falling relevancy, from 0."""
    order = relevancy.argsort(dim=1, descending=True, stable=True)
    counted = torch.arange(relevancy.shape[1]).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, counted)


def _kept(images: Float[Tensor, "n 3 height width"], keeps: Tensor) -> Float[Tensor, "n 3 height width"]:
    """The images with the patches that are kept; the others are 0, which is the mean colour."""
    height, width = images.shape[2:]
    mask = keeps.repeat_interleave(height // keeps.shape[1], 1).repeat_interleave(width // keeps.shape[2], 2)
    kept = torch.zeros_like(images)
    rows, columns = mask.shape[1:]
    kept[:, :, :rows, :columns] = images[:, :, :rows, :columns] * mask[:, None]
    return kept


def _values(backbone: Backbone, objective: Objective, images: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n"]:
    tokens = backbone.activations(images, objective.tokens)[backbone.layers[-1]]
    with torch.no_grad():
        return objective.activations(tokens).amax(1).float().cpu()


def _area(curve: Float[Tensor, "n n_points"]) -> Float[Tensor, "n"]:
    area: Tensor = torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1), dim=1)
    return area
