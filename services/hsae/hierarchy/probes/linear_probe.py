"""Logistic probe: multinomial logistic regression for the class on the raw activations of a layer, on request."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from torch import Tensor

from hsae.errors import UserError
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.probes.image_parts import ProbeParts, split_by_class, stratified_split

L2_GRID = (1.0, 0.1, 0.01, 0.001, 0.0001)
"""Candidate penalties, strongest first."""

_MAX_STEPS = 200
_TOLERANCE = 1e-4  # on the largest gradient component, as in scikit-learn


SoftmaxRegression = tuple[Float[Tensor, "n_features n_classes"], Float[Tensor, "n_classes"]]
"""Weight and bias."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Accuracy of a linear classifier on images that it was not trained on.

    Attributes:
        accuracy: share of the test images that are classified correctly; NaN with fewer than two classes or no test
            image.
        chance: accuracy of always predicting the class with the most training images.
        n_train: number of training images.
        n_test: number of test images.
        n_classes: number of classes with images.
        l2: penalty, chosen on a part of the training images.
    """

    accuracy: float
    chance: float
    n_train: int
    n_test: int
    n_classes: int
    l2: float


def linear_probe(
    activations: Float32[np.ndarray, "n_images d_model"],
    labels: Int[np.ndarray, "n_images"],
    *,
    parts: ProbeParts | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    check: Callable[[], None] = go_on,
) -> ProbeResult:
    """Train multinomial logistic regression on a part of the images, and test it on another.

    Each feature is standardised by the training images' mean and standard deviation. Penalties of `L2_GRID` are tried
    from the strongest until the accuracy on a quarter of the training images falls; the best one is used (ties: the
    stronger; 0.01 if no class has two training images). Then the classifier is trained on all training images.

    Args:
        activations: one row per image.
        labels: class of every image.
        parts: the images to train and to test on; None: `split_by_class`.
        seed: seed of that split, and of the quarter of the training images.
        device: device for the computation; the CPU by default.
        check: called at every step of the optimiser; may raise to stop.

    Raises:
        UserError: the activations hold NaN or infinite values, or there is not one label per image.
    """
    labels = np.asarray(labels)
    if labels.shape != (len(activations),):
        raise UserError(f"{labels.size} labels for the activations of {len(activations)} images: give one per image")
    if not np.isfinite(activations).all():
        raise UserError("the activations hold NaN or infinite values: extract them again")
    classes, y = np.unique(labels, return_inverse=True)
    parts = split_by_class(y, seed) if parts is None else parts
    y_train, y_test, n_classes = y[parts.train], y[parts.score], len(classes)
    if n_classes < 2 or len(y_test) == 0:
        nan = float("nan")
        return ProbeResult(nan, nan, len(y_train), len(y_test), n_classes, nan)
    device = torch.device("cpu") if device is None else device
    x_train, x_test = (
        torch.from_numpy(np.asarray(activations[part], np.float32)).to(device) for part in (parts.train, parts.score)
    )
    train, test = _standardise(x_train, x_test)
    y_on_device = torch.from_numpy(y_train).to(device)
    l2, start = _choose_l2(x_train, y_on_device, n_classes, stratified_split(y_train, 0.25, seed), check)
    weight, bias = fit_softmax_regression(train, y_on_device, n_classes, l2, start=start, check=check)
    return ProbeResult(
        accuracy=_accuracy(test, torch.from_numpy(y_test).to(device), weight, bias),
        chance=float((y_test == np.bincount(y_train).argmax()).mean()),
        n_train=len(y_train),
        n_test=len(y_test),
        n_classes=n_classes,
        l2=l2,
    )


def fit_softmax_regression(
    x: Float[Tensor, "n_rows n_features"],
    y: Int[Tensor, "n_rows"],
    n_classes: int,
    l2: float,
    *,
    start: SoftmaxRegression | None = None,
    tolerance: float = _TOLERANCE,
    check: Callable[[], None] = go_on,
) -> SoftmaxRegression:
    """Minimise `mean cross-entropy + l2 / 2 * |weight|^2` by L-BFGS over all rows; the bias is not penalised.

    Equals scikit-learn's LogisticRegression with `C = 1 / (l2 * n_rows)`.

    Returns:
        Weight and bias.
    """
    if start is None:
        # With zero weights, the logarithm of the class shares is the best bias.
        sizes = torch.bincount(y, minlength=n_classes).to(x.dtype)
        start = x.new_zeros(x.shape[1], n_classes), torch.log(sizes.clamp(min=0.5) / len(y))
    weight, bias = (value.detach().clone().requires_grad_() for value in start)
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_MAX_STEPS,
        history_size=10,
        tolerance_grad=tolerance,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        check()
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(torch.addmm(bias, x, weight), y)
        loss = loss + 0.5 * l2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def _choose_l2(
    x: Float[Tensor, "n_train n_features"],
    y: Int64[Tensor, "n_train"],
    n_classes: int,
    is_held_out: Bool[np.ndarray, "n_train"],
    check: Callable[[], None],
) -> tuple[float, SoftmaxRegression | None]:
    """The penalty with the best held-out accuracy, and its classifier as the start of the final training."""
    if not is_held_out.any():
        return L2_GRID[len(L2_GRID) // 2], None
    held_out = torch.from_numpy(is_held_out).to(x.device)
    fit, test = _standardise(x[~held_out], x[held_out])
    y_fit, y_held_out = y[~held_out], y[held_out]
    best_l2, best, best_accuracy, last = L2_GRID[0], None, -1.0, None
    for l2 in L2_GRID:
        last = fit_softmax_regression(fit, y_fit, n_classes, l2, start=last, check=check)
        accuracy = _accuracy(test, y_held_out, *last)
        if accuracy > best_accuracy:
            best_l2, best, best_accuracy = l2, last, accuracy
        elif accuracy < best_accuracy:
            break
    return best_l2, best


def _standardise(
    x: Float[Tensor, "n_rows n_features"], x_other: Float[Tensor, "n_others n_features"]
) -> tuple[Float[Tensor, "n_rows n_features"], Float[Tensor, "n_others n_features"]]:
    mean, spread = x.mean(dim=0), x.std(dim=0, correction=0)
    # The deviation of a constant feature is a rounding error, which must not be scaled up.
    spread = torch.where(spread > 1e-6 * mean.abs(), spread, torch.ones_like(spread))
    return (x - mean) / spread, (x_other - mean) / spread


def _accuracy(
    x: Float[Tensor, "n_rows n_features"],
    y: Int[Tensor, "n_rows"],
    weight: Float[Tensor, "n_features n_classes"],
    bias: Float[Tensor, "n_classes"],
) -> float:
    return float((torch.addmm(bias, x, weight).argmax(dim=1) == y).double().mean())
