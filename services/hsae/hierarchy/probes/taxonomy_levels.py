"""The group of each class at every level of the taxonomy."""

import numpy as np
from jaxtyping import Int32

from hsae.taxonomy import InducedTaxonomy


def taxonomy_levels(taxonomy: InducedTaxonomy) -> Int32[np.ndarray, "n_levels n_classes"]:
    """Cut the taxonomy at every depth: the group of a class at level `d` is an ancestor of it, or itself, at depth `d`.

    In a DAG a class may have several ancestors at one depth. If each level chose among them independently, two classes
    could be in different groups at one level and in the same group at the next. Therefore every node has one chosen
    parent (ours): among its parents that are one step nearer to the root, the one with the fewest classes under it,
    then the smallest id. The chosen parents form a tree of shortest paths, and the groups of a class are the nodes on
    its path from the root. A class that is less deep than a level stays in its group of the level above, which is the
    class itself.

    So each level refines the level above, a class of depth `d` or more has a group of depth `d`, and at the last level
    every class is its own group.

    Args:
        taxonomy: the induced taxonomy of the classes.

    Returns:
        int32[n_levels, n_classes] of node indices. Row `d - 1` is level `d`, from 1 to the greatest depth of a class
        (one row if the root is the only class).
    """
    parent = _nearest_parents(taxonomy)
    groups = [taxonomy.classes]
    for level in range(int(taxonomy.depth[taxonomy.classes].max()) - 1, 0, -1):
        below = groups[-1]
        groups.append(np.where(taxonomy.depth[below] > level, parent[below], below))
    return np.stack(groups[::-1]).astype(np.int32)


def _nearest_parents(taxonomy: InducedTaxonomy) -> Int32[np.ndarray, "n_nodes"]:
    """The chosen parent of every node; the root is its own parent."""
    child, parent = taxonomy.hypernym_edges.T
    is_nearer = taxonomy.depth[parent] == taxonomy.depth[child] - 1
    child, parent = child[is_nearer], parent[is_nearer]
    order = np.lexsort((parent, taxonomy.leaf_counts[parent], child))
    children, first = np.unique(child[order], return_index=True)
    chosen = np.arange(len(taxonomy.synsets), dtype=np.int32)
    chosen[children] = parent[order][first]
    return chosen
