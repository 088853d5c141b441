"""Further bases as controls of an SAE: principal and random directions, and the SAE before its training."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_COLUMNS = (
    "sae, or a control: neuron, pca, random (raw neurons, principal and random directions, split by sign), untrained "
    "(the SAE before its training)"
)
_COLUMNS_BEFORE = "sae or neuron (raw neurons split by sign)"
_BASIS = f"{_COLUMNS}, shuffled_labels or shuffled_taxonomy (the trained SAE's latents)"
_BASIS_BEFORE = "sae, neuron (raw neurons split by sign), shuffled_labels or shuffled_taxonomy (the SAE's controls)"
# Table, column, type, comment before, comment now.
_COMMENTS = (
    ("node_score", "basis", sa.Text(), _BASIS_BEFORE, _BASIS),
    ("layer_score", "basis", sa.Text(), _BASIS_BEFORE, _BASIS),
    ("latent", "basis", sa.Text(), _COLUMNS_BEFORE, _COLUMNS),
    ("latent_place", "basis", sa.Text(), _COLUMNS_BEFORE, _COLUMNS),
    ("latent", "latent", sa.Integer(), "index in the dictionary; neuron basis: dimension, then its negative half",
     "index in the dictionary; neuron, pca (by falling variance) and random: all positive halves, then all negative "
     "halves"),
    ("node_score", "auroc_dense", sa.Double(),
     "neuron basis: AUROC of the unthinned column; null for other bases",
     "neuron, pca, random, untrained: AUROC of the unthinned column; null for other bases"),
)  # fmt: skip


def upgrade() -> None:
    """Apply."""
    for table, column, kind, before, now in _COMMENTS:
        op.alter_column(table, column, existing_type=kind, comment=now, existing_comment=before)


def downgrade() -> None:
    """Undo."""
    for table, column, kind, before, now in reversed(_COMMENTS):
        op.alter_column(table, column, existing_type=kind, comment=before, existing_comment=now)
