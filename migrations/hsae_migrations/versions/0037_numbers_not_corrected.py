"""Comments of `layer_score` say which of its numbers are not corrected for chance."""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

_PAPERS = "(the paper's; depends on a column's classes and images, not corrected for chance: read lch_excess_mean)"
_NOT_CORRECTED = "not corrected for the size of the node, nor for the number of columns: read"
_FORMERLY = "(the paper's; depends on how many classes and images a column has, see lch_excess_mean)"
_COMMENTS = {  # what it was, and what it is
    "lch_height_mean": (
        f"mean LCH height of alive columns {_FORMERLY}",
        f"mean LCH height of alive columns {_PAPERS}",
    ),
    "lch_height_median": ("median LCH height of alive columns", f"median LCH height of alive columns {_PAPERS}"),
    "lch_height_q25": ("lower quartile of the LCH height", f"lower quartile of the LCH height {_PAPERS}"),
    "lch_height_q75": ("upper quartile of the LCH height", f"upper quartile of the LCH height {_PAPERS}"),
    "lch_height_relative_mean": (
        "mean LCH height over the root's height, 0 to 1",
        f"mean LCH height over the root's height, 0 to 1 {_PAPERS}",
    ),
    "coverage_mean": (
        f"mean ontological coverage of alive columns {_FORMERLY}",
        f"mean ontological coverage of alive columns {_PAPERS}",
    ),
    "coverage_median": ("median ontological coverage", f"median ontological coverage {_PAPERS}"),
    "share_nodes_f1": (
        "share of nodes whose best column has F1 >= 0.5; more columns have more chances",
        f"share of nodes whose best column has F1 >= 0.5; {_NOT_CORRECTED} share_nodes_rarefied",
    ),
    "best_f1_mean": (
        "mean over nodes of the best F1",
        f"mean over nodes of the best F1; {_NOT_CORRECTED} best_f1_adjusted_mean",
    ),
    "best_f1_inner_mean": (
        "mean best F1 of inner nodes with three or more classes",
        f"mean best F1 of inner nodes with three or more classes; {_NOT_CORRECTED} best_f1_adjusted_inner_mean",
    ),
}
_BY_HEIGHT = (
    "for every height of the taxonomy the nodes considered, those with F1 >= 0.5 and those with q_node < 0.01 (n_q:"
    " null in analyses of earlier versions)",
    "for every height of the taxonomy the nodes considered, those with F1 >= 0.5 (n_f1: not corrected for chance) and"
    " those with q_node < 0.01 (n_q: null in analyses of earlier versions)",
)


def upgrade() -> None:
    """Apply."""
    for column, (before, now) in _COMMENTS.items():
        op.alter_column("layer_score", column, existing_type=sa.Double(), comment=now, existing_comment=before)
    _comment_by_height(*_BY_HEIGHT)


def downgrade() -> None:
    """Undo."""
    for column, (before, now) in _COMMENTS.items():
        op.alter_column("layer_score", column, existing_type=sa.Double(), comment=before, existing_comment=now)
    _comment_by_height(*reversed(_BY_HEIGHT))


def _comment_by_height(before: str, now: str) -> None:
    of_heights = sa.dialects.postgresql.JSONB()
    op.alter_column("layer_score", "by_height", existing_type=of_heights, comment=now, existing_comment=before)
