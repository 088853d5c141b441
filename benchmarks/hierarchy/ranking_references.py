"""What ranking_scores.py compares hsae with: scikit-learn pair by pair, and the quadratic definition in torch."""

import numpy as np
import torch
from benchmarks.hierarchy.preferring_latents import Work
from sklearn.metrics import average_precision_score, precision_recall_curve


def with_sklearn(work: Work, latents: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and best F1 over the thresholds above 0, pair by pair."""
    columns = work.z.tocsc()
    under = work.taxonomy.closure.toarray() > 0
    average_precision, best_f1 = np.empty(len(latents)), np.empty(len(latents))
    for place, (latent, node) in enumerate(zip(latents, nodes, strict=True)):
        truth, activation = under[work.labels, node], columns[:, [latent]].toarray()[:, 0]
        average_precision[place] = average_precision_score(truth, activation)
        precision, recall, thresholds = precision_recall_curve(truth, activation)
        with np.errstate(invalid="ignore"):
            f1 = np.nan_to_num(2 * precision * recall / (precision + recall))[:-1]
        best_f1[place] = f1[thresholds > 0].max()
    return average_precision, best_f1


def scaled(work: Work, latents: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """Dense min-max scaled activations of some latents, [n_images, n_chosen]."""
    dense = torch.from_numpy(work.z[:, latents].toarray()).to(dtype)
    least, greatest = dense.amin(0), dense.amax(0)
    return (dense - least) / (greatest - least)


def similarities(e: torch.Tensor, rows: slice) -> torch.Tensor:
    """Cosines of some images with all, 0 of an image with itself; `e` holds unit embeddings."""
    similarity = e[rows] @ e.T
    similarity.diagonal(rows.start).zero_()
    return similarity


def quadratic(a: torch.Tensor, similarity: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition's two sums over the pairs (n, m) with n in `rows`, weight by weight: [n_latents] each."""
    above, below = torch.empty(a.shape[1], dtype=a.dtype), torch.empty(a.shape[1], dtype=a.dtype)
    for latent in range(a.shape[1]):
        weight = a[rows, latent, None] * a[None, :, latent]
        weight.diagonal(rows.start).zero_()
        above[latent], below[latent] = (weight * similarity).sum(), weight.sum()
    return above, below


def quadratic_by_products(a: torch.Tensor, similarity: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """The same sums through one matrix product for all latents at once: the fastest way to go through all pairs."""
    below = a[rows] * (a.sum(0) - a[rows])
    return (a[rows] * (similarity @ a)).sum(0), below.sum(0)


def check_monosemanticity(work: Work, ours: np.ndarray, latents: np.ndarray) -> float:
    """Largest difference from both quadratic forms over all pairs of the images, in float64; NaN counts as infinite."""
    a = scaled(work, latents, torch.float64)
    e = torch.nn.functional.normalize(torch.from_numpy(work.embeddings).double(), dim=1)
    largest = 0.0
    for form in (quadratic, quadratic_by_products):
        blocks = [slice(first, min(first + 500, len(a))) for first in range(0, len(a), 500)]
        sums = [form(a, similarities(e, rows), rows) for rows in blocks]
        above, below = (torch.stack(part).sum(0) for part in zip(*sums, strict=True))
        difference = np.abs((above / below).numpy() - ours[latents])
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf).max()))
    return largest
