"""The kind of processor that computes an activation set: workers with another kind leave it alone."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "activation_set",
        sa.Column(
            "hardware",
            sa.Text(),
            nullable=True,
            comment="kind of processor that computes its rows; null before its first shard, and in sets of earlier"
            " versions",
        ),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_column("activation_set", "hardware")
