"""The taxonomy of the synthetic study: WordNet's, induced by leaf synsets chosen like ImageNet's."""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from sqlalchemy.orm import Session

from hsae.catalog import Dataset
from hsae.catalog.server.bulk_copy import copy_rows
from hsae.taxonomy import InducedTaxonomy, Taxonomy, induce, load_taxonomy

# Leaf synsets under each of these, of 1,000 in all; the sizes are about ImageNet-1k's.
_SHARES = {
    "dog.n.01": 100, "cat.n.01": 8, "bird.n.01": 60, "animal.n.01": 230, "vehicle.n.01": 60, "artifact.n.01": 460,
    "food.n.01": 40, "fruit.n.01": 20, "geological_formation.n.01": 12, "person.n.01": 10,
}  # fmt: skip
N_NEAR = 5


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """The induced taxonomy in the catalog: `ids` are the synsets', `n_images` the images under every node."""

    taxonomy: InducedTaxonomy
    ids: np.ndarray
    n_images: np.ndarray
    near: np.ndarray
    """int[n_nodes, N_NEAR]: every node, then its nearest ancestors."""
    dataset_id: int
    n_total: int


def imagenet_like(n_classes: int, seed: int = 0) -> InducedTaxonomy:
    """The taxonomy of `n_classes` leaf synsets of WordNet, spread as ImageNet's are."""
    wordnet = load_taxonomy()
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for name, share in _SHARES.items():
        leaves = sorted(_leaves(wordnet, wordnet.resolve(name).id) - chosen)
        wanted = max(2, round(share * n_classes / sum(_SHARES.values())))
        chosen |= {leaves[place] for place in rng.permutation(len(leaves))[:wanted]}
    return induce(wordnet, chosen)


def _leaves(taxonomy: Taxonomy, root: str) -> set[str]:
    found, seen, pending = set(), {root}, [root]
    while pending:
        node = pending.pop()
        below = taxonomy.hyponyms(node)
        if not below:
            found.add(node)
        pending.extend(child for child in below if child not in seen)
        seen.update(below)
    return found


def enter_inputs(session: Session, n_classes: int, images_per_class: int) -> Nodes:
    """Enter the data set and its taxonomy; every class has as many images."""
    induced = imagenet_like(n_classes)
    n_nodes, n_classes = len(induced.synsets), len(induced.classes)
    n_images = induced.leaf_counts.astype(np.int64) * images_per_class
    n_total = n_classes * images_per_class
    dataset = Dataset(
        name="synthetic", fingerprint="0", root="/nowhere", taxonomy="wordnet-3.0", taxonomy_key=induced.key,
        n_images=n_total, n_classes=n_classes, n_nodes=n_nodes, listing_sha256="0",
    )  # fmt: skip
    session.add(dataset)
    session.flush()
    ids = np.arange(n_nodes) + 1
    closure = induced.node_closure()
    lemmas = [f"{{{','.join(json.dumps(lemma) for lemma in synset.lemmas)}}}" for synset in induced.synsets]
    copy_rows(
        session,
        "synset",
        pa.table(
            {
                "id": ids,
                "taxonomy": ["wordnet-3.0"] * n_nodes,
                "wnid": [synset.id for synset in induced.synsets],
                "name": [synset.name for synset in induced.synsets],
                "lemmas": lemmas,
                "definition": [synset.definition for synset in induced.synsets],
            }
        ),
    )
    edges = ids[induced.hypernym_edges]
    copy_rows(session, "hypernym", pa.table({"synset_id": edges[:, 0], "hypernym_id": edges[:, 1]}))
    copy_rows(
        session,
        "hypernym_closure",
        pa.table({"descendant_id": ids[closure[:, 0]], "ancestor_id": ids[closure[:, 1]], "distance": closure[:, 2]}),
    )
    copy_rows(
        session,
        "dataset_class",
        pa.table(
            {
                "dataset_id": np.full(n_classes, dataset.id),
                "position": np.arange(n_classes),
                "synset_id": ids[induced.classes],
                "label": [induced.synsets[node].id for node in induced.classes],
                "n_images": np.full(n_classes, images_per_class),
            }
        ),
    )
    copy_rows(
        session,
        "dataset_node",
        pa.table(
            {
                "dataset_id": np.full(n_nodes, dataset.id),
                "synset_id": ids,
                "height": induced.height,
                "depth": induced.depth,
                "n_classes": induced.leaf_counts,
                "n_images": n_images,
                "is_class": np.isin(np.arange(n_nodes), induced.classes),
            }
        ),
    )
    near = np.full((n_nodes, N_NEAR), induced.root)
    order = np.lexsort((closure[:, 2], closure[:, 0]))
    starts = np.searchsorted(closure[order, 0], np.arange(n_nodes))
    place = np.arange(len(order)) - starts[closure[order, 0]]
    kept = order[place < N_NEAR]
    near[closure[kept, 0], place[place < N_NEAR]] = closure[kept, 1]
    return Nodes(induced, ids, n_images, near, dataset.id, n_total)
