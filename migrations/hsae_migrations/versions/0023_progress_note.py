"""What a running job says of its state beside how far it is, such as a training's loss."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "job",
        sa.Column(
            "progress_note",
            sa.Text(),
            nullable=True,
            comment="what the latest attempt said last of its state, such as the loss of a training",
        ),
    )


def downgrade() -> None:
    """Revert."""
    op.drop_column("job", "progress_note")
