"""Cross-fitting: comparisons average both halves of images that are too few for three parts."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_TABLES = ("comparison_score", "comparison_difference", "comparison_trend")
_N_FOLDS = (
    "2: the mean of both halves of the images, each scored with SAEs that the other trained (cross-fitting), which an "
    "analysis apiece has; else 1; null in comparisons of earlier versions"
)
_APART = (
    "Where another data set trains: score_dataset names the one that selects and scores, and scored has its shares."
    " Null: in-sample, every image did everything"
)
_SHARES = (
    "shares train, select, score and their seed; by: images or whole groups; is_halved: one half trains and selects, "
)
_BEFORE = f"{_SHARES}for want of images. {_APART}"
_NOW = f"{_SHARES}for want of images, the first or, where fold is 1, the second. {_APART}"

# A probe's split is sought by containment, and that of fold 0, which is not stored, is contained in that of fold 1.
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
            WHERE c.activation_set_id = e.activation_set_id AND o.taxonomy_key = d.taxonomy_key
                  AND (a.split -> 'scored' ->> 'images')
                      IS NOT DISTINCT FROM (c.config -> 'split' -> 'scored' ->> 'images')
            ORDER BY CASE WHEN a.split IS NULL THEN c.config -> 'split' IS NULL
                          ELSE coalesce(a.split @> (c.config -> 'split')
                                        AND (coalesce(a.split -> 'scored', a.split) -> 'groups')
                                            IS NOT DISTINCT FROM
                                            (coalesce(c.config -> 'split' -> 'scored', c.config -> 'split') -> 'groups')
                                        {same_fold}, false) END DESC,
                     c.id DESC
            LIMIT 1
        ) p
"""
_SAME_FOLD = "AND (a.split -> 'fold') IS NOT DISTINCT FROM (c.config -> 'split' -> 'fold')"


def upgrade() -> None:
    """Apply."""
    op.execute(_PROBES.format(same_fold=_SAME_FOLD))
    for table in _TABLES:
        op.add_column(table, sa.Column("n_folds", sa.SmallInteger(), nullable=True, comment=_N_FOLDS))
    _describe_split(_NOW)


def downgrade() -> None:
    """Revert."""
    op.execute(_PROBES.format(same_fold=""))
    _describe_split(_BEFORE)
    for table in _TABLES:
        op.drop_column(table, "n_folds")


def _describe_split(comment: str) -> None:
    for relation in ("analysis", "analysis_input"):
        op.execute(f"COMMENT ON COLUMN {relation}.split IS '{comment}'")
