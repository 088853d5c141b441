"""Some of an image's patches, drawn at random: fewer rows, of more images."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hsae.extraction.config import ExtractionConfig

# Beside the numbers of the augmented views, which are drawn from the same seed.
_PATCHES = 1


def drawn_patches(
    values: Float[Tensor, "batch n_patches width"], images: Sequence[int], view: int, extraction: ExtractionConfig
) -> Float[Tensor, "batch n_drawn width"]:
    """The patches that are kept of every image, in the order of the image; all where none are drawn.

    A function of (seed, index of the image, view, number of patches) and nothing else, so a rerun keeps the same ones.

    Args:
        values: all patch tokens.
        images: the index of every image in its data set.
        view: of the images, from 0.
        extraction: how many are drawn, and the seed.
    """
    n_drawn = extraction.patches_per_image
    if not n_drawn:
        return values
    n_patches = values.shape[1]
    places = [
        np.sort(
            np.random.default_rng([extraction.seed, image, view, _PATCHES]).choice(n_patches, n_drawn, replace=False)
        )
        for image in images
    ]
    index = torch.as_tensor(np.stack(places), device=values.device)
    return values.gather(1, index[:, :, None].expand(-1, -1, values.shape[2]))
