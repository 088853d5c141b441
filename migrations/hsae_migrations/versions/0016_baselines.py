"""The ladder of baselines: the best of them at every node as a view; comments name them."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# Read by the row, as node_control: the rows of one node are looked up in an index.
_NODE_BASELINE = """
        SELECT a.id AS analysis_id, n.synset_id, b.basis, b.f1
        FROM analysis a JOIN dataset_node n ON n.dataset_id = a.dataset_id
        CROSS JOIN LATERAL (
            SELECT r.basis, sum(r.f1) / (SELECT count(*) FROM layer_score c
                                         WHERE c.analysis_id = a.id AND c.basis = r.basis) AS f1
            FROM node_score r
            WHERE r.analysis_id = a.id AND r.synset_id = n.synset_id AND r.is_node_best
              AND r.basis IN ('exemplar', 'kmeans', 'pca', 'random', 'neuron', 'untrained')
            GROUP BY r.basis ORDER BY 2 DESC NULLS LAST, r.basis LIMIT 1
        ) b
"""
_ABOUT = (
    "The best baseline of each analysis at each node of its data set; nodes at which no baseline fires have no row."
)
_COLUMNS = {
    "analysis_id": "the analysis",
    "synset_id": "the node",
    "basis": "the baseline whose best column has the greatest F1: exemplar, kmeans, pca, random, neuron or untrained",
    "f1": "that F1; of random directions the mean over the draws",
}

_BEFORE = (
    "sae, or a control: neuron, pca, random (raw neurons, principal and random directions, split by sign), untrained "
    "(the SAE before its training)"
)
_NOW = (
    "sae, or a control at the densities of its latents: exemplar, kmeans, pca, random, neuron, untrained (baselines) or "
    "class_mean (supervised: a ceiling, not a baseline)"
)
_SHUFFLES = "shuffled_labels or shuffled_taxonomy (the trained SAE's latents)"
_OF_VIEWS = (
    "sae, or a control: neuron, pca, random, untrained, shuffled_labels or shuffled_taxonomy",
    "sae, or a control: exemplar, kmeans, pca, random, neuron, untrained, class_mean, shuffled_labels or "
    "shuffled_taxonomy",
)
_SEED = (
    "seed of a shuffled control; 0 otherwise",
    "seed of a shuffled control; of random directions the number of the draw, of which 0 has rows in latent; else 0",
)
_WITH_LATENTS = ("latent", "latent_place")
_OF_EVERY_BASIS = ("node_score", "layer_score", "latent_edge", "latent_family")
# Relation, column, comment before, comment now.
_COMMENTS = (
    *((table, "basis", _BEFORE, _NOW) for table in _WITH_LATENTS),
    *((table, "basis", f"{_BEFORE}, {_SHUFFLES}", f"{_NOW}, or {_SHUFFLES}") for table in _OF_EVERY_BASIS),
    *((table, "seed", *_SEED) for table in (*_OF_EVERY_BASIS, "node_best_latent", "latent_edge_label")),
    *(
        (view, "basis", *_OF_VIEWS)
        for view in ("latent_label", "node_best_latent", "layer_progress", "latent_edge_label")
    ),
    (
        "latent",
        "latent",
        "index in the dictionary; neuron, pca (by falling variance) and random: all positive halves, then all negative "
        "halves",
        "index in the dictionary; neuron, pca (by falling variance) and random: all directions, then their opposites",
    ),
    (
        "node_score",
        "auroc_dense",
        "neuron, pca, random, untrained: AUROC of the unthinned column; null for other bases",
        "best column of a control basis at the node: its AUROC before the threshold; null for other rows, for the SAE "
        "and for shuffles",
    ),
    (
        "comparison_score",
        "basis",
        "sae or a control; of a shuffled basis the mean over its seeds",
        "sae or a control; the mean over its seeds, where it has several",
    ),
    (
        "layer_progress",
        "n_seeds",
        "seeds of a shuffled control, over which the scores are averaged; 1 otherwise",
        "seeds of a shuffled control or of random directions, over which the scores are averaged; 1 otherwise",
    ),
)


def upgrade() -> None:
    """Apply."""
    op.execute(f"CREATE VIEW node_baseline AS {_NODE_BASELINE}")
    op.execute(f"COMMENT ON VIEW node_baseline IS '{_ABOUT}'")
    for column, comment in _COLUMNS.items():
        _comment("node_baseline", column, comment)
    for relation, column, _, now in _COMMENTS:
        _comment(relation, column, now)


def downgrade() -> None:
    """Undo."""
    for relation, column, before, _ in _COMMENTS:
        _comment(relation, column, before)
    op.execute("DROP VIEW node_baseline")


def _comment(relation: str, column: str, comment: str) -> None:
    literal = "'" + comment.replace("'", "''") + "'"
    op.execute(f"COMMENT ON COLUMN {relation}.{column} IS {literal}")
