"""What a readout's cross-entropy loses through an SAE, beside mean and zero ablation."""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_COLUMNS = {
    "cross_entropy": "mean -log p of the images' own class, nats; null without probabilities, and in sets of earlier "
    "versions",
    "cross_entropy_through_sae": "the same through the SAE",
    "cross_entropy_mean_ablated": "the same with the mean of the images that train in the place of the edited tokens",
    "cross_entropy_zero_ablated": "the same with zeros in the place of the edited tokens",
    "loss_recovered_mean": "share of the cross-entropy that the mean ablation costs and the SAE does not: 1 as "
    "unedited, 0 as the ablation; null where it costs nothing",
    "loss_recovered_zero": "the same beside the zero ablation",
}


def upgrade() -> None:
    """Apply."""
    for name, comment in _COLUMNS.items():
        op.add_column("intervention_readout", sa.Column(name, sa.Double(), nullable=True, comment=comment))


def downgrade() -> None:
    """Undo."""
    for name in _COLUMNS:
        op.drop_column("intervention_readout", name)
