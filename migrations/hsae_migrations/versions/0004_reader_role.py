"""The read-only role of researchers and dashboards; it cannot log in before `hsae-admin db reader`."""

from alembic import op

from hsae.catalog.server import reader_role as reader

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the role where this user may, and let it read; `hsae-admin db reader` completes what could not be done."""
    reader.prepare(op.get_bind())


def downgrade() -> None:
    """Take this database's grants back; the role itself stays, for it belongs to the whole server."""
    reader.withdraw(op.get_bind())
