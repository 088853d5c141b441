"""The truth of the pointing game: which latent stands for which node, and collages in which one quarter shows it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from benchmarks.findings.real_layers import RealLayers
from PIL import Image

from hsae.backbones.backbone import Backbone
from hsae.sae.model import SparseAutoencoder

_LEAST_IMAGES = 2
"""So many images of the node must fire the latent where it is chosen: one alone may be luck."""
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Labelled:
    """A latent and its label.

    Attributes:
        latent: the latent with the best adjusted F1 of all that have this label.
        node: the label, the node with the latent's best adjusted F1 on the images that choose.
        name: the node's name.
        f1_adjusted: that F1.
        inside: scored images under the node on which the latent fires.
        outside: scored images of other classes on which it does not.
    """

    latent: int
    node: int
    name: str
    f1_adjusted: float
    inside: tuple[int, ...]
    outside: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Collage:
    """Four images; the latent fires on the one in `quarter` (0 to 3 in reading order), and on none of the others."""

    labelled: Labelled
    quarter: int
    images: tuple[int, ...]
    others: tuple[int, ...]
    seed: int

    def exchanged(self, place: int) -> "Collage":
        """The same with another image of another class in one quarter."""
        images = tuple(self.others[i] if i == place else image for i, image in enumerate(self.images))
        return replace(self, images=images)


def labelled_latents(layers: RealLayers, layer: int, sae: SparseAutoencoder, *, min_f1: float) -> list[Labelled]:
    """The latents with a label of at least this adjusted F1 on the part `select`, by label the best one."""
    parts, taxonomy = layers.parts, layers.taxonomy
    with torch.inference_mode():
        fires = sae.encode(layers.plain(layer)).numpy() > 0
    under = taxonomy.closure.toarray().astype(bool)[layers.labels]  # [n_images, n_nodes]
    chooses = parts.select
    n_images = len(chooses)
    both = fires[chooses].astype(np.int64).T @ under[chooses].astype(np.int64)  # [n_latents, n_nodes]
    n_node, n_fire = under[chooses].sum(0), fires[chooses].sum(0)
    f1 = 2 * both / np.maximum(n_fire[:, None] + n_node, 1)
    # As docs/metrics.md defines it: 0 for a latent that fires on every image, 1 for a perfect one.
    always = 2 * n_node / (n_images + n_node)
    adjusted = np.where(n_node < n_images, (f1 - always) / np.maximum(1 - always, 1e-9), -1.0)
    adjusted = np.where(both >= _LEAST_IMAGES, adjusted, -1.0)
    # The best node of every latent, of several the deepest.
    order = np.lexsort((taxonomy.depth,))[::-1]
    label = order[adjusted[:, order].argmax(1)]
    best = adjusted[np.arange(len(label)), label]
    found: dict[int, Labelled] = {}
    for latent in np.argsort(-best, kind="stable").tolist():
        node = int(label[latent])
        if best[latent] < min_f1 or node in found:
            continue
        scored_fires, scored_under = fires[parts.score, latent], under[parts.score, node]
        inside = parts.score[scored_fires & scored_under]
        outside = parts.score[~scored_fires & ~scored_under]
        if len(inside) and len(outside) >= 3:
            name = taxonomy.synsets[node].name
            found[node] = Labelled(
                latent, node, name, float(best[latent]), tuple(inside.tolist()), tuple(outside.tolist())
            )
    return list(found.values())


def collages(chosen: Sequence[Labelled], n_candidates: int, *, seed: int) -> list[Collage]:
    """Candidates of every latent; the right quarter goes round."""
    rng = np.random.default_rng(seed)
    found: list[Collage] = []
    for number, one in enumerate(chosen):
        for turn in range(n_candidates):
            quarter = (number + turn) % 4
            images = rng.choice(one.outside, 3, replace=False).tolist()
            images.insert(quarter, int(rng.choice(one.inside)))
            others = tuple(int(image) for image in rng.choice(one.outside, 4))
            found.append(Collage(one, quarter, tuple(images), others, len(found)))
    return found


@dataclass(frozen=True, slots=True)
class Truth:
    """Which collages have a known truth.

    Attributes:
        games: collages that fire the latent because of the right quarter: the latent is silent when that quarter is
            exchanged, and fires in at least two of the three cases in which one of the others is.
        firing_share: share of all candidates that fire the latent.
        firing_share_without: the same with the right quarter exchanged: what collages without the class give.
        n_firing: candidates that fire it.
    """

    games: list[Collage]
    firing_share: float
    firing_share_without: float
    n_firing: int


def with_known_truth(
    candidates: Sequence[Collage],
    backbone: Backbone,
    sae: SparseAutoencoder,
    paths: Sequence[Path],
    side: int,
    n_each: int,
) -> Truth:
    """Of every latent the first `n_each` collages of which it is known that the right quarter fires it."""

    def fires(collages: Sequence[Collage]) -> list[bool]:
        found: list[bool] = []
        for start in range(0, len(collages), _BATCH):
            part = collages[start : start + _BATCH]
            pixels = backbone.pixel_values([pasted(one, paths, side) for one in part])
            tokens = backbone.activations(pixels, "cls")[backbone.layers[-1]][:, 0]
            with torch.inference_mode():
                z = sae.encode(tokens)
            found += [bool(row[one.labelled.latent] > 0) for one, row in zip(part, z, strict=True)]
        return found

    with_it, without = fires(candidates), fires([one.exchanged(one.quarter) for one in candidates])
    kept: dict[int, list[Collage]] = {}
    for one, has, lacks in zip(candidates, with_it, without, strict=True):
        of_latent = kept.setdefault(one.labelled.latent, [])
        if not has or lacks or len(of_latent) == n_each:
            continue
        others = [one.exchanged(place) for place in range(4) if place != one.quarter]
        if sum(fires(others)) >= 2:
            of_latent.append(one)
    games = [one for of_latent in kept.values() for one in of_latent]
    n_all = max(1, len(candidates))
    return Truth(games, sum(with_it) / n_all, sum(without) / n_all, sum(with_it))


def pasted(collage: Collage, paths: Sequence[Path], side: int) -> Image.Image:
    """The collage as an image of 2 x 2 quarters of `side` pixels."""
    whole = Image.new("RGB", (2 * side, 2 * side), "white")
    for place, image in enumerate(collage.images):
        row, col = divmod(place, 2)
        picture = Image.open(paths[image]).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        whole.paste(picture, (col * side, row * side))
    return whole
