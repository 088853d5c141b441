"""Rows as the catalog gives them, for figures: two SAEs, layers 0 and 1, analyses 1 to 4, a taxonomy of five nodes."""

EVIL = "<script>alert(1)</script>"

ANALYSES = [
    {"analysis_id": 1, "layer": 0, "sae": "topk SAE"},
    {"analysis_id": 2, "layer": 1, "sae": "topk SAE"},
    {"analysis_id": 3, "layer": 0, "sae": EVIL},
    {"analysis_id": 4, "layer": 1, "sae": EVIL},
]
INTERVALS = {
    (1, "sae", "coherence_excess"): (0.3, 0.2, 0.4),
    (2, "sae", "coherence_excess"): (0.5, 0.35, 0.65),
    (1, "exemplar", "coherence_excess"): (0.6, 0.5, 0.7),
    (1, "random", "coherence_excess"): (0.1, 0.0, 0.2),
    (2, "kmeans", "coherence_excess"): (0.45, 0.3, 0.6),
    (3, "sae", "coherence_excess"): (0.25, None, None),
}
SHUFFLED = {(1, "coherence_excess"): (0.01, 0.07), (2, "coherence_excess"): (-0.01, 0.08)}


def node(number: int, name: str, n_classes: int, hypernyms=()) -> dict:
    return {
        "synset_id": number, "synset": name, "wnid": f"n{number:08d}", "n_classes": n_classes, "n_images": 10,
        "hypernym_ids": list(hypernyms), "hypernyms": [f"n{one}" for one in hypernyms],
    }  # fmt: skip


# animal and pet hold dog; organism holds the same classes as animal, and is drawn as that.
NODES = [
    node(1, "entity.n.01", 5),
    node(2, "organism.n.01", 4, (1,)),
    node(3, "animal.n.01", 4, (2,)),
    node(4, "pet.n.01", 3, (1,)),
    node(5, "dog.n.01", 1, (3, 4)),
    node(6, EVIL, 1, (3,)),
    node(7, "cat.n.01", 1, (4,)),
]


def score(analysis: int, synset: int, f1_adjusted: float | None, **changes) -> dict:
    row = {
        "analysis_id": analysis, "synset_id": synset, "latent": 100 * analysis + synset, "f1": f1_adjusted,
        "f1_adjusted": f1_adjusted, "q_node": 0.01, "n_images": 9, "n_fire": 7, "is_distinct": True,
        "baseline": "kmeans", "f1_adjusted_baseline": 0.3, "f1_adjusted_shuffled": 0.05,
    }  # fmt: skip
    return row | changes


SCORES = [
    score(1, 1, None, q_node=None),
    score(1, 3, 0.4),
    score(1, 5, 0.9),
    score(2, 3, 0.6, f1_adjusted_shuffled=0.1, f1_adjusted_baseline=0.25, baseline="exemplar"),
    score(2, 4, -0.2, q_node=0.9),
    score(2, 6, 0.25),
    score(3, 3, 0.1),
]
