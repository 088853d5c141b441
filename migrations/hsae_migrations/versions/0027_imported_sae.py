"""SAEs that another program trained."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0025"
branch_labels = None
depends_on = None

_COMMENTS = {
    "n_steps": ("training steps", "training steps; 0: another program trained it, see config.imported"),
    "expansion": (
        "expansion factor: n_latents / d_model",
        "expansion factor: n_latents / d_model, of an imported SAE rounded",
    ),
}


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "imported_sae",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False, comment="primary key"),
        sa.Column(
            "key",
            sa.Text(),
            nullable=False,
            comment="sha256 over weights and settings; the object lies under imports/<key>/",
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="what it is called here"),
        sa.Column(
            "config",
            sa.dialects.postgresql.JSONB(),
            nullable=False,
            comment="its config; imported says format, width, layer, hook point, model, tokens, and what was folded",
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="the folder, file or repository that it was read from"),
        sa.Column(
            "weights_sha256", sa.Text(), nullable=False, comment="checksum of imports/<key>/sae-<checksum>.safetensors"
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
            comment="when the row was made",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imported_sae")),
        sa.UniqueConstraint("key", name=op.f("uq_imported_sae_key")),
        sa.UniqueConstraint("name", name=op.f("uq_imported_sae_name")),
        comment="SAEs of other programs, as `hsae-admin sae import` registered them.",
    )
    for name, (_, comment) in _COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN sae.{name} IS '{comment}'")


def downgrade() -> None:
    """Revert."""
    for name, (comment, _) in _COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN sae.{name} IS '{comment}'")
    op.drop_table("imported_sae")
    # Earlier versions know no such kind of job; those that made an SAE stay, as it and its scores name them.
    op.execute("DELETE FROM job WHERE kind = 'import' AND id NOT IN (SELECT job_id FROM sae)")
