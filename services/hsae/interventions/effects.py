"""What a readout says of every image and node, before or after an edit.

The log-odds of a node on an image are log p - log(1 - p), p the readout's probability of all classes under the node.
Sums of probabilities count as 1e-300 at least, so that log-odds are finite. Undefined (NaN) are those of the root,
which has all classes, and of nodes that have none, or all, of the classes that the readout knows.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from hsae.interventions.readouts import Reading
from hsae.taxonomy import InducedTaxonomy

_LEAST = 1e-300


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """The taxonomy as dense arrays.

    Attributes:
        inside: float64[n_classes, n_nodes], 1 if the class is at or under the node.
        has_outside: whether a node lacks a class; else its log-odds are undefined.
    """

    inside: Float64[np.ndarray, "n_classes n_nodes"]
    has_outside: np.ndarray

    @classmethod
    def of(cls, taxonomy: InducedTaxonomy) -> "Tree":
        """Of a data set's taxonomy."""
        inside = taxonomy.closure.astype(np.float64).toarray()
        return cls(inside, np.asarray(inside.sum(axis=0) < len(inside)))


@dataclass(slots=True, eq=False)
class Effect:
    """What one readout says of all images after one intervention, or before any.

    Attributes:
        targets: nodes whose log-odds are kept for every image.
        predicted: the class of every image.
        own_log_odds: of every image's own class against all others; empty where the readout has no probabilities.
        target_log_odds: of the targets, on every image.
        node_log_odds: of every node, the sum over the images under it.
    """

    targets: tuple[int, ...]
    predicted: list[np.ndarray] = field(default_factory=list)
    own_log_odds: list[np.ndarray] = field(default_factory=list)
    target_log_odds: list[np.ndarray] = field(default_factory=list)
    node_log_odds: Float64[np.ndarray, "n_nodes"] | None = None

    def add(self, reading: Reading, labels: Int64[np.ndarray, "batch"], tree: Tree) -> None:
        """Add a batch of images with these classes."""
        self.predicted.append(reading.predicted)
        if reading.logits is None:
            return
        p = _softmax(reading.logits)
        known = np.asarray(~np.isneginf(reading.logits).all(axis=0), np.float64)
        odds = _log_odds(p, tree)
        odds[:, (known @ tree.inside == 0) | (known @ (1.0 - tree.inside) == 0)] = np.nan
        under = tree.inside[labels]
        sums = np.where(under > 0, odds, 0.0).sum(axis=0)
        self.node_log_odds = sums if self.node_log_odds is None else self.node_log_odds + sums
        self.target_log_odds.append(odds[:, list(self.targets)])
        own = p[np.arange(len(p)), labels]
        rest = p.copy()
        rest[np.arange(len(p)), labels] = 0.0
        self.own_log_odds.append(np.where(known[labels] > 0, _logs(own) - _logs(rest.sum(axis=1)), np.nan))


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """An `Effect` in which all images are, as arrays.

    Attributes:
        predicted: class of every image.
        own_log_odds: of every image; None where the readout has no probabilities.
        target_log_odds: by target node, of every image.
        node_accuracy: of every node, the share of its images that the readout places under it; NaN without images.
        node_log_odds: of every node, the mean over its images; NaN where undefined.
    """

    predicted: Int64[np.ndarray, "n"]
    own_log_odds: Float64[np.ndarray, "n"] | None
    target_log_odds: dict[int, Float64[np.ndarray, "n"]]
    node_accuracy: Float64[np.ndarray, "n_nodes"]
    node_log_odds: Float64[np.ndarray, "n_nodes"]

    @property
    def cross_entropy(self) -> float:
        """Mean of -log p of the images' own class, in nats; NaN where the readout has no probabilities.

        Images of classes that the readout does not know are left out. p counts as 1e-300 at least, as in log-odds.
        """
        odds = np.empty(0) if self.own_log_odds is None else self.own_log_odds[~np.isnan(self.own_log_odds)]
        return float(np.logaddexp(0.0, -odds).mean()) if len(odds) else float("nan")

    @classmethod
    def of(cls, effect: Effect, labels: Int64[np.ndarray, "n"], tree: Tree) -> "Readings":
        """The arrays of an effect; `labels` are the classes of all images in the order in which they were added."""
        predicted = np.concatenate(effect.predicted)
        counts = np.bincount(labels, minlength=len(tree.inside)).astype(np.float64)
        n_under = counts @ tree.inside
        right = (tree.inside[labels] * tree.inside[predicted]).sum(axis=0)
        per_image = np.where(n_under > 0, n_under, np.nan)
        accuracy = right / per_image
        if effect.node_log_odds is None:
            return cls(predicted, None, {}, accuracy, np.full(len(accuracy), np.nan))
        odds = np.where(tree.has_outside, effect.node_log_odds / per_image, np.nan)
        of_targets = np.concatenate(effect.target_log_odds)
        by_target = {node: of_targets[:, at] for at, node in enumerate(effect.targets)}
        return cls(predicted, np.concatenate(effect.own_log_odds), by_target, accuracy, odds)


def distances_from(taxonomy: InducedTaxonomy, node: int) -> Int64[np.ndarray, "n_nodes"]:
    """The distance of every node from one: 0 for itself and all under it, else edges on the shortest path (ours).

    A path takes hypernym edges upwards or downwards, as in `path_distances`.
    """
    child, parent = taxonomy.hypernym_edges.T
    n_nodes = len(taxonomy.synsets)
    edges = csr_array((np.ones(len(child)), (child, parent)), shape=(n_nodes, n_nodes))
    lengths = shortest_path(edges, method="D", directed=False, unweighted=True, indices=[node])[0]
    pairs = taxonomy.node_closure()
    lengths[pairs[pairs[:, 1] == node, 0]] = 0
    return np.asarray(lengths, np.int64)


def loss_recovered(loss: float, reconstructed: float, ablated: float) -> float:
    """The share of what an ablation costs that reconstructions do not cost: 0 as the ablation, 1 as the unedited rows.

    Below 0 where the reconstructions cost more than the ablation. NaN where the ablation costs nothing.

    Args:
        loss: cross-entropy on unedited activations.
        reconstructed: with the reconstructions in their place.
        ablated: with the ablation in their place.
    """
    return (ablated - reconstructed) / (ablated - loss) if ablated > loss else float("nan")


def _softmax(logits: Float64[np.ndarray, "batch n_classes"]) -> Float64[np.ndarray, "batch n_classes"]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    p: Float64[np.ndarray, "batch n_classes"] = powers / powers.sum(axis=1, keepdims=True)
    return p


def _log_odds(p: Float64[np.ndarray, "batch n_classes"], tree: Tree) -> Float64[np.ndarray, "batch n_nodes"]:
    """Of all nodes; what is outside is summed itself, as 1 - p would lose its digits."""
    odds: Float64[np.ndarray, "batch n_nodes"] = _logs(p @ tree.inside) - _logs(p @ (1.0 - tree.inside))
    return odds


def _logs(p: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(p, _LEAST)))
