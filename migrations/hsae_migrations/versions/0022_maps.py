"""Relevancy maps: where in an image a latent comes from."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "map_set",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False, comment="primary key"),
        sa.Column("key", sa.Text(), nullable=False, comment="content address; the maps lie under maps/<key>/"),
        sa.Column("analysis_id", sa.BigInteger(), nullable=False, comment="the analysis whose latents are explained"),
        sa.Column("job_id", sa.BigInteger(), nullable=False, comment="the job that made it"),
        sa.Column(
            "config",
            sa.dialects.postgresql.JSONB(),
            nullable=False,
            comment="settings: latents, images, methods, batch_size, seed; format",
        ),
        sa.Column("n_latents", sa.Integer(), nullable=False, comment="latents that have maps"),
        sa.Column("n_maps", sa.Integer(), nullable=False, comment="maps of all methods together"),
        sa.Column("n_undefined", sa.Integer(), nullable=False, comment="rows of latent_map without a map"),
        sa.Column(
            "n_patch_rows",
            sa.SmallInteger(),
            nullable=False,
            comment="rows of patches, so many values high is a map",
        ),
        sa.Column(
            "n_patch_cols",
            sa.SmallInteger(),
            nullable=False,
            comment="columns of patches, so many values wide is a map",
        ),
        sa.Column(
            "maps_sha256",
            sa.Text(),
            nullable=False,
            comment="checksum of maps/<key>/maps-<checksum>.safetensors: by method float16[n, n_patch_rows, "
            "n_patch_cols], each map divided by its greatest value",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
            comment="when the row was made",
        ),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analysis.id"], name=op.f("fk_map_set_analysis_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_map_set_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_map_set")),
        sa.UniqueConstraint("key", name=op.f("uq_map_set_key")),
        comment="Sets of relevancy maps: where in an image a latent comes from. One per analysis and settings.",
    )
    op.create_index("ix_map_set_analysis_id", "map_set", ["analysis_id"])
    op.create_table(
        "latent_map",
        sa.Column("map_set_id", sa.BigInteger(), nullable=False, comment="the set"),
        sa.Column(
            "method",
            sa.Text(),
            nullable=False,
            comment="chefer (gradient-weighted attention), gradcam, or a control: attention, gradient, activation (of "
            "each patch), random",
        ),
        sa.Column("latent", sa.Integer(), nullable=False, comment="index in the dictionary"),
        sa.Column(
            "rank", sa.SmallInteger(), nullable=False, comment="the image is the latent's rank-th strongest, from 1"
        ),
        sa.Column("image", sa.Integer(), nullable=False, comment="the image's number in the data set's listing"),
        sa.Column("path", sa.Text(), nullable=False, comment="the image's path"),
        sa.Column(
            "activation",
            sa.Double(),
            nullable=True,
            comment="the latent's activation when the map was made; null where the image could not be read",
        ),
        sa.Column(
            "map_index",
            sa.Integer(),
            nullable=True,
            comment="place in the object's tensor of this method, from 0; null where the map is undefined",
        ),
        sa.Column(
            "peak",
            sa.Double(),
            nullable=True,
            comment="greatest value of the map, by which the stored one is divided; null where no patch is relevant "
            "(no positive or no finite value)",
        ),
        sa.Column("peak_row", sa.SmallInteger(), nullable=True, comment="row of the patch with the peak, from the top"),
        sa.Column(
            "peak_col", sa.SmallInteger(), nullable=True, comment="column of the patch with the peak, from the left"
        ),
        sa.Column(
            "concentration",
            sa.Double(),
            nullable=True,
            comment="share of the map's sum that the most relevant tenth of the patches has: 0.1 for an even map, 1 "
            "for a point",
        ),
        sa.ForeignKeyConstraint(
            ["map_set_id"], ["map_set.id"], name=op.f("fk_latent_map_map_set_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("map_set_id", "method", "latent", "rank", name=op.f("pk_latent_map")),
        comment="Relevancy maps, one row for each latent, image and method; the values are in the set's object.",
    )


def downgrade() -> None:
    """Undo; the jobs go, too, because earlier versions know no such kind."""
    op.drop_table("latent_map")
    op.drop_table("map_set")
    op.execute("DELETE FROM job WHERE kind = 'map'")
