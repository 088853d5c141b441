"""The public views: each latent's label, each node's best latent, scores along depth."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_VIEWS = {
    "latent_label": (
        "Each latent's label (the node with its best F1) with names instead of ids.",
        """
        SELECT m.name AS model, d.name AS dataset, s.layer, s.tokens, e.kind AS sae_kind,
               l.analysis_id, l.basis, l.latent,
               y.wnid, y.name AS synset, n.height, n.depth, n.n_classes,
               l.label_f1 AS f1, l.label_precision AS precision, l.label_recall AS recall, l.label_auroc AS auroc,
               h.name AS lch, l.lch_height, l.coverage, l.n_fire
        FROM latent l
        JOIN analysis a ON a.id = l.analysis_id
        JOIN sae e ON e.id = a.sae_id
        JOIN activation_set s ON s.id = e.activation_set_id
        JOIN model m ON m.id = s.model_id
        JOIN dataset d ON d.id = a.dataset_id
        JOIN synset y ON y.id = l.label_synset_id
        LEFT JOIN synset h ON h.id = l.lch_synset_id
        JOIN dataset_node n ON n.dataset_id = a.dataset_id AND n.synset_id = l.label_synset_id
        """,
    ),
    "node_best_latent": (
        "For every node the latent with the best F1, per analysis and basis.",
        """
        SELECT DISTINCT ON (r.analysis_id, r.basis, r.seed, r.synset_id)
               m.name AS model, d.name AS dataset, s.layer, s.tokens, e.kind AS sae_kind,
               r.analysis_id, r.basis, r.seed, y.wnid, y.name AS synset, r.synset_id,
               n.height, n.depth, n.n_classes,
               r.latent, r.f1, r.precision, r.recall, r.auroc, r.q, r.n_images, r.n_fire
        FROM node_score r
        JOIN analysis a ON a.id = r.analysis_id
        JOIN sae e ON e.id = a.sae_id
        JOIN activation_set s ON s.id = e.activation_set_id
        JOIN model m ON m.id = s.model_id
        JOIN dataset d ON d.id = a.dataset_id
        JOIN synset y ON y.id = r.synset_id
        JOIN dataset_node n ON n.dataset_id = a.dataset_id AND n.synset_id = r.synset_id
        ORDER BY r.analysis_id, r.basis, r.seed, r.synset_id, r.f1 DESC NULLS LAST, r.latent
        """,
    ),
    "layer_progress": (
        "How structure grows along depth: layer scores per model, SAE kind, layer and basis, averaged over seeds.",
        """
        SELECT m.name AS model, d.name AS dataset, s.layer, s.tokens, e.kind AS sae_kind, e.expansion,
               c.analysis_id, c.basis, count(*) AS n_seeds,
               avg(c.fvu) AS fvu, avg(c.cosine) AS cosine, avg(c.l0) AS l0, avg(c.dead_share) AS dead_share,
               avg(c.lch_height_mean) AS lch_height, avg(c.lch_height_relative_mean) AS lch_height_relative,
               avg(c.coverage_mean) AS coverage,
               avg(c.share_nodes_f1) AS share_nodes_f1, avg(c.share_nodes_q) AS share_nodes_q,
               avg(c.best_f1_mean) AS best_f1, avg(c.best_f1_inner_mean) AS best_f1_inner,
               avg(c.probe_accuracy) AS probe_accuracy
        FROM layer_score c
        JOIN analysis a ON a.id = c.analysis_id
        JOIN sae e ON e.id = a.sae_id
        JOIN activation_set s ON s.id = e.activation_set_id
        JOIN model m ON m.id = s.model_id
        JOIN dataset d ON d.id = a.dataset_id
        GROUP BY m.name, d.name, s.layer, s.tokens, e.kind, e.expansion, c.analysis_id, c.basis
        """,
    ),
}


def upgrade() -> None:
    """Apply."""
    for name, (comment, query) in _VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")
        op.execute(f"COMMENT ON VIEW {name} IS '{comment.replace(chr(39), chr(39) * 2)}'")


def downgrade() -> None:
    """Undo."""
    for name in reversed(_VIEWS):
        op.execute(f"DROP VIEW {name}")
