"""What is read from the last layer: frozen classifiers that were trained on unedited activations.

probe        the ridge probe of `hsae.hierarchy`, its scores times one factor as logits
knn          the vote of the nearest training images; it has no log-odds
classifier   the model's own (`hsae.interventions.own_classifier`)
zero_shot    the nearest text of a CLIP-like model (`hsae.text.zero_shot`)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from scipy.optimize import minimize_scalar
from torch import Tensor

from hsae.errors import UserError
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.probes.nearest_neighbours import nearest_neighbours, vote
from hsae.hierarchy.probes.ridge_probe import ridge_scores
from hsae.vocabulary.readouts import ReadoutName

_LOG_FACTORS = (-7.0, 14.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a readout says of a batch of images.

    Attributes:
        predicted: the class of each, a position in the taxonomy.
        logits: float64[batch, n_classes], of which the softmax is a probability; None: the readout has none.
    """

    predicted: Int64[np.ndarray, "batch"]
    logits: Float64[np.ndarray, "batch n_classes"] | None


class Readout(ABC):
    """Reads classes from the stream after the last block.

    Attributes:
        name: as settings and rows call it.
    """

    name: ReadoutName

    @abstractmethod
    def read(self, stream: Float[Tensor, "batch n_all d_model"]) -> Reading:
        """The classes of a batch."""


@dataclass(frozen=True, slots=True)
class ReadRows:
    """The row of a stream that readouts see: the class token, or the mean of the patches where there is none."""

    n_prefix: int
    has_class_token: bool

    def __call__(self, stream: Float[Tensor, "batch n_all d_model"]) -> Float[Tensor, "batch d_model"]:
        """float32."""
        return stream[:, 0].float() if self.has_class_token else stream[:, self.n_prefix :].float().mean(1)


@dataclass(frozen=True)
class LinearReadout(Readout):
    """A linear probe.

    Attributes:
        rows: what it reads.
        weight: float64[d_model, n_classes].
        intercept: float64[n_classes]; 0, as the weights, for classes that it was not trained on.
    """

    rows: ReadRows
    weight: Float64[Tensor, "d_model n_classes"]
    intercept: Float64[Tensor, "n_classes"]
    name: ReadoutName = "probe"

    def logits(self, stream: Float[Tensor, "batch n_all d_model"]) -> Float64[Tensor, "batch n_classes"]:
        """With a gradient where the stream has one."""
        return self.rows(stream).double() @ self.weight + self.intercept

    def read(self, stream: Float[Tensor, "batch n_all d_model"]) -> Reading:
        """The classes of a batch."""
        logits = self.logits(stream).cpu().numpy()
        return Reading(logits.argmax(1), logits)


@dataclass(frozen=True)
class NeighbourReadout(Readout):
    """The vote of the nearest training images by cosine similarity, the training images' mean subtracted from all."""

    rows: ReadRows
    mean: Float[Tensor, "d_model"]
    references: Float[Tensor, "n_train d_model"]
    labels: Int64[np.ndarray, "n_train"]
    k: int
    name: ReadoutName = "knn"

    def read(self, stream: Float[Tensor, "batch n_all d_model"]) -> Reading:
        """The classes of a batch."""
        nearest = nearest_neighbours(self.rows(stream) - self.mean, self.references, self.k, check=go_on)
        return Reading(vote(nearest, self.labels), None)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """Unedited rows of the last layer with their classes, positions in the taxonomy."""

    x: Float32[np.ndarray, "n d_model"]
    labels: Int64[np.ndarray, "n"]


def train_probe(
    train: LabelledRows,
    select: LabelledRows,
    n_classes: int,
    rows: ReadRows,
    device: torch.device,
    check: Callable[[], None] = go_on,
) -> LinearReadout:
    """The ridge probe of `ridge_probes`, with logits (ours): its scores times the factor that fits other images best.

    The factor has the least cross-entropy of the softmax on the images of `select`. The true class has the target
    1 - 1/(n + 2) of n images, as in Platt (1999), and the others have the rest, so that a probe without error gets a
    finite factor. Log-odds of edited and unedited activations then have one scale, whatever the penalty shrank.

    A class without training images has the score 0, which a ridge regression gives it, and which is never the greatest.

    Raises:
        UserError: the training images are of one class.
    """
    present, y = np.unique(train.labels, return_inverse=True)
    if len(present) < 2:
        raise UserError("the images that train the readouts are of one class: give images of two classes or more")
    fit = ridge_scores(train.x, y, check=check)
    known = np.isin(select.labels, present)
    factor = 1.0
    if known.any():
        scores = select.x[known].astype(np.float64) @ fit.weight + fit.intercept
        factor = _factor(scores, np.searchsorted(present, select.labels[known]))
    weight = np.zeros((train.x.shape[1], n_classes))
    intercept = np.zeros(n_classes)
    weight[:, present], intercept[present] = fit.weight * factor, fit.intercept * factor
    return LinearReadout(rows, torch.from_numpy(weight).to(device), torch.from_numpy(intercept).to(device))


def train_neighbours(train: LabelledRows, k: int, rows: ReadRows, device: torch.device) -> NeighbourReadout:
    """The training images as references; `k` is at most the images of the smallest class, which else cannot win."""
    smallest = int(np.unique(train.labels, return_counts=True)[1].min())
    x = torch.from_numpy(train.x).to(device)
    mean = x.double().mean(0).float()
    return NeighbourReadout(rows, mean, x - mean, train.labels, min(k, smallest))


def _factor(scores: Float64[np.ndarray, "n n_present"], y: Int64[np.ndarray, "n"]) -> float:
    n, n_classes = scores.shape
    target = np.full((n, n_classes), 1 / (n + 2) / max(1, n_classes - 1))
    target[np.arange(n), y] = 1 - 1 / (n + 2)
    wanted = (target * scores).sum(axis=1)

    def loss(log_factor: float) -> float:
        factor = np.exp(log_factor)
        scaled = scores * factor
        top = scaled.max(axis=1)
        return float((top + np.log(np.exp(scaled - top[:, np.newaxis]).sum(axis=1)) - wanted * factor).mean())

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_FACTORS, method="bounded").x))
