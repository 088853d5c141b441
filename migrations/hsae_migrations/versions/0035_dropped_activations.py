"""Activation sets whose shards are deleted once the jobs that read them have succeeded."""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

_COLUMNS = {
    "dropped_at": "when its shards were given up, as its studies asked; the manifest stays. Null where they are kept",
    "freed_at": "when the last object of its dropped shards was deleted; null before, and where they are kept",
}


def upgrade() -> None:
    """Apply."""
    for name, comment in _COLUMNS.items():
        op.add_column("activation_set", sa.Column(name, sa.DateTime(timezone=True), nullable=True, comment=comment))


def downgrade() -> None:
    """Undo."""
    # Earlier versions know no dropped sets: what has no shards counts as not published.
    op.execute("UPDATE activation_set SET manifest_sha256 = NULL WHERE dropped_at IS NOT NULL")
    for name in _COLUMNS:
        op.drop_column("activation_set", name)
