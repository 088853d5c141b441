"""An index with the numbers by which latents are filtered and sorted, so that their wide rows need not be read."""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_INDEX = "ix_latent_numbers"


def upgrade() -> None:
    """Apply."""
    op.create_index(
        _INDEX,
        "latent",
        ["basis", "analysis_id", "latent"],
        postgresql_include=[
            "label_synset_id",
            "label_f1_adjusted",
            "label_f1",
            "label_q",
            "coherence_excess",
            "density",
            "max_activation",
        ],
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index(_INDEX, table_name="latent")
