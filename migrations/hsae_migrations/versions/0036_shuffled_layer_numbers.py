"""Values under shuffled taxonomies of more numbers of a layer: what the column `metric` may say."""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

_HEADLINES = (
    "coherence_excess and coherence_excess_weighted (bits), f1_adjusted_inner_mean (distinct nodes of 3+ classes),"
    " f1_adjusted_mean (distinct nodes), purity_mean, lch_excess_mean (bits)"
)
_BEFORE = f"{_HEADLINES}, and the paper's lch_height_mean and coverage_mean; not purity_mean"
_NOW = (
    f"{_HEADLINES}, but not purity_mean; the paper's lch_height_mean and coverage_mean; and of layer_score "
    "best_f1_adjusted_single_mean, best_f1_adjusted_pair_mean, best_f1_mean, best_f1_inner_mean and share_nodes_f1, "
    "which analyses of earlier versions lack"
)


def upgrade() -> None:
    """Apply."""
    op.alter_column("layer_tree_shuffle", "metric", existing_type=sa.Text(), comment=_NOW, existing_comment=_BEFORE)


def downgrade() -> None:
    """Undo."""
    further = "('best_f1_adjusted_single_mean', 'best_f1_adjusted_pair_mean', 'best_f1_mean', 'best_f1_inner_mean',"
    op.execute(f"DELETE FROM layer_tree_shuffle WHERE metric IN {further} 'share_nodes_f1')")  # noqa: S608 -- ours
    op.alter_column("layer_tree_shuffle", "metric", existing_type=sa.Text(), comment=_BEFORE, existing_comment=_NOW)
