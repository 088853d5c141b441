"""Linear probe: how much class information a layer's activations hold, whatever any SAE makes of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from torch import Tensor

from hsae.errors import UserError

L2_GRID = (1.0, 0.1, 0.01, 0.001, 0.0001)
"""Penalties that are tried, strongest first."""

_MAX_STEPS = 200
_TOLERANCE = 1e-4  # of the largest gradient, as scikit-learn's


def _go_on() -> None:
    return None


SoftmaxRegression = tuple[Float[Tensor, "n_features n_classes"], Float[Tensor, "n_classes"]]
"""Weight and bias."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Accuracy of a linear classifier on images that it was not trained on.

    Attributes:
        accuracy: share of the test images whose class is named; NaN with fewer than two classes or no test
            image.
        chance: accuracy of always naming the class with the most training images.
        n_train: training images.
        n_test: test images.
        n_classes: classes with images.
        l2: the penalty that was chosen on a part of the training images.
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
    seed: int = 0,
    test_share: float = 0.25,
    device: torch.device | None = None,
    check: Callable[[], None] = _go_on,
) -> ProbeResult:
    """Train multinomial logistic regression on a stratified part of the images, test it on the rest.

    Each feature is standardised by the training images' mean and standard deviation. The penalty is the one of
    `L2_GRID` with the best accuracy on a quarter of the training images, tried from the strongest until accuracy falls
    (ties: the stronger; 0.01 where no class has two training images); then the classifier is trained on all of them.

    Args:
        activations: one row per image.
        labels: class of every image.
        seed: of the split.
        test_share: share of every class's images that is tested (rounded, 1 at least; a class with one image
            is only trained on).
        device: where to compute; the CPU by default.
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
    is_test = stratified_split(y, test_share, seed)
    n_train, n_test = int((~is_test).sum()), int(is_test.sum())
    if len(classes) < 2 or n_test == 0:
        nan = float("nan")
        return ProbeResult(nan, nan, n_train, n_test, len(classes), nan)
    device = torch.device("cpu") if device is None else device
    x_all = torch.from_numpy(np.ascontiguousarray(activations, dtype=np.float32)).to(device)
    y_all = torch.from_numpy(y.astype(np.int64)).to(device)
    train, test = (torch.from_numpy(mask).to(device) for mask in (~is_test, is_test))
    x, x_test = _standardise(x_all[train], x_all[test])
    l2, start = _choose_l2(x_all[train], y_all[train], y[~is_test], len(classes), seed, check)
    weight, bias = fit_softmax_regression(x, y_all[train], len(classes), l2, start=start, check=check)
    majority = int(np.bincount(y[~is_test]).argmax())
    return ProbeResult(
        accuracy=_accuracy(x_test, y_all[test], weight, bias),
        chance=float((y[is_test] == majority).mean()),
        n_train=n_train,
        n_test=n_test,
        n_classes=len(classes),
        l2=l2,
    )


def stratified_split(y: Int64[np.ndarray, "n_images"], test_share: float, seed: int) -> Bool[np.ndarray, "n_images"]:
    """Which images are tested: of a class of `n > 1` images `test_share n`, rounded, between 1 and n - 1."""
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(len(y))
    order = shuffled[np.argsort(y[shuffled], kind="stable")]
    sizes = np.bincount(y)
    n_test = np.clip(np.floor(test_share * sizes + 0.5).astype(np.int64), 1, np.maximum(sizes - 1, 1))
    n_test[sizes < 2] = 0
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(y)) - np.repeat(starts, sizes)
    is_test = np.zeros(len(y), np.bool_)
    is_test[order] = place < np.repeat(n_test, sizes)
    return is_test


def fit_softmax_regression(
    x: Float[Tensor, "n_rows n_features"],
    y: Int[Tensor, "n_rows"],
    n_classes: int,
    l2: float,
    *,
    start: SoftmaxRegression | None = None,
    tolerance: float = _TOLERANCE,
    check: Callable[[], None] = _go_on,
) -> SoftmaxRegression:
    """Minimise `mean cross-entropy + l2 / 2 * |weight|^2` by L-BFGS over all rows; the bias is not penalised.

    It is scikit-learn's LogisticRegression with `C = 1 / (l2 * n_rows)`.

    Returns:
        weight and bias.
    """
    if start is None:
        # The logarithm of the class sizes is the best bias while the weights are 0.
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
    x: Float[Tensor, "n_rows n_features"],
    y: Int[Tensor, "n_rows"],
    y_host: Int64[np.ndarray, "n_rows"],
    n_classes: int,
    seed: int,
    check: Callable[[], None],
) -> tuple[float, SoftmaxRegression | None]:
    """The penalty with the best held-out accuracy, and its classifier for the last training to start from."""
    is_held_out = torch.from_numpy(stratified_split(y_host, 0.25, seed)).to(x.device)
    if not bool(is_held_out.any()):
        return L2_GRID[len(L2_GRID) // 2], None
    x_fit, x_held_out = _standardise(x[~is_held_out], x[is_held_out])
    best_l2, best, best_accuracy, last = L2_GRID[0], None, -1.0, None
    for l2 in L2_GRID:
        last = fit_softmax_regression(x_fit, y[~is_held_out], n_classes, l2, start=last, check=check)
        accuracy = _accuracy(x_held_out, y[is_held_out], *last)
        if accuracy > best_accuracy:
            best_l2, best, best_accuracy = l2, last, accuracy
        elif accuracy < best_accuracy:
            break
    return best_l2, best


def _standardise(
    x: Float[Tensor, "n_rows n_features"], x_other: Float[Tensor, "n_others n_features"]
) -> tuple[Float[Tensor, "n_rows n_features"], Float[Tensor, "n_others n_features"]]:
    mean, spread = x.mean(dim=0), x.std(dim=0, correction=0)
    # A constant feature has a spread of rounding errors, which must not be blown up.
    spread = torch.where(spread > 1e-6 * mean.abs(), spread, torch.ones_like(spread))
    return (x - mean) / spread, (x_other - mean) / spread


def _accuracy(
    x: Float[Tensor, "n_rows n_features"],
    y: Int[Tensor, "n_rows"],
    weight: Float[Tensor, "n_features n_classes"],
    bias: Float[Tensor, "n_classes"],
) -> float:
    return float((torch.addmm(bias, x, weight).argmax(dim=1) == y).double().mean())
