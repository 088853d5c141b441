"""Names by text: words for latents, and how many agree with their labels; readouts may be zero-shot."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_OF_READOUTS = (
    "intervention_readout", "intervention", "intervention_effect", "intervention_distance", "intervention_contrast"
)  # fmt: skip
_BEFORE = "probe (linear), knn (nearest neighbours) or classifier (the model's own)"
_READOUT = "probe (linear), knn (nearest neighbours), classifier (the model's own) or zero_shot (nearest text)"


def upgrade() -> None:
    """Apply."""
    for table in _OF_READOUTS:
        op.alter_column(table, "readout", comment=_READOUT, existing_comment=_BEFORE)
    op.create_table(
        "name_set",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False, comment="primary key"),
        sa.Column("key", sa.Text(), nullable=False, comment="content address; the directions lie under names/<key>/"),
        sa.Column("analysis_id", sa.BigInteger(), nullable=False, comment="the analysis whose latents are named"),
        sa.Column("job_id", sa.BigInteger(), nullable=False, comment="the job that made it"),
        sa.Column(
            "config",
            sa.dialects.postgresql.JSONB(),
            nullable=False,
            comment="settings, as in the block names of a study file; format",
        ),
        sa.Column("text_model", sa.Text(), nullable=False, comment="the model whose text tower embeds the words"),
        sa.Column("text_revision", sa.Text(), nullable=False, comment="its commit, or the checksum of its files"),
        sa.Column(
            "method",
            sa.Text(),
            nullable=False,
            comment="what is compared with words: direction (decoder), effect (of ablation on the embedding), or "
            "images",
        ),
        sa.Column(
            "split",
            sa.Text(),
            nullable=False,
            comment="images that effect and images look at: score, or all (in-sample)",
        ),
        sa.Column("n_words", sa.Integer(), nullable=False, comment="words of the vocabulary that the model knows"),
        sa.Column("n_unknown", sa.Integer(), nullable=False, comment="words that it does not know; they are left out"),
        sa.Column("n_latents", sa.Integer(), nullable=False, comment="latents with a name"),
        sa.Column("n_labelled", sa.Integer(), nullable=False, comment="of these with a label by scores, too"),
        sa.Column(
            "directions_sha256",
            sa.Text(),
            nullable=False,
            comment="checksum of names/<key>/directions-<checksum>.safetensors: latents int32[n], directions "
            "float32[n, d_embedding], mean float32[d_embedding] of the words",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
            comment="when the row was made",
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_name_set_job_id")),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analysis.id"], name=op.f("fk_name_set_analysis_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_name_set")),
        sa.UniqueConstraint("key", name=op.f("uq_name_set_key")),
        comment="Sets of names by text: latents of an analysis are named by a CLIP-like model.",
    )
    op.create_index("ix_name_set_analysis_id", "name_set", ["analysis_id"])
    op.create_table(
        "latent_name",
        sa.Column("name_set_id", sa.BigInteger(), nullable=False, comment="the set"),
        sa.Column("latent", sa.Integer(), nullable=False, comment="index of the latent"),
        sa.Column("word", sa.Text(), nullable=False, comment="the name"),
        sa.Column(
            "synset_id",
            sa.BigInteger(),
            nullable=True,
            comment="the node that the word names; null where it names none, or several",
        ),
        sa.Column("score", sa.Double(), nullable=False, comment="cosine with the word, less the mean of the words"),
        sa.Column("runner_up", sa.Text(), nullable=False, comment="the word with the second greatest cosine"),
        sa.Column("margin", sa.Double(), nullable=False, comment="score less that of the runner-up"),
        sa.Column(
            "n_images",
            sa.Integer(),
            nullable=True,
            comment="strongest images that were looked at; null of direction, which looks at none",
        ),
        sa.Column(
            "agreement_height",
            sa.Integer(),
            nullable=True,
            comment="0: the node is the latent's label; else the height of the lowest node above both; null without "
            "both",
        ),
        sa.ForeignKeyConstraint(["synset_id"], ["synset.id"], name=op.f("fk_latent_name_synset_id")),
        sa.ForeignKeyConstraint(
            ["name_set_id"], ["name_set.id"], name=op.f("fk_latent_name_name_set_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("name_set_id", "latent", name=op.f("pk_latent_name")),
        comment="Names of latents by text: the word with the greatest cosine, beside the runner-up and the label.",
    )
    op.create_index("ix_latent_name_synset_id", "latent_name", ["synset_id"])
    op.create_table(
        "name_agreement",
        sa.Column("name_set_id", sa.BigInteger(), nullable=False, comment="the set"),
        sa.Column(
            "height",
            sa.Integer(),
            nullable=False,
            comment="0: same node or leaf; h: a common node of this height or lower",
        ),
        sa.Column("n_latents", sa.Integer(), nullable=False, comment="latents with a name and a label"),
        sa.Column("n_agree", sa.Integer(), nullable=False, comment="of these that agree"),
        sa.Column(
            "n_agree_shuffled",
            sa.Double(),
            nullable=False,
            comment="the same with shuffled words, mean of the shuffles",
        ),
        sa.Column("shuffled_low", sa.Double(), nullable=False, comment="2.5 % point of the shuffles"),
        sa.Column("shuffled_high", sa.Double(), nullable=False, comment="97.5 % point of the shuffles"),
        sa.Column("p", sa.Double(), nullable=False, comment="share of the shuffles with as many, this one among them"),
        sa.ForeignKeyConstraint(
            ["name_set_id"], ["name_set.id"], name=op.f("fk_name_agreement_name_set_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("name_set_id", "height", name=op.f("pk_name_agreement")),
        comment="Agreement of names with labels at every height of the tree, beside vocabularies whose words "
        "are shuffled over their nodes.",
    )


def downgrade() -> None:
    """Undo; the jobs go, too, because earlier versions know no such kind."""
    op.drop_table("name_agreement")
    op.drop_table("latent_name")
    op.drop_table("name_set")
    op.execute("DELETE FROM job WHERE kind = 'names'")
    for table in _OF_READOUTS:
        op.alter_column(table, "readout", comment=_BEFORE, existing_comment=_READOUT)
