"""Columns of the synthetic study, an SAE's latents or a control's: rows of latent, latent_place and node_score."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from benchmarks.large_study.synthetic_taxonomy import N_NEAR, Nodes

DEAD_SHARE = 0.05
_N_CHANCE, _N_OF_NODE, _N_TOP = 4, 10, 16
_RULES = ("topk", "rate", "mass")


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Pairs of latent and node, one entry each.

    `n_fire`: images that the latent fires on; `share`: how many of the images that could be both under the node and
    fired on are.
    """

    latent: np.ndarray
    node: np.ndarray
    n_fire: np.ndarray
    share: np.ndarray


class Columns:
    """The columns of one basis: the node that each prefers, how well it knows it, and where it fires."""

    def __init__(self, nodes: Nodes, n: int, quality: float, rng: np.random.Generator) -> None:
        self.nodes, self.rng, self.n = nodes, rng, n
        self.preferred = rng.integers(0, len(nodes.ids), n)
        self.quality = rng.beta(1 + 3 * quality, 4, n)
        wanted = nodes.n_images[self.preferred] * rng.uniform(0.3, 3.0, n)
        self.n_fire = np.clip(wanted, 1, nodes.n_total).astype(np.int64)
        self.n_fire[rng.random(n) < DEAD_SHARE] = 0

    def node_scores(self, analysis: int, basis: str) -> pa.Table:
        """The best nodes of every latent that fires, and the best latents of every node."""
        n_nodes = len(self.nodes.ids)
        latents = np.arange(self.n)
        near = self.nodes.near[self.preferred]
        chance = self.rng.integers(0, n_nodes, (self.n, _N_CHANCE))
        knows = self.quality[:, None] * 0.8 ** np.arange(N_NEAR)
        of_node = self.rng.integers(0, self.n, (n_nodes, _N_OF_NODE))
        latent = np.concatenate((np.repeat(latents, N_NEAR + _N_CHANCE), of_node.ravel()))
        node = np.concatenate(
            (np.concatenate((near, chance), axis=1).ravel(), np.repeat(np.arange(n_nodes), _N_OF_NODE))
        )
        by_chance = self.rng.uniform(0, 0.3, (self.n, _N_CHANCE))
        share = np.concatenate(
            (np.concatenate((knows, by_chance), axis=1).ravel(), self.rng.uniform(0, 0.5, n_nodes * _N_OF_NODE))
        )
        _, first = np.unique(latent * n_nodes + node, return_index=True)
        first = first[self.n_fire[latent[first]] > 0]
        latent, node, share = latent[first], node[first], share[first]
        return _node_rows(analysis, basis, 0, self.nodes, _Pairs(latent, node, self.n_fire[latent], share), self.rng)

    def latents(self, analysis: int, basis: str) -> pa.Table:
        """Rows of latent, with 16 images each."""
        taxonomy, ids, fires = self.nodes.taxonomy, self.nodes.ids, self.n_fire > 0
        lch = self.nodes.near[self.preferred, self.rng.integers(0, N_NEAR, self.n)]
        n_node = self.nodes.n_images[self.preferred]
        n_both = np.maximum(self.quality * np.minimum(self.n_fire, n_node), fires)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = {
                "mean_activation": self.rng.exponential(1.0, self.n),
                "max_activation": self.rng.exponential(5.0, self.n),
                "coverage": self.rng.beta(1, 4, self.n),
                "label_f1": 2 * n_both / (self.n_fire + n_node),
                "label_precision": n_both / self.n_fire,
                "label_recall": n_both / n_node,
                "label_auroc": 0.5 + self.quality / 2,
                "class_entropy": self.rng.uniform(0, 9, self.n),
                "monosemanticity": self.rng.uniform(0, 1, self.n),
                "lca_depth_mean": self.rng.uniform(0, 12, self.n),
                "lch_height_relative": taxonomy.height[lch] / taxonomy.height.max(),
                "label_f1_adjusted": 2 * n_both / (self.n_fire + n_node) - 0.05,
                "label_q": self.rng.beta(0.2, 1, self.n),
                "coherence": 2 + (excess := self.rng.normal(1, 1, self.n)),
                "coherence_excess": excess,
                "coherence_z": 2 * excess,
                "coherence_p": np.exp(-4 * np.maximum(excess, 0)),
                "purity": (purity := self.rng.beta(1, 4, self.n)),
                "purity_excess": purity - 0.001,
                "lch_excess": self.rng.normal(0, 2, self.n),
            }
        floats = {name: pa.array(column, mask=~fires) for name, column in values.items()}
        images = self.rng.integers(0, self.nodes.n_total, (self.n, _N_TOP)).tolist()
        strengths = np.sort(self.rng.exponential(5.0, (self.n, _N_TOP)))[:, ::-1].tolist()
        top = [
            "["
            + ", ".join(
                f'{{"image": {image}, "path": "val/n{image % 1000:08d}/ILSVRC2012_val_{image:08d}.JPEG",'
                f' "activation": {activation:.6g}}}'
                for image, activation in zip(*row, strict=True)
            )
            + "]"
            for row in zip(images, strengths, strict=True)
        ]
        return pa.table(
            {
                "analysis_id": np.full(self.n, analysis),
                "basis": [basis] * self.n,
                "latent": np.arange(self.n),
                "is_dead": ~fires,
                "n_fire": self.n_fire,
                "density": self.n_fire / self.nodes.n_total,
                "n_associated": np.where(fires, self.rng.integers(1, _N_TOP + 1, self.n), 0),
                "lch_synset_id": pa.array(ids[lch], mask=~fires),
                "lch_height": pa.array(taxonomy.height[lch], mask=~fires),
                "lch_depth": pa.array(taxonomy.depth[lch], mask=~fires),
                "label_synset_id": pa.array(ids[self.preferred], mask=~fires),
                **floats,
                "top_images": top,
            }
        )

    def places(self, analysis: int, basis: str) -> pa.Table:
        """Rows of latent_place by all rules."""
        taxonomy, fires = self.nodes.taxonomy, np.tile(self.n_fire > 0, len(_RULES))
        n_rows = len(fires)
        preferred = np.tile(self.preferred, len(_RULES))
        lch = self.nodes.near[preferred, self.rng.integers(0, N_NEAR, n_rows)]
        return pa.table(
            {
                "analysis_id": np.full(n_rows, analysis),
                "basis": [basis] * n_rows,
                "latent": np.tile(np.arange(self.n), len(_RULES)),
                "rule": np.repeat(_RULES, self.n).tolist(),
                "n_associated": np.where(fires, self.rng.integers(1, _N_TOP + 1, n_rows), 0),
                "lch_synset_id": pa.array(self.nodes.ids[lch], mask=~fires),
                "lch_height": pa.array(taxonomy.height[lch], mask=~fires),
                "lch_height_relative": pa.array(taxonomy.height[lch] / taxonomy.height.max(), mask=~fires),
                "lch_depth": pa.array(taxonomy.depth[lch], mask=~fires),
                "coverage": pa.array(self.rng.beta(1, 4, n_rows), mask=~fires),
            }
        )


def best_of_nodes(
    analysis: int, basis: str, seed: int, nodes: Nodes, n_latents: int, quality: float, rng: np.random.Generator
) -> pa.Table:
    """One latent per node, as a shuffled control stores them."""
    n_nodes = len(nodes.ids)
    n_fire = np.clip(nodes.n_images * rng.uniform(0.3, 3.0, n_nodes), 1, nodes.n_total).astype(np.int64)
    share = rng.uniform(0, quality, n_nodes)
    latents = rng.integers(0, n_latents, n_nodes)
    return _node_rows(analysis, basis, seed, nodes, _Pairs(latents, np.arange(n_nodes), n_fire, share), rng)


def random_pairs(analysis: int, n_rows: int, nodes: Nodes, rng: np.random.Generator) -> pa.Table:
    """Rows of node_score of `n_rows` different pairs of one SAE."""
    n_nodes = len(nodes.ids)
    latent, node = np.divmod(np.arange(n_rows), n_nodes)
    n_fire = rng.integers(1, nodes.n_total, n_rows)
    return _node_rows(analysis, "sae", 0, nodes, _Pairs(latent, node, n_fire, rng.uniform(0, 1, n_rows)), rng)


def _node_rows(analysis: int, basis: str, seed: int, nodes: Nodes, pairs: _Pairs, rng: np.random.Generator) -> pa.Table:
    """Rows of node_score."""
    latent, node, n_fire, share = pairs.latent, pairs.node, pairs.n_fire, pairs.share
    n_rows, n_node = len(latent), nodes.n_images[node]
    least = np.maximum(n_fire + n_node - nodes.n_total, 0)
    n_both = np.maximum((share * np.minimum(n_fire, n_node)).astype(np.int64), least)
    z = rng.normal(3, 3, n_rows)
    whole = n_node == nodes.n_total
    nothing = np.ones(n_rows, dtype=bool)
    f1 = 2 * n_both / (n_fire + n_node)
    is_best = _is_node_best(node, f1)
    floats = {
        "precision": pa.array(n_both / n_fire),
        "recall": pa.array(n_both / n_node),
        "f1": pa.array(f1),
        "auroc": pa.array(0.5 + share / 2, mask=whole),
        "auroc_dense": pa.array(0.5 + share / 2, mask=whole if basis == "neuron" else nothing),
        "z": pa.array(z, mask=whole),
        "f1_adjusted": pa.array(f1 - (1 - f1) * 0.1, mask=whole),
        "p": pa.array(np.exp(-np.abs(z)), mask=whole),
        "p_node": pa.array(np.exp(-np.abs(z)), mask=whole | ~is_best),
        "q_node": pa.array(np.exp(-np.abs(z) / 2), mask=whole | ~is_best),
        "mass_share": pa.array(share),
        "mean_inside": pa.array(rng.exponential(1.0, n_rows)),
        "mean_outside": pa.array(rng.exponential(0.1, n_rows), mask=whole),
        "average_precision": pa.array(share, mask=whole),
        "best_f1": pa.array(np.minimum(1.0, 2.2 * n_both / (n_fire + n_node))),
        "best_threshold": pa.array(rng.exponential(1.0, n_rows)),
    }
    return pa.table(
        {
            "analysis_id": np.full(n_rows, analysis),
            "basis": [basis] * n_rows,
            "seed": np.full(n_rows, seed),
            "latent": latent,
            "synset_id": nodes.ids[node],
            "is_node_best": is_best,
            "is_distinct": ~whole,
            "n_images": n_node,
            "n_fire": n_fire,
            "n_both": n_both,
            **floats,
        }
    )


def _is_node_best(node: np.ndarray, f1: np.ndarray) -> np.ndarray:
    """Marks one row with the best F1 of every node."""
    order = np.lexsort((-f1, node))
    is_best = np.zeros(len(node), dtype=bool)
    is_best[order[np.unique(node[order], return_index=True)[1]]] = True
    return is_best
