"""The synthetic study's hierarchy among latents and scores by level: latent_edge, latent_family, class_probe_level."""

import numpy as np
import pyarrow as pa
from benchmarks.large_study.synthetic_columns import Columns
from benchmarks.large_study.synthetic_taxonomy import Nodes
from scipy.stats import hypergeom

from hsae.hierarchy.latent_hierarchy.pairs import MIN_FIRE
from hsae.hierarchy.probes.taxonomy_levels import taxonomy_levels

# Pairs named by the activations, for every column that fires; among the controls as in the demo.
_EDGES_PER_COLUMN = {
    "sae": 1.2, "exemplar": 0.2, "kmeans": 0.2, "neuron": 3.0, "pca": 0.1, "random": 0.2, "untrained": 0.2,
}  # fmt: skip
_TAXONOMY_SHARE, _SHUFFLED_SHARE = 0.3, 0.2
_LEAST_QUALITY = 0.5
_Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def edges_and_families(
    analysis: int, basis: str, columns: Columns, rng: np.random.Generator, *, seed: int = 0
) -> tuple[pa.Table, pa.Table]:
    """Rows of latent_edge and latent_family; a shuffled basis has edges of the taxonomy alone, and few of them."""
    is_shuffled = basis.startswith("shuffled")
    sources = {"taxonomy": _of_taxonomy(columns, rng, share=_SHUFFLED_SHARE if is_shuffled else _TAXONOMY_SHARE)}
    if not is_shuffled:
        sources["activation"] = _of_activations(columns, _EDGES_PER_COLUMN[basis], rng)
    tables = [
        (_edge_rows(columns, source, *pairs, rng), _family_rows(columns, source, pairs[0], rng))
        for source, pairs in sources.items()
    ]
    of_basis = {"analysis_id": analysis, "basis": basis, "seed": seed}
    edges, families = (pa.concat_tables(parts) for parts in zip(*tables, strict=True))
    return _headed(edges, of_basis), _headed(families, of_basis)


def _of_taxonomy(columns: Columns, rng: np.random.Generator, share: float) -> _Pairs:
    """Parent, child and their nodes: a latent that prefers a node, and one that prefers its hyponym."""
    taxonomy = columns.nodes.taxonomy
    best = np.full(len(columns.nodes.ids), -1)
    order = np.argsort(columns.quality)
    best[columns.preferred[order]] = order
    child_node, parent_node = taxonomy.hypernym_edges.T
    child, parent = best[child_node], best[parent_node]
    kept = (
        (np.minimum(child, parent) >= 0) & (columns.quality[child] >= _LEAST_QUALITY) & (rng.random(len(child)) < share)
    )
    kept &= (columns.n_fire[child] > 0) & (columns.n_fire[parent] > 0)
    return parent[kept], child[kept], parent_node[kept], child_node[kept]


def _of_activations(columns: Columns, per_column: float, rng: np.random.Generator) -> _Pairs:
    """Parent and child of random pairs: the parent fires on more images, and some parents have very many children."""
    order = np.argsort(-columns.n_fire)[: int((columns.n_fire > 0).sum())]
    child = rng.integers(1, len(order), round(per_column * len(order)))
    parent = (child * rng.random(len(child)) ** 3).astype(np.int64)
    parent, child = np.unique(np.stack((order[parent], order[child])), axis=1)
    return parent, child, np.full(len(child), -1), np.full(len(child), -1)


def _edge_rows(
    columns: Columns,
    source: str,
    parent: np.ndarray,
    child: np.ndarray,
    parent_node: np.ndarray,
    child_node: np.ndarray,
    rng: np.random.Generator,
) -> pa.Table:
    n_rows, ids = len(child), columns.nodes.ids
    n_parent, n_child = columns.n_fire[parent], columns.n_fire[child]
    least = 0.9 if source == "activation" else 0.0
    n_both = np.ceil(rng.uniform(least, 1, n_rows) * np.minimum(n_parent, n_child)).astype(np.int64)
    implication, dominance = n_both / n_child, rng.random(n_rows)
    chance = np.minimum(n_parent / columns.nodes.n_total, 0.99)
    return pa.table(
        {
            "source": pa.repeat(source, n_rows),
            "parent": parent,
            "child": child,
            "parent_synset_id": pa.array(ids[parent_node], mask=parent_node < 0),
            "child_synset_id": pa.array(ids[child_node], mask=child_node < 0),
            "n_parent_select": n_parent,
            "n_child_select": n_child,
            "n_both_select": n_both,
            "n_parent": n_parent,
            "n_child": n_child,
            "n_both": n_both,
            "implication": implication,
            "expected_implication": chance,
            "adjusted_implication": (implication - chance) / (1 - chance),
            "implication_p": hypergeom.sf(n_both - 1, columns.nodes.n_total, n_parent, n_child),
            "weighted_implication": implication,
            "reverse_implication": n_both / n_parent,
            "weighted_reverse_implication": n_both / n_parent,
            "dominance": dominance,
            "miss_rate": 1 - implication,
            "not_dominant_share": 1 - dominance,
            "correlation": rng.uniform(-1, 1, n_rows),
            "is_confirmed": n_child >= MIN_FIRE,
            "is_ms_abstract": rng.random(n_rows) < 0.5,
        }
    )


def _family_rows(columns: Columns, source: str, parents: np.ndarray, rng: np.random.Generator) -> pa.Table:
    parent, n_children = np.unique(parents, return_counts=True)
    n_rows, only = len(parent), n_children < 2
    return pa.table(
        {
            "source": pa.repeat(source, n_rows),
            "parent": parent,
            "n_children": n_children,
            "n_confirmed": n_children,
            "n_parent": columns.n_fire[parent],
            "n_any_child": columns.n_fire[parent],
            "refinement": rng.random(n_rows),
            "correlation": rng.uniform(-1, 1, n_rows),
            **{
                f"{name}_{by}": pa.array(values, mask=only)
                for by in ("decoder", "images")
                for name, values in (
                    ("sibling_similarity", rng.uniform(-0.1, 0.9, n_rows)),
                    ("random_similarity", rng.normal(0, 0.02, n_rows)),
                    ("random_share", rng.random(n_rows)),
                )
            },
            "ms_abstract_share": rng.random(n_rows),
        }
    )


def class_probe_level_rows(probe: int, nodes: Nodes, depth: float, rng: np.random.Generator) -> pa.Table:
    """Rows of class_probe_level of a probe; `depth` is how far up in the model its layer lies, 0 to 1."""
    n_groups = np.array([len(np.unique(level)) for level in taxonomy_levels(nodes.taxonomy)])
    n_rows, n_test = len(n_groups), nodes.n_total // 4
    accuracy = np.clip(depth - 0.02 * np.arange(n_rows) + rng.normal(0, 0.02, n_rows), 0, 1)
    return pa.table(
        {
            "class_probe_id": pa.repeat(probe, n_rows),
            "level": np.arange(1, n_rows + 1),
            "n_groups": n_groups,
            "n_train": pa.repeat(nodes.n_total - n_test, n_rows),
            "n_test": pa.repeat(n_test, n_rows),
            "probe_accuracy": accuracy,
            "probe_chance": 1 / n_groups,
            "probe_l2": pa.repeat(0.01, n_rows),
            "knn_accuracy": 0.9 * accuracy,
            "nn_accuracy": 0.8 * accuracy,
        }
    )


def _headed(rows: pa.Table, head: dict[str, object]) -> pa.Table:
    return pa.table(
        {name: pa.repeat(value, rows.num_rows) for name, value in head.items()}
        | dict(zip(rows.column_names, rows.columns, strict=True))
    )
