"""Linear probe: multinomial logistic regression for the class on the raw activations of a layer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from torch import Tensor

from hsae.errors import UserError
from hsae.hierarchy.kernels.blocks import go_on

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


@dataclass(frozen=True, slots=True, eq=False)
class ProbeImages:
    """One split of the images, which serves probes of several labellings; every part is standardised.

    Attributes:
        is_test: true for test images; the others are training images.
        is_held_out: for each training image, whether it is held out to choose the penalty.
        train: the training images.
        test: the test images, standardised by the mean and standard deviation of `train`.
        fit: the training images that are not held out.
        held_out: the held-out training images, standardised by the mean and standard deviation of `fit`.
    """

    is_test: Bool[np.ndarray, "n_images"]
    is_held_out: Bool[np.ndarray, "n_train"]
    train: Float32[Tensor, "n_train d_model"]
    test: Float32[Tensor, "n_test d_model"]
    fit: Float32[Tensor, "n_fit d_model"]
    held_out: Float32[Tensor, "n_held_out d_model"]


def linear_probe(
    activations: Float32[np.ndarray, "n_images d_model"],
    labels: Int[np.ndarray, "n_images"],
    *,
    seed: int = 0,
    test_share: float = 0.25,
    device: torch.device | None = None,
    check: Callable[[], None] = go_on,
) -> ProbeResult:
    """Train multinomial logistic regression on a stratified part of the images, test it on the rest.

    Each feature is standardised by the training images' mean and standard deviation. Penalties of `L2_GRID` are tried
    from the strongest until the accuracy on a quarter of the training images falls; the best one is used (ties: the
    stronger; 0.01 if no class has two training images). Then the classifier is trained on all training images.

    Args:
        activations: one row per image.
        labels: class of every image.
        seed: seed of the split.
        test_share: share of every class's images to test (rounded, at least 1; the image of a class with one image is
            a training image).
        device: device for the computation; the CPU by default.
        check: called at every step of the optimiser; may raise to stop.

    Raises:
        UserError: the activations hold NaN or infinite values, or there is not one label per image.
    """
    labels = np.asarray(labels)
    if labels.shape != (len(activations),):
        raise UserError(f"{labels.size} labels for the activations of {len(activations)} images: give one per image")
    classes, y = np.unique(labels, return_inverse=True)
    images = split_images(activations, y, seed=seed, test_share=test_share, device=device)
    return train_probe(images, y, len(classes), check=check)


def split_images(
    activations: Float32[np.ndarray, "n_images d_model"],
    y: Int64[np.ndarray, "n_images"],
    *,
    seed: int,
    test_share: float = 0.25,
    device: torch.device | None = None,
) -> ProbeImages:
    """Split the images as `linear_probe` does and standardise them.

    Args:
        activations: one row per image.
        y: class of every image, numbered from 0 without gaps.
        seed: seed of the split.
        test_share: share of every class's images to test.
        device: device of the result; the CPU by default.

    Raises:
        UserError: the activations hold NaN or infinite values.
    """
    if not np.isfinite(activations).all():
        raise UserError("the activations hold NaN or infinite values: extract them again")
    is_test = stratified_split(y, test_share, seed)
    is_held_out = stratified_split(y[~is_test], 0.25, seed)
    device = torch.device("cpu") if device is None else device
    x_all = torch.from_numpy(np.ascontiguousarray(activations, dtype=np.float32)).to(device)
    masks = (is_test, ~is_test, is_held_out, ~is_held_out)
    test, train, held_out, fit = (torch.from_numpy(mask).to(device) for mask in masks)
    x_train = x_all[train]
    return ProbeImages(
        is_test, is_held_out, *_standardise(x_train, x_all[test]), *_standardise(x_train[fit], x_train[held_out])
    )


def train_probe(
    images: ProbeImages,
    y: Int64[np.ndarray, "n_images"],
    n_classes: int,
    *,
    l2: float | None = None,
    check: Callable[[], None],
) -> ProbeResult:
    """Choose the penalty, train on all training images, and test: `linear_probe` for images that are already split.

    Args:
        images: from `split_images`.
        y: class of every image; may differ from the labels of the split, but every class needs a training image.
        n_classes: number of classes.
        l2: the penalty; None: choose it.
        check: called at every step of the optimiser; may raise to stop.
    """
    y_train, y_test = y[~images.is_test], y[images.is_test]
    n_train, n_test = len(y_train), len(y_test)
    if n_classes < 2 or n_test == 0:
        nan = float("nan")
        return ProbeResult(nan, nan, n_train, n_test, n_classes, nan)
    device = images.train.device
    start = None
    if l2 is None:
        l2, start = _choose_l2(images, y_train, n_classes, check)
    y_on_device = torch.from_numpy(y_train).to(device)
    weight, bias = fit_softmax_regression(images.train, y_on_device, n_classes, l2, start=start, check=check)
    majority = int(np.bincount(y_train).argmax())
    return ProbeResult(
        accuracy=_accuracy(images.test, torch.from_numpy(y_test).to(device), weight, bias),
        chance=float((y_test == majority).mean()),
        n_train=n_train,
        n_test=n_test,
        n_classes=n_classes,
        l2=l2,
    )


def stratified_split(y: Int64[np.ndarray, "n_images"], test_share: float, seed: int) -> Bool[np.ndarray, "n_images"]:
    """Choose test images: `test_share * n` of a class of `n > 1` images, rounded, between 1 and `n - 1`."""
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
    images: ProbeImages, y_train: Int64[np.ndarray, "n_train"], n_classes: int, check: Callable[[], None]
) -> tuple[float, SoftmaxRegression | None]:
    """The penalty with the best held-out accuracy, and its classifier as the start of the final training."""
    if not images.is_held_out.any():
        return L2_GRID[len(L2_GRID) // 2], None
    parts = (y_train[~images.is_held_out], y_train[images.is_held_out])
    y_fit, y_held_out = (torch.from_numpy(part).to(images.fit.device) for part in parts)
    best_l2, best, best_accuracy, last = L2_GRID[0], None, -1.0, None
    for l2 in L2_GRID:
        last = fit_softmax_regression(images.fit, y_fit, n_classes, l2, start=last, check=check)
        accuracy = _accuracy(images.held_out, y_held_out, *last)
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
