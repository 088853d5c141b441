"""What was measured of a study's analyses, and what was not."""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row


def measured_analyses(session: Session, analysis_ids: Collection[int]) -> list[Row]:
    """Each analysis with its inputs and the presence of what a reader may look for, by layer.

    Beside columns of analysis_input: `activations_sha256`; of the data set `dataset_root`, `dataset_images`,
    `dataset_classes`, `dataset_nodes` and `taxonomy`; `fvu` and `holdout_l0`, None where no rows were held out;
    `bases`, those that were scored; `has_intervals`, `has_tree_shuffles`, `has_probe`, `has_stability`,
    `has_maps`;
    `has_bare_purity`, a mean purity without an interval; `probe_undefined`, the reason; `n_lch_eligible`,
    latents with an LCH excess; `n_labelled`, latents with a label of an F1 above 0.
    """
    query = """
        SELECT i.*, a.activations_sha256, e.fvu, d.root AS dataset_root, d.n_images AS dataset_images,
               d.n_classes AS dataset_classes, d.n_nodes AS dataset_nodes, d.taxonomy, e.l0 AS holdout_l0,
               (SELECT array_agg(DISTINCT s.basis) FROM layer_score s WHERE s.analysis_id = a.id) AS bases,
               (SELECT s.n_lch_eligible FROM layer_score s
                WHERE s.analysis_id = a.id AND s.basis = 'sae' LIMIT 1) AS n_lch_eligible,
               EXISTS (SELECT FROM layer_interval v
                       WHERE v.analysis_id = a.id AND v.basis = 'sae' AND v.low IS NOT NULL) AS has_intervals,
               EXISTS (SELECT FROM layer_interval v
                       WHERE v.analysis_id = a.id AND v.basis = 'sae' AND v.metric = 'purity_mean'
                       AND v.value IS NOT NULL AND v.low IS NULL) AS has_bare_purity,
               EXISTS (SELECT FROM layer_tree_shuffle t WHERE t.analysis_id = a.id) AS has_tree_shuffles,
               EXISTS (SELECT FROM latent_stability t WHERE t.analysis_id = a.id) AS has_stability,
               EXISTS (SELECT FROM map_set m WHERE m.analysis_id = a.id AND m.n_maps > 0) AS has_maps,
               p.class_probe_id IS NOT NULL AS has_probe, p.undefined AS probe_undefined,
               (SELECT count(*) FROM latent l
                WHERE l.analysis_id = a.id AND l.basis = 'sae' AND l.label_f1 > 0) AS n_labelled
        FROM analysis_input i
        JOIN analysis a ON a.id = i.analysis_id
        JOIN sae e ON e.id = i.sae_id
        JOIN dataset d ON d.id = i.dataset_id
        LEFT JOIN analysis_probe p ON p.analysis_id = a.id
        WHERE a.id = ANY(:analyses) ORDER BY i.layer, a.id
    """
    return [dict(row) for row in session.execute(text(query), {"analyses": list(analysis_ids)}).mappings()]


def taxonomy_root(session: Session, dataset_id: int) -> int:
    """The synset id of the root of a data set's induced taxonomy."""
    query = "SELECT synset_id FROM dataset_node WHERE dataset_id = :id ORDER BY depth, synset_id LIMIT 1"
    return int(session.execute(text(query), {"id": dataset_id}).scalar_one())


def class_labels(session: Session, dataset_id: int) -> dict[str, str]:
    """By wnid what a data set calls its classes."""
    query = """
        SELECT y.wnid, c.label FROM dataset_class c JOIN synset y ON y.id = c.synset_id WHERE c.dataset_id = :id
    """
    return {row.wnid: row.label for row in session.execute(text(query), {"id": dataset_id})}
