"""Whether a model uses a latent for its label: the latent alone is taken away, and readouts say what its node loses.

The effect is the specificity of that ablation: the drop inside the label node minus the drop outside it, in log-odds,
or in accuracy where a readout has no probabilities (ours). Accuracy alone says little of single latents: it takes
several to turn an image.

p is a sign-flip p over the images under the label. An image i of class c adds

    d_i = (drop_i - mean drop of the classes outside) / (n_c n_inside)

n_c the scored images of its class, n_inside the classes of the label: the d_i add up to the effect. p is the share of
random signs with which |sum of d_i| is as large (`sign_flip_p`). It asks whether the images agree on a direction, and
not whether the effect is large; that is for the effects that random latents have at the same label.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.stats import false_discovery_control

from hsae.interventions.contrasts import sign_flip_p
from hsae.interventions.effects import Readings, Tree
from hsae.interventions.figures import Mean, Target, class_means, difference, image_log_odds, right_images

_Q = 0.05
_NULL = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class LabelEffect:
    """What the ablation of one latent does at one node.

    Attributes:
        effect: drop inside minus drop outside, with the 95 % Welch t interval over classes.
        in_log_odds: whether the effect is in log-odds; else in accuracy.
        accuracy: the same of the accuracy.
        p: sign-flip p over the images under the node, two-sided.
        n_images: scored images under the node.
    """

    effect: Mean
    in_log_odds: bool
    accuracy: Mean
    p: float
    n_images: int


@dataclass(frozen=True, slots=True)
class Chance:
    """The effects that random latents have in the places of the tested ones.

    Attributes:
        own: of the draws for one latent, the mean; NaN without draws.
        low: 2.5 % point of all draws for all latents.
        high: 97.5 % point.
        n_draws: draws for this latent.
    """

    own: float
    low: float
    high: float
    n_draws: int


def label_effect(
    before: Readings, after: Readings, target: Target, tree: Tree, *, n_flips: int, seed: int
) -> LabelEffect:
    """The effect of an ablation at a node.

    Args:
        before: of the unedited images.
        after: of the same images without the latent.
        target: the label, and the images.
        tree: the taxonomy.
        n_flips: random signs, where there are more than 14 images.
        seed: of the signs.
    """
    effect, drop = specificity(before, after, target, tree)
    in_log_odds = _has_log_odds(before, target, tree)
    right = right_images(before, target, tree) - right_images(after, target, tree)
    counts = np.bincount(target.labels, minlength=len(tree.inside))
    present = np.flatnonzero(counts)
    is_inside = tree.inside[present, target.node] > 0
    means, of_right = (class_means(values, target.labels, present) for values in (drop, right))
    under = np.flatnonzero(tree.inside[target.labels, target.node] > 0)
    elsewhere = means[~is_inside]
    outside = float(np.nanmean(elsewhere)) if (~np.isnan(elsewhere)).any() else float("nan")
    share = counts[target.labels[under]] * max(1, int(is_inside.sum()))
    p = sign_flip_p(((drop[under] - outside) / share).tolist(), n_flips, seed)
    accuracy = difference(of_right[is_inside], of_right[~is_inside])
    return LabelEffect(effect, in_log_odds, accuracy, p, len(under))


def specificity(
    before: Readings, after: Readings, target: Target, tree: Tree
) -> tuple[Mean, Float64[np.ndarray, "n_images"]]:
    """Drop inside minus drop outside, in log-odds where the readout has them, and the drop of every image."""
    if _has_log_odds(before, target, tree):
        drop = image_log_odds(before, target, tree) - image_log_odds(after, target, tree)
    else:
        drop = right_images(before, target, tree) - right_images(after, target, tree)
    present = np.unique(target.labels)
    means = class_means(drop, target.labels, present)
    is_inside = tree.inside[present, target.node] > 0
    return difference(means[is_inside], means[~is_inside]), drop


def _has_log_odds(before: Readings, target: Target, tree: Tree) -> bool:
    return before.own_log_odds is not None and bool(tree.has_outside[target.node])


def q_values(p: Sequence[float]) -> Float64[np.ndarray, "n"]:
    """Benjamini and Hochberg's q over the latents that were tested; NaN where p is."""
    values = np.array(p, np.float64)
    known = ~np.isnan(values)
    q = np.full(len(values), np.nan)
    if known.any():
        q[known] = false_discovery_control(values[known], method="bh")
    return q


def chances(drawn: Sequence[Sequence[float]]) -> list[Chance]:
    """What random latents did, for each tested latent; `drawn` are the effects of its draws."""
    every = np.array([effect for effects in drawn for effect in effects if not np.isnan(effect)])
    low, high = np.quantile(every, _NULL).tolist() if len(every) else (float("nan"), float("nan"))
    found = []
    for effects in drawn:
        known = [effect for effect in effects if not np.isnan(effect)]
        found.append(Chance(float(np.mean(known)) if known else float("nan"), low, high, len(known)))
    return found


def is_used(effect: float, q: float, chance: Chance) -> bool:
    """Whether a latent counts as used for its label: q <= 0.05, and an effect above 97.5 % of the draws (ours)."""
    return bool(q <= _Q and effect > max(chance.high, 0.0))
