"""Latents one by one: whether each is used for its label, and how many steer."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

_READOUT = "probe (linear), knn (nearest neighbours), classifier (the model's own) or zero_shot (nearest text)"


def _of_set(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_intervention_set_id")
    return sa.ForeignKeyConstraint(["intervention_set_id"], ["intervention_set.id"], name=name, ondelete="CASCADE")


def _number(name: str, comment: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=True, comment=comment)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "latent_effect",
        sa.Column("intervention_set_id", sa.BigInteger(), nullable=False, comment="the set"),
        sa.Column("latent", sa.Integer(), nullable=False, comment="index in the dictionary"),
        sa.Column("readout", sa.Text(), nullable=False, comment=_READOUT),
        sa.Column("synset_id", sa.BigInteger(), nullable=False, comment="the latent's label"),
        sa.Column("n_images", sa.Integer(), nullable=False, comment="scored images under the label"),
        sa.Column(
            "unit",
            sa.Text(),
            nullable=False,
            comment="of the effect: log_odds, or accuracy of readouts without probabilities",
        ),
        _number("effect", "specificity of the ablation: drop inside the label minus drop outside it"),
        _number("effect_low", "lower end of its 95 % t interval over classes; null with one class inside or outside"),
        _number("effect_high", "upper end"),
        _number("accuracy_effect", "the same of the accuracy"),
        _number("p", "sign-flip p over the images under the label, two-sided"),
        _number("q", "q-value (Benjamini and Hochberg) over the latents of the set that were taken away"),
        _number("chance", "mean effect at this label of random latents that fire about as often"),
        _number(
            "chance_low",
            "2.5 % point of the effects of all random latents of the set, each at the label it was drawn for",
        ),
        _number("chance_high", "97.5 % point"),
        sa.Column("n_draws", sa.Integer(), nullable=False, comment="random latents drawn for this one"),
        sa.Column(
            "is_used",
            sa.Boolean(),
            nullable=False,
            comment="used for its label: q at most 0.05, and an effect above chance_high and 0",
        ),
        _of_set("latent_effect"),
        sa.ForeignKeyConstraint(["synset_id"], ["synset.id"], name=op.f("fk_latent_effect_synset_id")),
        sa.PrimaryKeyConstraint("intervention_set_id", "latent", "readout", name=op.f("pk_latent_effect")),
        comment="Causal labels: what readouts lose at a latent's label when the latent alone is taken away, on the"
        " scored images, beside random latents of equal firing rate.",
    )
    op.create_index("ix_latent_effect_synset_id", "latent_effect", ["synset_id"])
    op.create_table(
        "intervention_steerability",
        sa.Column("intervention_set_id", sa.BigInteger(), nullable=False, comment="the set"),
        sa.Column("readout", sa.Text(), nullable=False, comment=_READOUT),
        sa.Column("units", sa.Text(), nullable=False, comment="what is driven: latents, neurons or random directions"),
        sa.Column(
            "amount",
            sa.Double(),
            nullable=False,
            comment="least total variation between the mean distributions before and after",
        ),
        sa.Column("n_units", sa.Integer(), nullable=False, comment="units that were driven, one by one"),
        sa.Column("n_images", sa.Integer(), nullable=False, comment="scored images that saw them"),
        _number("share", "share of the units that move it so far"),
        _number("share_low", "lower end of its 95 % Wilson interval"),
        _number("share_high", "upper end"),
        _number("shift", "median total variation over the units"),
        _number("moved", "median squared change of the last layer's row, over the variance of the unedited rows"),
        _of_set("intervention_steerability"),
        sa.PrimaryKeyConstraint(
            "intervention_set_id", "readout", "units", "amount", name=op.f("pk_intervention_steerability")
        ),
        comment="Steerability: share of units that move a readout's mean distribution by an amount when each is driven"
        " to the top of its natural range.",
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("intervention_steerability")
    op.drop_table("latent_effect")
