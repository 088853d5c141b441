"""What columns mean where one data set trains and another one is scored; only comments change."""

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


def upgrade() -> None:
    """Apply."""
    for relation, columns in _COMMENTS.items():
        for name, (_, comment) in columns.items():
            _comment(relation, name, comment)


def downgrade() -> None:
    """Undo."""
    for relation, columns in _COMMENTS.items():
        for name, (comment, _) in columns.items():
            _comment(relation, name, comment)


def _comment(relation: str, column: str, comment: str) -> None:
    op.execute(f"COMMENT ON COLUMN {relation}.{column} IS '{comment.replace(chr(39), chr(39) * 2)}'")
