"""Tables of the latents' own hierarchy: parents and children, a parent's children together, absorption at nodes."""

from sqlalchemy import Boolean, Double, ForeignKey, Index, Integer, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base
from hsae.catalog.tables.scores import BASIS, SEED

_SOURCE = (
    "taxonomy (the best latents of a node and of its hyponym) or activation (the parent fires wherever the child does, "
    "and not the other way round)"
)

_EARLIER = "; null in analyses of earlier versions"
_SIMILAR = "share of the random draws whose similarity is at least that of the children"
_ANY_DENSITY = "; in analyses of earlier versions (n_any_child null): of latents of any density"


class LatentEdge(Base):
    """A parent latent and one of its children."""

    __tablename__ = "latent_edge"
    __table_args__ = (
        Index("ix_latent_edge_child", "analysis_id", "basis", "child"),
        # By falling implication; those of the taxonomy, a few of many, by themselves as well.
        Index("ix_latent_edge_implication", "basis", text("implication DESC NULLS LAST"), text("n_child DESC")),
        Index(
            "ix_latent_edge_taxonomy",
            "basis",
            text("implication DESC NULLS LAST"),
            text("n_child DESC"),
            postgresql_where=text("source = 'taxonomy'"),
        ),
        {
            "comment": "Pairs of latents of which one is the other's parent, found by the taxonomy or by "
            "activations alone; analyses of earlier versions have none."
        },
    )

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis"
    )
    basis: Mapped[str] = mapped_column(primary_key=True, comment=BASIS)
    parent: Mapped[int] = mapped_column(Integer, primary_key=True, comment="index of the parent in the dictionary")
    child: Mapped[int] = mapped_column(Integer, primary_key=True, comment="index of the child in the dictionary")
    source: Mapped[str] = mapped_column(primary_key=True, comment=_SOURCE)
    seed: Mapped[int] = mapped_column(SmallInteger, primary_key=True, comment=SEED)
    parent_synset_id: Mapped[int | None] = mapped_column(
        ForeignKey("synset.id"), comment="source taxonomy: the node whose best latent the parent is"
    )
    child_synset_id: Mapped[int | None] = mapped_column(
        ForeignKey("synset.id"), comment="source taxonomy: that node's hyponym whose best latent the child is"
    )
    n_parent_select: Mapped[int | None] = mapped_column(
        Integer, comment=f"selecting images on which the parent fires{_EARLIER}"
    )
    n_child_select: Mapped[int | None] = mapped_column(
        Integer, comment=f"selecting images on which the child fires{_EARLIER}"
    )
    n_both_select: Mapped[int | None] = mapped_column(Integer, comment=f"selecting images on which both fire{_EARLIER}")
    n_parent: Mapped[int] = mapped_column(Integer, comment="scored images on which the parent fires")
    n_child: Mapped[int] = mapped_column(Integer, comment="scored images on which the child fires")
    n_both: Mapped[int] = mapped_column(Integer, comment="scored images on which both fire")
    implication: Mapped[float | None] = mapped_column(Double, comment="P(parent fires | child fires)")
    expected_implication: Mapped[float | None] = mapped_column(
        Double, comment=f"implication of a child that fires on random images: the parent's density{_EARLIER}"
    )
    adjusted_implication: Mapped[float | None] = mapped_column(
        Double, comment=f"(implication - expected) / (1 - expected): 0 by chance, at most 1{_EARLIER}"
    )
    implication_p: Mapped[float | None] = mapped_column(
        Double,
        comment="hypergeometric P(at least n_both by chance) of this pair alone, not corrected for the number of "
        f"pairs{_EARLIER}",
    )
    weighted_implication: Mapped[float | None] = mapped_column(
        Double, comment="share of the child's activation that lies on images on which the parent fires"
    )
    reverse_implication: Mapped[float | None] = mapped_column(Double, comment="P(child fires | parent fires)")
    weighted_reverse_implication: Mapped[float | None] = mapped_column(
        Double, comment="share of the parent's activation that lies on images on which the child fires"
    )
    dominance: Mapped[float | None] = mapped_column(
        Double, comment="P(the parent is the stronger | both fire); null where they never do"
    )
    miss_rate: Mapped[float | None] = mapped_column(
        Double, comment="1 - implication: how often the parent does not fire where the child does"
    )
    not_dominant_share: Mapped[float | None] = mapped_column(
        Double, comment="1 - dominance: how often the parent is not the stronger where both fire"
    )
    correlation: Mapped[float | None] = mapped_column(
        Double, comment="Spearman correlation of the two activations over the images on which both fire"
    )
    is_confirmed: Mapped[bool | None] = mapped_column(
        Boolean,
        comment="whether the child fires on at least 20 scored images, and what chose the pair holds on them as well"
        f"{_EARLIER}",
    )
    is_ms_abstract: Mapped[bool | None] = mapped_column(
        Boolean, comment="whether the child's monosemanticity score is above the parent's"
    )


class LatentFamily(Base):
    """A parent latent and all its children of one source."""

    __tablename__ = "latent_family"
    __table_args__ = (
        {"comment": "The parents of latent_edge, each with what its children of one source are together."},
    )

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis"
    )
    basis: Mapped[str] = mapped_column(primary_key=True, comment=BASIS)
    parent: Mapped[int] = mapped_column(Integer, primary_key=True, comment="index of the parent in the dictionary")
    source: Mapped[str] = mapped_column(primary_key=True, comment=_SOURCE)
    seed: Mapped[int] = mapped_column(SmallInteger, primary_key=True, comment=SEED)
    n_children: Mapped[int] = mapped_column(Integer, comment="latents directly below it")
    n_confirmed: Mapped[int | None] = mapped_column(Integer, comment=f"children whose edges are confirmed{_EARLIER}")
    n_parent: Mapped[int] = mapped_column(Integer, comment="scored images on which the parent fires")
    n_any_child: Mapped[int | None] = mapped_column(
        Integer, comment=f"scored images on which any child fires{_EARLIER}"
    )
    refinement: Mapped[float | None] = mapped_column(Double, comment="P(any child fires | parent fires)")
    correlation: Mapped[float | None] = mapped_column(
        Double,
        comment="Spearman correlation of the parent's activation (0 where it is silent) and its children's greatest, "
        "where any child fires; in analyses of earlier versions (n_any_child null): where the parent fires",
    )
    sibling_similarity_decoder: Mapped[float | None] = mapped_column(
        Double, comment="mean cosine of two children's decoder directions; null with one child"
    )
    random_similarity_decoder: Mapped[float | None] = mapped_column(
        Double, comment=f"the same of as many latents that fire as often: the mean over random draws{_ANY_DENSITY}"
    )
    random_share_decoder: Mapped[float | None] = mapped_column(Double, comment=f"{_SIMILAR}{_ANY_DENSITY}")
    sibling_similarity_images: Mapped[float | None] = mapped_column(
        Double,
        comment="mean cosine of two children's mean images, seen from the mean of all; null with one child, and in "
        "analyses of earlier versions",
    )
    random_similarity_images: Mapped[float | None] = mapped_column(
        Double, comment=f"the same of as many latents that fire as often: the mean over random draws{_EARLIER}"
    )
    random_share_images: Mapped[float | None] = mapped_column(Double, comment=f"{_SIMILAR}{_EARLIER}")
    ms_abstract_share: Mapped[float | None] = mapped_column(
        Double, comment="share of the children whose monosemanticity score is above the parent's"
    )


class NodeAbsorption(Base):
    """An inner node, its best latent, and the images on which another latent has absorbed it."""

    __tablename__ = "node_absorption"
    __table_args__ = (
        {
            "comment": "Absorption after arXiv 2409.14507 at inner nodes: the node's direction is there, its best "
            "latent is silent, and another latent carries the direction. For the bases sae and shuffled_taxonomy, of "
            "one token per image; analyses of earlier versions have none."
        },
    )

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis"
    )
    basis: Mapped[str] = mapped_column(primary_key=True, comment="sae or shuffled_taxonomy")
    synset_id: Mapped[int] = mapped_column(ForeignKey("synset.id"), primary_key=True, comment="the node")
    seed: Mapped[int] = mapped_column(SmallInteger, primary_key=True, comment=SEED)
    latent: Mapped[int] = mapped_column(Integer, comment="the node's best latent, the parent")
    n_images: Mapped[int] = mapped_column(Integer, comment="scored images under the node")
    latent_f1: Mapped[float | None] = mapped_column(Double, comment="F1 of the latent at the node")
    direction_threshold: Mapped[float | None] = mapped_column(
        Double, comment="projection from which on the direction counts as present"
    )
    direction_f1_select: Mapped[float | None] = mapped_column(
        Double, comment="F1 of that threshold for the node on the selecting images, the best of any threshold"
    )
    direction_f1: Mapped[float | None] = mapped_column(Double, comment="its F1 on the scored images")
    n_present: Mapped[int] = mapped_column(
        Integer, comment="scored images under the node on which the direction is present"
    )
    n_silent: Mapped[int] = mapped_column(Integer, comment="those of n_present on which the parent is silent")
    n_absorbed: Mapped[int] = mapped_column(
        Integer, comment="those of n_silent on which another latent carries the direction"
    )
    silent_share: Mapped[float | None] = mapped_column(Double, comment="n_silent / n_present; null without any")
    absorbed_share: Mapped[float | None] = mapped_column(Double, comment="n_absorbed / n_present; null without any")
    random_absorbed_share: Mapped[float | None] = mapped_column(
        Double, comment="the same, but asked of random directions whether a latent carries them: their mean"
    )
    carrier: Mapped[int | None] = mapped_column(
        Integer, comment="the latent that carries the direction on most absorbed images; null without any"
    )
    n_carrier: Mapped[int] = mapped_column(Integer, comment="absorbed images on which that latent does")
