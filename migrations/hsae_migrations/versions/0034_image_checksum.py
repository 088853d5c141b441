"""Data sets whose files the extraction is the first to read, and the checksums that it finds."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

_FINGERPRINT = "sha256 over every path, class and file content"
_CHECKSUMS = (
    "when its files are read for their checksums for the first time: registration, or extraction, which enters them in"
    " `image_checksum`; until then the version of a file, such as size and time, stands for its content"
)


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "dataset",
        sa.Column("checksums", sa.Text(), server_default="registration", nullable=False, comment=_CHECKSUMS),
    )
    op.alter_column(
        "dataset",
        "fingerprint",
        existing_type=sa.Text(),
        existing_nullable=False,
        comment=f"{_FINGERPRINT} (its version, where `checksums` is extraction); decides reuse",
    )
    op.create_table(
        "image_checksum",
        sa.Column("dataset_id", sa.BigInteger(), nullable=False, comment="the data set"),
        sa.Column("image", sa.Integer(), nullable=False, comment="its number in the listing"),
        sa.Column("sha256", sa.Text(), nullable=False, comment="checksum of the file"),
        sa.CheckConstraint("image >= 0", name=op.f("ck_image_checksum_image")),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("dataset_id", "image"),
        comment="Checksums of image files that the registration did not read (`dataset.checksums`), from the first"
        " extraction of each. A later one that reads another content fails.",
    )


def downgrade() -> None:
    """Undo. The data sets stay; what tells their files apart is in their listings."""
    op.drop_table("image_checksum")
    op.alter_column(
        "dataset",
        "fingerprint",
        existing_type=sa.Text(),
        existing_nullable=False,
        comment=f"{_FINGERPRINT}; decides reuse",
    )
    op.drop_column("dataset", "checksums")
