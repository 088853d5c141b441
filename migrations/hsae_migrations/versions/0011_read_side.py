"""What an analysis was made from, and what its controls reach, as views; every view's columns have comments."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_ANALYSIS_INPUT = """
        SELECT a.id AS analysis_id, a.key AS analysis_key, a.job_id, a.config AS scoring, a.n_images, a.created_at,
               e.id AS sae_id, e.key AS sae_key, e.kind AS sae_kind, e.expansion, e.n_latents, e.seed AS sae_seed,
               e.config AS sae_config,
               s.id AS activation_set_id, s.key AS activation_key, s.layer, s.tokens, s.dtype, s.n_views,
               m.id AS model_id, m.name AS model, m.revision, m.d_model,
               d.id AS dataset_id, d.name AS dataset
        FROM analysis a
        JOIN sae e ON e.id = a.sae_id
        JOIN activation_set s ON s.id = e.activation_set_id
        JOIN model m ON m.id = s.model_id
        JOIN dataset d ON d.id = a.dataset_id
"""
# Read by the row: both parts are looked up in an index, which for a page of rows is far faster than to group all rows.
_F1_OF_CONTROL = """
               (SELECT coalesce(sum(r.f1), 0) FROM node_score r
                WHERE r.analysis_id = a.id AND r.synset_id = n.synset_id AND r.basis = '{control}' AND r.is_node_best)
               / (SELECT nullif(count(*), 0) FROM layer_score c WHERE c.analysis_id = a.id AND c.basis = '{control}')
               AS f1_{control}"""
_NODE_CONTROL = f"""
        SELECT a.id AS analysis_id, n.synset_id,
               {_F1_OF_CONTROL.format(control="neuron")},
               {_F1_OF_CONTROL.format(control="shuffled_taxonomy")}
        FROM analysis a JOIN dataset_node n ON n.dataset_id = a.dataset_id
"""  # noqa: S608 -- names of controls, ours
_NEW = {
    "analysis_input": (
        "Each analysis with what it was made from: its SAE, the activations, the model and the data set.",
        _ANALYSIS_INPUT,
    ),
    "node_control": (
        "What the controls of each analysis reach at each node of its data set; to be joined with rows of an SAE.",
        _NODE_CONTROL,
    ),
}
_LATENT_LABEL = """
        SELECT {model} AS model, {dataset} AS dataset, {layer} AS layer, {tokens} AS tokens, {sae_kind} AS sae_kind,
               l.analysis_id, l.basis, l.latent,
               y.wnid, y.name AS synset, n.height, n.depth, n.n_classes,
               l.label_f1 AS f1, l.label_precision AS precision, l.label_recall AS recall, l.label_auroc AS auroc,
               h.name AS lch, l.lch_height, l.coverage, l.n_fire,
               l.label_synset_id AS synset_id, l.lch_synset_id, l.lch_depth, l.class_entropy, l.monosemanticity
        FROM latent l
        {inputs} = l.analysis_id
        JOIN synset y ON y.id = l.label_synset_id
        LEFT JOIN synset h ON h.id = l.lch_synset_id
        JOIN dataset_node n ON n.dataset_id = {dataset_id} AND n.synset_id = l.label_synset_id
"""
_NODE_BEST_LATENT = """
        SELECT {model} AS model, {dataset} AS dataset, {layer} AS layer, {tokens} AS tokens, {sae_kind} AS sae_kind,
               r.analysis_id, r.basis, r.seed, y.wnid, y.name AS synset, r.synset_id,
               n.height, n.depth, n.n_classes,
               r.latent, r.f1, r.precision, r.recall, r.auroc, r.q, r.n_images, r.n_fire,
               r.average_precision, r.best_f1, r.best_threshold
        FROM node_score r
        {inputs} = r.analysis_id
        JOIN synset y ON y.id = r.synset_id
        JOIN dataset_node n ON n.dataset_id = {dataset_id} AND n.synset_id = r.synset_id
        WHERE r.is_node_best
"""
_LAYER_PROGRESS = """
        SELECT {model} AS model, {dataset} AS dataset, {layer} AS layer, {tokens} AS tokens, {sae_kind} AS sae_kind,
               {expansion} AS expansion, c.analysis_id, c.basis, count(*) AS n_seeds,
               avg(c.fvu) AS fvu, avg(c.cosine) AS cosine, avg(c.l0) AS l0, avg(c.dead_share) AS dead_share,
               avg(c.lch_height_mean) AS lch_height, avg(c.lch_height_relative_mean) AS lch_height_relative,
               avg(c.coverage_mean) AS coverage,
               avg(c.share_nodes_f1) AS share_nodes_f1, avg(c.share_nodes_q) AS share_nodes_q,
               avg(c.best_f1_mean) AS best_f1, avg(c.best_f1_inner_mean) AS best_f1_inner,
               avg(c.probe_accuracy) AS probe_accuracy, avg(c.knn_accuracy) AS knn_accuracy,
               avg(c.path_correlation) AS path_correlation,
               avg(c.path_correlation_shuffled) AS path_correlation_shuffled
        FROM layer_score c
        {inputs} = c.analysis_id
        GROUP BY {model}, {dataset}, {layer}, {tokens}, {sae_kind}, {expansion}, c.analysis_id, c.basis
"""
_LATENT_EDGE_LABEL = """
        SELECT {model} AS model, {dataset} AS dataset, {layer} AS layer, {tokens} AS tokens, {sae_kind} AS sae_kind,
               x.analysis_id, x.basis, x.seed, x.source,
               x.parent, p.label_synset_id AS parent_label_id, py.name AS parent_label, p.label_f1 AS parent_f1,
               x.child, c.label_synset_id AS child_label_id, cy.name AS child_label, c.label_f1 AS child_f1,
               pn.name AS parent_node, cn.name AS child_node, x.n_parent, x.n_child, x.n_both,
               x.implication, x.weighted_implication, x.reverse_implication, x.weighted_reverse_implication,
               x.dominance, x.hard_absorption, x.soft_absorption, x.correlation, x.is_ms_abstract
        FROM latent_edge x
        {inputs} = x.analysis_id
        JOIN latent p ON p.analysis_id = x.analysis_id AND p.latent = x.parent
             AND p.basis = CASE WHEN x.basis LIKE 'shuffled%' THEN 'sae' ELSE x.basis END
        JOIN latent c ON c.analysis_id = x.analysis_id AND c.latent = x.child AND c.basis = p.basis
        LEFT JOIN synset py ON py.id = p.label_synset_id
        LEFT JOIN synset cy ON cy.id = c.label_synset_id
        LEFT JOIN synset pn ON pn.id = x.parent_synset_id
        LEFT JOIN synset cn ON cn.id = x.child_synset_id
"""
_REWRITTEN = {
    "latent_label": _LATENT_LABEL,
    "node_best_latent": _NODE_BEST_LATENT,
    "layer_progress": _LAYER_PROGRESS,
    "latent_edge_label": _LATENT_EDGE_LABEL,
}
_INPUTS = {
    "inputs": "JOIN analysis_input i ON i.analysis_id",
    **{name: f"i.{name}" for name in ("model", "dataset", "layer", "tokens", "sae_kind", "expansion", "dataset_id")},
}
_INPUTS_BEFORE = {
    "inputs": "JOIN (analysis a JOIN sae e ON e.id = a.sae_id JOIN activation_set s ON s.id = e.activation_set_id"
    " JOIN model m ON m.id = s.model_id JOIN dataset d ON d.id = a.dataset_id) ON a.id",
    "model": "m.name",
    "dataset": "d.name",
    "layer": "s.layer",
    "tokens": "s.tokens",
    "sae_kind": "e.kind",
    "expansion": "e.expansion",
    "dataset_id": "a.dataset_id",
}

_BASIS = "sae, or a control: neuron, pca, random, untrained, shuffled_labels or shuffled_taxonomy"
# What a column of this name is in every view, and under a view's name what it is there alone.
_COLUMNS = {
    "analysis_id": "the analysis",
    "analysis_key": "content address; objects lie under analyses/<key>/",
    "job_id": "the job that made the analysis",
    "scoring": "scoring configuration of the analysis",
    "created_at": "when the analysis was made",
    "sae_id": "the SAE that was scored",
    "sae_key": "content address of the SAE; objects lie under saes/<key>/",
    "sae_kind": "kind of the SAE, such as relu or topk",
    "sae_seed": "seed of the SAE's initialisation, split and batches",
    "sae_config": "the whole training configuration of the SAE",
    "expansion": "expansion factor of the SAE: n_latents / d_model",
    "n_latents": "size of the dictionary",
    "activation_set_id": "the activations that the SAE was trained on",
    "activation_key": "content address of the activations; objects lie under activations/<key>/",
    "layer": "0-based block whose output (residual stream) was analysed",
    "tokens": "cls, patches or mean",
    "dtype": "stored type of the activations: float32 or bfloat16",
    "n_views": "1 + augmented views per image (training rows only)",
    "model_id": "the backbone",
    "model": "name of the backbone: hub id or local folder",
    "revision": "revision of the backbone: hub commit hash, or sha256-... over the files of a local folder",
    "d_model": "width of the residual stream",
    "dataset_id": "the data set whose labels were scored",
    "dataset": "name of the data set whose labels were scored",
    "basis": _BASIS,
    "seed": "seed of a shuffled control; 0 otherwise",
    "latent": "index in the dictionary, or column of the control",
    "synset_id": "the node",
    "wnid": "WordNet offset of the node such as n02084071; a custom tree's node name",
    "synset": "name of the node such as dog.n.01; a custom tree's node name",
    "height": "longest downward path from the node to a leaf of the data set's taxonomy; leaf = 0",
    "depth": "shortest path from the root to the node; root = 0",
    "n_classes": "classes under the node (itself included if it is one)",
    "n_fire": "images on which the latent fires",
    "f1": "F1 of the latent at the node",
    "precision": "precision of the latent at the node",
    "recall": "recall of the latent at the node",
    "auroc": "AUROC of the latent's activation for the node; null where undefined",
    "coverage": "ontological coverage: share of the classes under the LCH that are associated",
    "lch_height": "height of the lowest common hypernym; 0 = one leaf class",
    "n_images": "scored images",
}
_COLUMNS_OF = {
    "node_control": {
        "f1_neuron": "F1 of the best raw neuron at the node; 0 where none fires, null where neurons were not scored",
        "f1_shuffled_taxonomy": "F1 of the best latent at the node with the classes shuffled over the tree, mean over "
        "seeds; 0 where none fires, null where this control was not scored",
    },
    "latent_label": {
        "synset_id": "the label: the node with the latent's best F1 (ties: the deeper node)",
        "lch": "name of the lowest common hypernym of the associated classes",
        "lch_synset_id": "the lowest common hypernym of the associated classes",
        "lch_depth": "depth of the lowest common hypernym; root = 0",
        "class_entropy": "entropy in bits of the classes of the images on which the latent fires",
        "monosemanticity": "monosemanticity score (arXiv 2504.02821); null where undefined, and in analyses of "
        "earlier versions",
    },
    "node_best_latent": {
        "latent": "index of the best latent in the dictionary, or best column of the control",
        "q": "Benjamini-Hochberg q-value over all pairs of the analysis and basis",
        "n_images": "scored images under the node",
        "average_precision": "average precision of the activation for the node; null where AUROC is, and in analyses "
        "of earlier versions",
        "best_f1": "greatest F1 that a firing threshold gives; null in analyses of earlier versions",
        "best_threshold": "activation from which on the latent fires at best_f1; null where best_f1 is 0",
    },
    "layer_progress": {
        "n_seeds": "seeds of a shuffled control, over which the scores are averaged; 1 otherwise",
        "fvu": "basis sae: fraction of variance unexplained on held-out rows",
        "cosine": "basis sae: mean cosine of input and reconstruction on held-out rows",
        "l0": "mean number of firing columns per scored image",
        "dead_share": "share of the columns that fire on no image",
        "lch_height": "mean height of the lowest common hypernym, over columns that fire",
        "lch_height_relative": "mean height of the lowest common hypernym over the root's height, 0 to 1",
        "coverage": "mean ontological coverage, over columns that fire",
        "share_nodes_f1": "share of nodes for which some column has F1 >= 0.5",
        "share_nodes_q": "share of nodes for which some column has q < 0.01 and AUROC > 0.5",
        "best_f1": "mean over nodes of the best F1",
        "best_f1_inner": "mean best F1 of inner nodes with three or more classes",
        "probe_accuracy": "held-out accuracy of a linear probe for the class on the layer's raw activations",
        "knn_accuracy": "held-out accuracy of the 20 nearest neighbours for the class, on the same activations; null "
        "in analyses of earlier versions",
        "path_correlation": "Spearman correlation, over pairs of classes, of their path distance in the taxonomy and "
        "the cosine distance of their centred mean activations; null in analyses of earlier versions",
        "path_correlation_shuffled": "the same with the classes shuffled over the tree, mean over seeds: the control",
    },
    "latent_edge_label": {
        "source": "taxonomy (the best latents of a node and of its hyponym) or activation (the parent fires wherever "
        "the child does, and not the other way round)",
        "parent": "index of the parent in the dictionary",
        "parent_label_id": "the parent's label: the node with its best F1",
        "parent_label": "name of the parent's label",
        "parent_f1": "F1 of the parent at its label",
        "child": "index of the child in the dictionary",
        "child_label_id": "the child's label: the node with its best F1",
        "child_label": "name of the child's label",
        "child_f1": "F1 of the child at its label",
        "parent_node": "source taxonomy: name of the node whose best latent the parent is",
        "child_node": "source taxonomy: name of that node's hyponym whose best latent the child is",
        "n_parent": "images on which the parent fires",
        "n_child": "images on which the child fires",
        "n_both": "images on which both fire",
        "implication": "P(parent fires | child fires)",
        "weighted_implication": "share of the child's activation that lies on images on which the parent fires",
        "reverse_implication": "P(child fires | parent fires)",
        "weighted_reverse_implication": "share of the parent's activation that lies on images on which the child fires",
        "dominance": "P(the parent is the stronger | both fire); null where they never do",
        "hard_absorption": "1 - implication: how often the parent does not fire where the child does",
        "soft_absorption": "1 - dominance: how often the parent is not the stronger where both fire",
        "correlation": "Spearman correlation of the two activations over the images on which both fire",
        "is_ms_abstract": "whether the child's monosemanticity score is above the parent's",
    },
}  # fmt: skip


def upgrade() -> None:
    """Apply."""
    for view, (comment, query) in _NEW.items():
        op.execute(f"CREATE VIEW {view} AS {query}")
        op.execute(f"COMMENT ON VIEW {view} IS '{comment}'")
    for view, query in _REWRITTEN.items():
        op.execute(f"CREATE OR REPLACE VIEW {view} AS {query.format(**_INPUTS)}")
    for view in (*_NEW, *_REWRITTEN):
        for column in _columns(view):
            _comment(view, column, _COLUMNS_OF.get(view, {}).get(column) or _COLUMNS[column])


def downgrade() -> None:
    """Undo."""
    for view, query in _REWRITTEN.items():
        op.execute(f"CREATE OR REPLACE VIEW {view} AS {query.format(**_INPUTS_BEFORE)}")
        for column in _columns(view):
            _comment(view, column, None)
    for view in _NEW:
        op.execute(f"DROP VIEW {view}")


def _columns(view: str) -> list[str]:
    return [column["name"] for column in sa.inspect(op.get_bind()).get_columns(view)]


def _comment(view: str, column: str, comment: str | None) -> None:
    literal = "NULL" if comment is None else "'" + comment.replace("'", "''") + "'"
    op.execute(f"COMMENT ON COLUMN {view}.{column} IS {literal}")
