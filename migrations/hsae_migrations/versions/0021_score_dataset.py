"""One data set trains and another one is scored: what columns mean, and which class probe belongs to an analysis.

Data sets of the same classes share a taxonomy and a layer's activations, so that the view must tell probes of the one
from those of the other. Groups of a split must be the same, not only among those of the analysis.
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_SPLIT = (
    "shares train, select, score and their seed; by: images or whole groups; is_halved: one half trains and selects, "
    "for want of images. Null: in-sample, every image did everything",
    "shares train, select, score and their seed; by: images or whole groups; is_halved: one half trains and selects, "
    "for want of images. Where another data set trains: score_dataset names the one that selects and scores, and "
    "scored has its shares. Null: in-sample, every image did everything",
)
_N_IMAGES = (
    "images of all parts that could be read",
    "images of all parts that could be read; where another data set trains, those of the scored one",
)
_COMMENTS = {
    "analysis": {
        "dataset_id": ("the labelled images", "the labelled images that were scored"),
        "n_images": _N_IMAGES,
        "split": _SPLIT,
    },
    "analysis_input": {"n_images": _N_IMAGES, "split": _SPLIT},
    "class_probe": {
        "activation_set_id": (
            "the activations that were probed",
            "the activations that were probed; where another data set is scored, those that trained the probes",
        ),
        "dataset_id": ("the labelled images", "the labelled images that were scored"),
    },
}

_PROBES = """
        CREATE OR REPLACE VIEW analysis_probe AS
        SELECT a.id AS analysis_id, p.id AS class_probe_id, p.activation_set_id, p.config, p.classifier, p.n_images,
               p.n_neighbours, p.probe_accuracy, p.probe_chance, p.knn_accuracy, p.nn_accuracy, p.logistic_accuracy,
               p.path_correlation, p.path_correlation_shuffled, p.path_correlation_shuffled_sd, p.undefined
        FROM analysis a
        JOIN sae e ON e.id = a.sae_id
        JOIN dataset d ON d.id = a.dataset_id
        CROSS JOIN LATERAL (
            SELECT c.*
            FROM class_probe c JOIN dataset o ON o.id = c.dataset_id
            WHERE c.activation_set_id = e.activation_set_id AND o.taxonomy_key = d.taxonomy_key{same_images}
            ORDER BY CASE WHEN a.split IS NULL THEN c.config -> 'split' IS NULL
                          ELSE coalesce(a.split @> (c.config -> 'split'){same_groups}, false) END DESC,
                     c.id DESC
            LIMIT 1
        ) p
"""
_SAME_IMAGES = """
                  AND (a.split -> 'scored' ->> 'images')
                      IS NOT DISTINCT FROM (c.config -> 'split' -> 'scored' ->> 'images')"""
_SAME_GROUPS = """
                                        AND (coalesce(a.split -> 'scored', a.split) -> 'groups')
                                            IS NOT DISTINCT FROM
                                            (coalesce(c.config -> 'split' -> 'scored', c.config -> 'split') -> 'groups')"""


def upgrade() -> None:
    """Apply."""
    op.execute(_PROBES.format(same_images=_SAME_IMAGES, same_groups=_SAME_GROUPS))
    for relation, columns in _COMMENTS.items():
        for name, (_, comment) in columns.items():
            _comment(relation, name, comment)


def downgrade() -> None:
    """Undo."""
    op.execute(_PROBES.format(same_images="", same_groups=""))
    for relation, columns in _COMMENTS.items():
        for name, (comment, _) in columns.items():
            _comment(relation, name, comment)


def _comment(relation: str, column: str, comment: str) -> None:
    op.execute(f"COMMENT ON COLUMN {relation}.{column} IS '{comment.replace(chr(39), chr(39) * 2)}'")
