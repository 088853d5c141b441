"""Figures of an SAE on training rows beside those on held-out rows, which no longer stand for each other; comments."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_AS_MANY = "on as many training rows as were held out (on all if none were)"
_EARLIER = "null in SAEs of earlier versions"
_NEW = {
    "holdout_dead_share": f"share of latents that fire on no held-out row; null where none are, {_EARLIER}",
    "train_fvu": f"fraction of variance unexplained {_AS_MANY}; null where they do not vary, {_EARLIER}",
    "train_cosine": f"mean cosine of input and reconstruction {_AS_MANY}; {_EARLIER}",
    "train_l0": f"mean number of firing latents per row, {_AS_MANY}; {_EARLIER}",
    "train_dead_share": f"share of latents that fire on none of the rows, {_AS_MANY}; {_EARLIER}",
}
_MOVED = ("fvu", "cosine", "l0")
# Table, column, type, comment before, comment now.
_COMMENTS = (
    ("sae", "fvu", sa.Double(), "fraction of variance unexplained on held-out rows; null where they do not vary",
     "fraction of variance unexplained on held-out rows; null where they do not vary or none are"),
    ("sae", "cosine", sa.Double(), "mean cosine of input and reconstruction on held-out rows",
     "mean cosine of input and reconstruction on held-out rows; null where none are"),
    ("sae", "l0", sa.Double(), "mean number of firing latents per held-out row",
     "mean number of firing latents per held-out row; null where none are"),
    ("sae", "kind", sa.Text(), "relu (L1 penalty) or topk",
     "relu (L1 penalty), topk, or a baseline: frozen or soft_frozen (topk whose decoder stays, or nearly)"),
    ("dataset", "root", sa.Text(), "folder that image paths are relative to, as workers see it",
     "folder or URI that image paths are relative to, as workers see it"),
    ("latent_family", "random_share", sa.Double(),
     "share of the random draws that are at least as alike as the children",
     "share of 100 random clusters of as many alive latents whose directions are at least as similar as the "
     "children's; null with one child"),
)  # fmt: skip
_NOT_HELD_OUT = "(metrics ->> 'n_holdout_rows')::bigint = 0"


def upgrade() -> None:
    """Apply. Figures of SAEs without held-out rows were those of training rows, and move to where these stand."""
    for column, comment in _NEW.items():
        op.add_column("sae", sa.Column(column, sa.Double(), nullable=True, comment=comment))
    for table, column, kind, before, now in _COMMENTS:
        op.alter_column(table, column, existing_type=kind, comment=now, existing_comment=before)
    for column in ("cosine", "l0"):
        op.alter_column("sae", column, existing_type=sa.Double(), nullable=True)
    moved = ", ".join(f"train_{column} = {column}, {column} = NULL" for column in _MOVED)
    op.execute(f"UPDATE sae SET {moved}, train_dead_share = dead_share WHERE {_NOT_HELD_OUT}")  # noqa: S608 -- ours
    op.execute(
        "UPDATE layer_score c SET fvu = NULL, cosine = NULL FROM analysis a JOIN sae e ON e.id = a.sae_id "  # noqa: S608
        f"WHERE a.id = c.analysis_id AND c.basis = 'sae' AND {_NOT_HELD_OUT}"
    )


def downgrade() -> None:
    """Undo; the figures of training rows stand for those of held-out rows again where there are none."""
    back = ", ".join(f"{column} = train_{column}" for column in _MOVED)
    op.execute(f"UPDATE sae SET {back} WHERE {_NOT_HELD_OUT}")  # noqa: S608 -- ours
    op.execute(
        "UPDATE layer_score c SET fvu = e.fvu, cosine = e.cosine FROM analysis a JOIN sae e ON e.id = a.sae_id "  # noqa: S608
        f"WHERE a.id = c.analysis_id AND c.basis = 'sae' AND {_NOT_HELD_OUT}"
    )
    for column in ("cosine", "l0"):
        op.alter_column("sae", column, existing_type=sa.Double(), nullable=False)
    for table, column, kind, before, now in reversed(_COMMENTS):
        op.alter_column(table, column, existing_type=kind, comment=before, existing_comment=now)
    for column in reversed(_NEW):
        op.drop_column("sae", column)
