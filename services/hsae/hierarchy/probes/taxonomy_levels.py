"""Which group each class belongs to at every level of the taxonomy."""

import numpy as np
from jaxtyping import Int32

from hsae.taxonomy import InducedTaxonomy


def taxonomy_levels(taxonomy: InducedTaxonomy) -> Int32[np.ndarray, "n_levels n_classes"]:
    """Cut the taxonomy at every depth: the group of a class at level `d` is an ancestor of it, or itself, at depth `d`.

    A DAG may offer a class several ancestors at a depth. Were each level to choose among them by itself, two classes
    could be apart at one level and together at the next. So every node chooses once (ours): of its parents that are
    one nearer to the root, the one with the fewest classes under it, then the smallest id. The chosen parents are a
    tree of shortest paths, and a class's groups are the nodes of its path from the root. A class less deep than a level
    stays in the group of the level above, which from there on is the class itself, alone.

    So the groups of a level refine those of the level above, a class of depth `d` or more has a group of depth `d`, and
    at the last level every class is its own group.

    Args:
        taxonomy: the induced taxonomy of the classes.

    Returns:
        nodes, a class per column; row `d - 1` is level `d`, from 1 to the greatest depth of a class (one row where the
        root is the only class).
    """
    parent = _nearest_parents(taxonomy)
    groups = [taxonomy.classes]
    for level in range(int(taxonomy.depth[taxonomy.classes].max()) - 1, 0, -1):
        below = groups[-1]
        groups.append(np.where(taxonomy.depth[below] > level, parent[below], below))
    return np.stack(groups[::-1]).astype(np.int32)


def _nearest_parents(taxonomy: InducedTaxonomy) -> Int32[np.ndarray, "n_nodes"]:
    """Every node's parent on its path to the root; the root is its own."""
    child, parent = taxonomy.hypernym_edges.T
    is_nearer = taxonomy.depth[parent] == taxonomy.depth[child] - 1
    child, parent = child[is_nearer], parent[is_nearer]
    order = np.lexsort((parent, taxonomy.leaf_counts[parent], child))
    children, first = np.unique(child[order], return_index=True)
    chosen = np.arange(len(taxonomy.synsets), dtype=np.int32)
    chosen[children] = parent[order][first]
    return chosen
