"""Tables of what comes out: activation sets, SAEs, analyses and every score."""

from typing import Any

from sqlalchemy import Double, ForeignKey, Index, Integer, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base
from hsae.catalog.tables.coherence import LatentCoherenceColumns, LayerCoherenceColumns
from hsae.vocabulary.bases import BASELINES, CEILINGS

_COLUMNS = (
    f"sae, or a control at the densities of its latents: {', '.join(BASELINES)} (baselines) "
    f"or {', '.join(CEILINGS)} (supervised: a ceiling, not a baseline)"
)
BASIS = f"{_COLUMNS}, or shuffled_labels or shuffled_taxonomy (the trained SAE's latents)"
_NUMBERS = (
    "label_synset_id", "label_f1_adjusted", "label_f1", "label_q", "coherence_excess", "density", "max_activation",
)  # fmt: skip
SEED = "seed of a shuffled control; of random directions the number of the draw, of which 0 has rows in latent; else 0"


class Latent(LatentCoherenceColumns, Base):
    """One latent (or column of a control basis) of one analysis."""

    __tablename__ = "latent"
    __table_args__ = (
        Index("ix_latent_label_synset_id", "label_synset_id", "basis"),
        Index("ix_latent_lch_synset_id", "lch_synset_id", "basis"),
        # With all that says which latents have a good label: their rows, wide for their images, need not be read.
        Index(
            "ix_latent_basis_label_f1",
            "basis",
            "label_f1",
            postgresql_include=["analysis_id", "latent", "label_synset_id"],
        ),
        # With all numbers by which latents are filtered and sorted, for lists over many analyses.
        Index("ix_latent_numbers", "basis", "analysis_id", "latent", postgresql_include=list(_NUMBERS)),
        {"comment": "Every latent of every analysis with its place in the taxonomy."},
    )

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis"
    )
    basis: Mapped[str] = mapped_column(primary_key=True, comment=_COLUMNS)
    latent: Mapped[int] = mapped_column(
        Integer,
        primary_key=True,
        comment="index in the dictionary; neuron, pca (by falling variance) and random: all directions, then their "
        "opposites",
    )
    is_dead: Mapped[bool] = mapped_column(comment="fires on no image")
    n_fire: Mapped[int] = mapped_column(comment="images on which it fires (N_j)")
    density: Mapped[float] = mapped_column(Double, comment="n_fire over all images")
    mean_activation: Mapped[float | None] = mapped_column(Double, comment="mean over the images on which it fires")
    max_activation: Mapped[float | None] = mapped_column(Double, comment="strongest activation")
    n_associated: Mapped[int] = mapped_column(
        comment="number of associated classes K_j (rule: analysis.config; topk = those of its 16 strongest images)"
    )
    lch_synset_id: Mapped[int | None] = mapped_column(
        ForeignKey("synset.id"), comment="lowest common hypernym of the associated classes"
    )
    lch_height: Mapped[int | None] = mapped_column(SmallInteger, comment="height of the LCH; 0 = one leaf class")
    lch_height_relative: Mapped[float | None] = mapped_column(Double, comment="LCH height over the root's, 0 to 1")
    lch_depth: Mapped[int | None] = mapped_column(SmallInteger, comment="depth of the LCH; root = 0")
    coverage: Mapped[float | None] = mapped_column(
        Double, comment="ontological coverage: share of the classes under the LCH that are associated"
    )
    label_synset_id: Mapped[int | None] = mapped_column(
        ForeignKey("synset.id"), comment="label: the node with the best F1 (ties: the deeper node)"
    )
    label_f1: Mapped[float | None] = mapped_column(Double, comment="F1 of the label")
    label_f1_adjusted: Mapped[float | None] = mapped_column(
        Double, comment="F1 of the label, corrected for the size of the node; null in analyses of earlier versions"
    )
    label_q: Mapped[float | None] = mapped_column(
        Double,
        comment="q-value of the exact test of this latent at its label, corrected for the number of latents and of "
        "nodes; null in analyses of earlier versions",
    )
    label_precision: Mapped[float | None] = mapped_column(Double, comment="precision of the label")
    label_recall: Mapped[float | None] = mapped_column(Double, comment="recall of the label")
    label_auroc: Mapped[float | None] = mapped_column(Double, comment="AUROC of the label")
    class_entropy: Mapped[float | None] = mapped_column(
        Double, comment="entropy in bits of the classes of the images on which it fires"
    )
    monosemanticity: Mapped[float | None] = mapped_column(
        Double,
        comment="monosemanticity score (arXiv 2504.02821), images compared by the activation set whose key is in "
        "analysis.config (embeddings; without it: by the analysed layer's own); null where undefined, and in analyses "
        "of earlier versions",
    )
    lca_depth_mean: Mapped[float | None] = mapped_column(
        Double,
        comment="mean depth of the lowest common hypernym over all pairs of its 16 strongest images; null with fewer "
        "than two, and in analyses of earlier versions",
    )
    top_images: Mapped[list[Any]] = mapped_column(
        comment="its strongest images: [{image, path, activation}, ...], strongest first"
    )


class LatentPlace(Base):
    """Where one latent sits in the taxonomy by one association rule."""

    __tablename__ = "latent_place"
    __table_args__ = (
        Index("ix_latent_place_lch_synset_id", "lch_synset_id"),
        {
            "comment": "Each latent's place in the taxonomy by every association rule; analyses of earlier versions "
            "have none. The rule that the request named is in latent as well."
        },
    )

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis"
    )
    basis: Mapped[str] = mapped_column(primary_key=True, comment=_COLUMNS)
    latent: Mapped[int] = mapped_column(Integer, primary_key=True, comment="index in the dictionary")
    rule: Mapped[str] = mapped_column(
        primary_key=True,
        comment="topk (classes of its 16 strongest images), rate (it fires on half of the class's images) or mass "
        "(the fewest classes with 90 % of its activation)",
    )
    n_associated: Mapped[int] = mapped_column(comment="number of associated classes K_j")
    lch_synset_id: Mapped[int | None] = mapped_column(
        ForeignKey("synset.id"), comment="lowest common hypernym of the associated classes; null without any"
    )
    lch_height: Mapped[int | None] = mapped_column(SmallInteger, comment="height of the LCH; 0 = one leaf class")
    lch_height_relative: Mapped[float | None] = mapped_column(Double, comment="LCH height over the root's, 0 to 1")
    lch_depth: Mapped[int | None] = mapped_column(SmallInteger, comment="depth of the LCH; root = 0")
    coverage: Mapped[float | None] = mapped_column(
        Double, comment="ontological coverage: share of the classes under the LCH that are associated"
    )


class NodeScore(Base):
    """A (latent, node) pair worth keeping; partitioned by analysis."""

    __tablename__ = "node_score"
    __table_args__ = (
        Index("ix_node_score_synset_id_f1", "synset_id", "basis", "f1"),
        Index("ix_node_score_node_best", "synset_id", "basis", postgresql_where=text("is_node_best")),
        {
            "comment": "Scores of shortlisted (latent, node) pairs: the best nodes of every latent, the best latents "
            "of every node, and all pairs with F1 >= 0.5. Partitioned by analysis.",
            "postgresql_partition_by": "LIST (analysis_id)",
        },
    )

    analysis_id: Mapped[int] = mapped_column(primary_key=True, comment="the analysis")
    basis: Mapped[str] = mapped_column(primary_key=True, comment=BASIS)
    seed: Mapped[int] = mapped_column(SmallInteger, primary_key=True, comment=SEED)
    latent: Mapped[int] = mapped_column(Integer, primary_key=True, comment="index in the dictionary")
    synset_id: Mapped[int] = mapped_column(primary_key=True, comment="the node")
    is_node_best: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="whether this latent has the best F1 of its analysis, basis and seed at the node "
        "(ties: the lower index)",
    )
    n_images: Mapped[int] = mapped_column(Integer, comment="scored images under the node (n_v)")
    n_fire: Mapped[int] = mapped_column(Integer, comment="images on which the latent fires (N_j)")
    n_both: Mapped[int] = mapped_column(Integer, comment="images under the node on which it fires")
    precision: Mapped[float | None] = mapped_column(Double, comment="n_both / n_fire")
    recall: Mapped[float | None] = mapped_column(Double, comment="n_both / n_images")
    f1: Mapped[float | None] = mapped_column(Double, comment="harmonic mean of precision and recall")
    f1_adjusted: Mapped[float | None] = mapped_column(
        Double,
        comment="F1 corrected for the size of the node: 0 for a latent that fires on every image, 1 for a perfect one; "
        "null where undefined, and in analyses of earlier versions",
    )
    p: Mapped[float | None] = mapped_column(
        Double,
        comment="exact test of this pair alone: the probability of n_both or more images if firing did not depend on "
        "the node; null where it is not above chance (n_fire * n_images over all images), and in analyses of earlier "
        "versions",
    )
    auroc: Mapped[float | None] = mapped_column(
        Double, comment="area under the ROC curve of the activation for the node; null where undefined"
    )
    auroc_dense: Mapped[float | None] = mapped_column(
        Double,
        comment="best column of a control basis at the node: its AUROC before the threshold; null for other rows, for "
        "the SAE and for shuffles",
    )
    z: Mapped[float | None] = mapped_column(
        Double, comment="Mann-Whitney z-score with tie correction; to order pairs by, not for a test"
    )
    p_node: Mapped[float | None] = mapped_column(
        Double,
        comment="only where is_node_best: p-value of the node, the least p of all latents corrected for their number; "
        "null in analyses of earlier versions",
    )
    q_node: Mapped[float | None] = mapped_column(
        Double,
        comment="only where is_node_best: Benjamini-Hochberg q-value of p_node over the distinct nodes of the "
        "analysis, basis and seed; null in analyses of earlier versions",
    )
    is_distinct: Mapped[bool | None] = mapped_column(
        comment="whether the node counts in layer_score: of the nodes that hold the same images it is the deepest; "
        "null in analyses of earlier versions"
    )
    average_precision: Mapped[float | None] = mapped_column(
        Double,
        comment="average precision of the activation for the node; null where AUROC is, and in analyses of earlier "
        "versions",
    )
    best_f1: Mapped[float | None] = mapped_column(
        Double, comment="greatest F1 that a firing threshold gives; null in analyses of earlier versions"
    )
    best_threshold: Mapped[float | None] = mapped_column(
        Double, comment="activation from which on the latent fires at best_f1 (z >= it); null where best_f1 is 0"
    )
    mass_share: Mapped[float | None] = mapped_column(
        Double, comment="share of the latent's summed activation on images under the node"
    )
    mean_inside: Mapped[float | None] = mapped_column(Double, comment="mean activation on images under the node")
    mean_outside: Mapped[float | None] = mapped_column(Double, comment="mean activation on all other images")


_PAPERS = "(the paper's; depends on a column's classes and images, not corrected for chance: read lch_excess_mean)"
_NOT_CORRECTED = "not corrected for the size of the node, nor for the number of columns: read"


class LayerScore(LayerCoherenceColumns, Base):
    """One basis of one analysis in one row."""

    __tablename__ = "layer_score"
    __table_args__ = ({"comment": "One row per analysis and feature basis: what a layer's features know of the tree."},)

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis"
    )
    basis: Mapped[str] = mapped_column(primary_key=True, comment=BASIS)
    seed: Mapped[int] = mapped_column(SmallInteger, primary_key=True, comment=SEED)
    n_latents: Mapped[int] = mapped_column(comment="columns of the basis")
    n_dead: Mapped[int] = mapped_column(comment="columns that fire on no image")
    dead_share: Mapped[float] = mapped_column(Double, comment="n_dead / n_latents")
    l0: Mapped[float] = mapped_column(Double, comment="mean number of firing columns per scored image")
    lch_height_mean: Mapped[float | None] = mapped_column(Double, comment=f"mean LCH height of alive columns {_PAPERS}")
    lch_height_median: Mapped[float | None] = mapped_column(
        Double, comment=f"median LCH height of alive columns {_PAPERS}"
    )
    lch_height_q25: Mapped[float | None] = mapped_column(Double, comment=f"lower quartile of the LCH height {_PAPERS}")
    lch_height_q75: Mapped[float | None] = mapped_column(Double, comment=f"upper quartile of the LCH height {_PAPERS}")
    lch_height_relative_mean: Mapped[float | None] = mapped_column(
        Double, comment=f"mean LCH height over the root's height, 0 to 1 {_PAPERS}"
    )
    coverage_mean: Mapped[float | None] = mapped_column(
        Double, comment=f"mean ontological coverage of alive columns {_PAPERS}"
    )
    coverage_median: Mapped[float | None] = mapped_column(Double, comment=f"median ontological coverage {_PAPERS}")
    n_nodes: Mapped[int] = mapped_column(
        comment="nodes considered: with some images but not all, one for each set of images (in analyses of earlier "
        "versions: all such nodes)"
    )
    share_nodes_f1: Mapped[float | None] = mapped_column(
        Double,
        comment=f"share of nodes whose best column has F1 >= 0.5; {_NOT_CORRECTED} share_nodes_rarefied",
    )
    share_nodes_rarefied: Mapped[float | None] = mapped_column(
        Double,
        comment="expected share of nodes that some of n_rarefied columns, drawn at random, reach with an adjusted F1 "
        ">= 0.5; null in analyses of earlier versions",
    )
    n_rarefied: Mapped[int | None] = mapped_column(
        comment="columns that share_nodes_rarefied is for: the fewest of any basis of the analysis; null in "
        "analyses of earlier versions"
    )
    share_nodes_q: Mapped[float | None] = mapped_column(
        Double, comment="share of nodes with q_node < 0.01, the exact test; null in analyses of earlier versions"
    )
    best_f1_mean: Mapped[float | None] = mapped_column(
        Double, comment=f"mean over nodes of the best F1; {_NOT_CORRECTED} best_f1_adjusted_mean"
    )
    best_f1_inner_mean: Mapped[float | None] = mapped_column(
        Double,
        comment=f"mean best F1 of inner nodes with three or more classes; {_NOT_CORRECTED} best_f1_adjusted_inner_mean",
    )
    best_f1_adjusted_mean: Mapped[float | None] = mapped_column(
        Double,
        comment="mean over nodes of the adjusted best F1, a node below 0 counting as 0; null in analyses of earlier"
        " versions",
    )
    best_f1_adjusted_single_mean: Mapped[float | None] = mapped_column(
        Double, comment="the same over nodes of one class; null in analyses of earlier versions"
    )
    best_f1_adjusted_pair_mean: Mapped[float | None] = mapped_column(
        Double, comment="the same over nodes of two classes; null in analyses of earlier versions"
    )
    best_f1_adjusted_inner_mean: Mapped[float | None] = mapped_column(
        Double, comment="the same over inner nodes with three or more classes; null in analyses of earlier versions"
    )
    by_height: Mapped[list[Any]] = mapped_column(
        comment="for every height of the taxonomy the nodes considered, those with F1 >= 0.5 (n_f1: not corrected for "
        "chance) and those with q_node < 0.01 (n_q: null in analyses of earlier versions)"
    )
    fvu: Mapped[float | None] = mapped_column(Double, comment="basis sae: FVU on held-out rows")
    cosine: Mapped[float | None] = mapped_column(Double, comment="basis sae: mean cosine on held-out rows")
