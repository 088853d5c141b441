"""Tables of names by text: one set per analysis and settings, its names, and how many agree with the labels."""

from sqlalchemy import Double, ForeignKey, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base, CreatedAt, Identity64, Json


class NameSet(Base):
    """The names that one job gave to latents of one analysis."""

    __tablename__ = "name_set"
    __table_args__ = (
        Index("ix_name_set_analysis_id", "analysis_id"),
        {"comment": "Sets of names by text: latents of an analysis are named by a CLIP-like model."},
    )

    id: Mapped[Identity64] = mapped_column(comment="primary key")
    key: Mapped[str] = mapped_column(unique=True, comment="content address; the directions lie under names/<key>/")
    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), comment="the analysis whose latents are named"
    )
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), comment="the job that made it")
    config: Mapped[Json] = mapped_column(comment="settings, as in the block names of a study file; format")
    text_model: Mapped[str] = mapped_column(comment="the model whose text tower embeds the words")
    text_revision: Mapped[str] = mapped_column(comment="its commit, or the checksum of its files")
    method: Mapped[str] = mapped_column(
        comment="what is compared with words: direction (decoder), effect (of ablation on the embedding), or images"
    )
    split: Mapped[str] = mapped_column(comment="images that effect and images look at: score, or all (in-sample)")
    n_words: Mapped[int] = mapped_column(Integer, comment="words of the vocabulary that the model knows")
    n_unknown: Mapped[int] = mapped_column(Integer, comment="words that it does not know; they are left out")
    n_latents: Mapped[int] = mapped_column(Integer, comment="latents with a name")
    n_labelled: Mapped[int] = mapped_column(Integer, comment="of these with a label by scores, too")
    directions_sha256: Mapped[str] = mapped_column(
        comment="checksum of names/<key>/directions-<checksum>.safetensors: latents int32[n], directions "
        "float32[n, d_embedding], mean float32[d_embedding] of the words"
    )
    created_at: Mapped[CreatedAt]


class LatentName(Base):
    """The name of a latent."""

    __tablename__ = "latent_name"
    __table_args__ = (
        Index("ix_latent_name_synset_id", "synset_id"),
        {"comment": "Names of latents by text: the word with the greatest cosine, beside the runner-up and the label."},
    )

    name_set_id: Mapped[int] = mapped_column(
        ForeignKey("name_set.id", ondelete="CASCADE"), primary_key=True, comment="the set"
    )
    latent: Mapped[int] = mapped_column(Integer, primary_key=True, comment="index of the latent")
    word: Mapped[str] = mapped_column(comment="the name")
    synset_id: Mapped[int | None] = mapped_column(
        ForeignKey("synset.id"), comment="the node that the word names; null where it names none, or several"
    )
    score: Mapped[float] = mapped_column(Double, comment="cosine with the word, less the mean of the words")
    runner_up: Mapped[str] = mapped_column(comment="the word with the second greatest cosine")
    margin: Mapped[float] = mapped_column(Double, comment="score less that of the runner-up")
    n_images: Mapped[int | None] = mapped_column(
        Integer, comment="strongest images that were looked at; null of direction, which looks at none"
    )
    agreement_height: Mapped[int | None] = mapped_column(
        Integer,
        comment="0: the node is the latent's label; else the height of the lowest node above both; null without both",
    )


class NameAgreement(Base):
    """How many names of a set agree with the labels at one height, and how many by chance."""

    __tablename__ = "name_agreement"
    __table_args__ = (
        {
            "comment": "Agreement of names with labels at every height of the tree, beside vocabularies whose words "
            "are shuffled over their nodes."
        },
    )

    name_set_id: Mapped[int] = mapped_column(
        ForeignKey("name_set.id", ondelete="CASCADE"), primary_key=True, comment="the set"
    )
    height: Mapped[int] = mapped_column(
        Integer, primary_key=True, comment="0: same node or leaf; h: a common node of this height or lower"
    )
    n_latents: Mapped[int] = mapped_column(Integer, comment="latents with a name and a label")
    n_agree: Mapped[int] = mapped_column(Integer, comment="of these that agree")
    n_agree_shuffled: Mapped[float] = mapped_column(
        Double, comment="the same with shuffled words, mean of the shuffles"
    )
    shuffled_low: Mapped[float] = mapped_column(Double, comment="2.5 % point of the shuffles")
    shuffled_high: Mapped[float] = mapped_column(Double, comment="97.5 % point of the shuffles")
    p: Mapped[float] = mapped_column(Double, comment="share of the shuffles with as many, this one among them")
