"""What is measured of an SAE beside its reconstruction, and the curves of trainings."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_NEW = (
    (
        "l0_quantiles",
        sa.dialects.postgresql.ARRAY(sa.Double()),
        "quantiles .05, .25, .5, .75 and .95 over the held-out rows of the number of firing latents; null where no rows are held out, in SAEs of earlier versions",
    ),
    (
        "train_l0_quantiles",
        sa.dialects.postgresql.ARRAY(sa.Double()),
        "the same quantiles on as many training rows as were held out (on all if none were); null in SAEs of earlier versions",
    ),
    (
        "density_histogram",
        sa.dialects.postgresql.ARRAY(sa.Integer()),
        "number of latents by density, the share of the held-out rows on which a latent fires: first those that never do, then 12 bins from 1e-6 to 1, two to a factor of ten, the first with all that are rarer; null where no rows are held out, in SAEs of earlier versions",
    ),
    (
        "train_density_histogram",
        sa.dialects.postgresql.ARRAY(sa.Integer()),
        "the same histogram on as many training rows as were held out (on all if none were); null in SAEs of earlier versions",
    ),
    (
        "cknna",
        sa.Double(),
        "CKNNA of latents and activations on at most 1,024 held-out rows: 1 where they have the same nearest neighbours; null where undefined, where no rows are held out, in SAEs of earlier versions",
    ),
    ("cknna_shuffled", sa.Double(), "the same with the rows of the latents shuffled: what chance gives; null as cknna"),
    ("train_cknna", sa.Double(), "CKNNA on as many training rows; null where undefined, in SAEs of earlier versions"),
    (
        "decoder_coherence",
        sa.Double(),
        "greatest absolute cosine of a direction with another one, mean over the directions (over 8,192 drawn ones where there are more); null in SAEs of earlier versions",
    ),
    ("decoder_coherence_max", sa.Double(), "the greatest over the same directions; null in SAEs of earlier versions"),
    (
        "decoder_coherence_random",
        sa.Double(),
        "what decoder_coherence is expected to be for as many random directions; null in SAEs of earlier versions",
    ),
    (
        "class_accuracy",
        sa.Double(),
        "share of the held-out images whose class a linear probe names from the activations, trained on those of training images; null where images have several classes or there is one class, where no rows are held out, in SAEs of earlier versions",
    ),
    (
        "class_accuracy_reconstructed",
        sa.Double(),
        "the same probe on the SAE's reconstructions of the same images; null as class_accuracy",
    ),
    (
        "class_accuracy_chance",
        sa.Double(),
        "the same of always naming the class with most training images; null as class_accuracy",
    ),
)


def upgrade() -> None:
    """Apply."""
    for column, kind, comment in _NEW:
        op.add_column("sae", sa.Column(column, kind, nullable=True, comment=comment))
    op.create_table(
        "sae_curve",
        sa.Column("sae_key", sa.Text(), nullable=False, comment="sae.key of the SAE that is trained"),
        sa.Column("step", sa.Integer(), nullable=False, comment="steps done, from 1"),
        sa.Column("job_id", sa.BigInteger(), nullable=False, comment="the job that trains it"),
        sa.Column("loss", sa.Double(), nullable=False, comment="loss of the step's batch"),
        sa.Column("reconstruction_loss", sa.Double(), nullable=False, comment="its reconstruction term"),
        sa.Column("sparsity_loss", sa.Double(), nullable=False, comment="its sparsity term, before its coefficient"),
        sa.Column("auxiliary_loss", sa.Double(), nullable=False, comment="its auxiliary term, before its coefficient"),
        sa.Column(
            "fvu",
            sa.Double(),
            nullable=True,
            comment="fraction of variance unexplained on held-out rows; null where none are or they do not vary",
        ),
        sa.Column(
            "l0",
            sa.Double(),
            nullable=True,
            comment="mean number of firing latents per held-out row; null where none are",
        ),
        sa.Column(
            "train_fvu",
            sa.Double(),
            nullable=True,
            comment="fraction of variance unexplained on training rows; null where they do not vary",
        ),
        sa.Column("train_l0", sa.Double(), nullable=False, comment="mean number of firing latents per training row"),
        sa.Column(
            "dead_share",
            sa.Double(),
            nullable=False,
            comment="share of latents that fired on no row of the last dead_after_steps steps",
        ),
        sa.Column("learning_rate", sa.Double(), nullable=False, comment="learning rate of the step"),
        sa.Column(
            "vectors_per_second",
            sa.Double(),
            nullable=True,
            comment="training rows per second since the point before; null where the training went back to an earlier step",
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_sae_curve_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sae_key", "step", name=op.f("pk_sae_curve")),
        comment="Curves of trainings, also of those under way: at most 200 points each, evenly spaced by step, measured on at most 1,024 held-out rows and as many training rows. SAEs of earlier versions have none.",
    )
    op.create_index("ix_sae_curve_job_id", "sae_curve", ["job_id"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("sae_curve")
    for column, _, _ in reversed(_NEW):
        op.drop_column("sae", column)
