"""Columns of the tables latent and layer_score about coherence, purity and LCH excess (docs/metrics.md)."""

from sqlalchemy import Double, Integer
from sqlalchemy.orm import Mapped, mapped_column


class LatentCoherenceColumns:
    """What a row of latent has of them."""

    coherence: Mapped[float | None] = mapped_column(
        Double,
        comment="taxonomic coherence T_j in bits: mean Resnik similarity of two of its 16 strongest "
        "images that are of different classes; null where undefined, and in analyses of earlier "
        "versions",
    )
    coherence_excess: Mapped[float | None] = mapped_column(
        Double, comment="coherence less its null mean, that of two different classes at random, in bits"
    )
    coherence_z: Mapped[float | None] = mapped_column(
        Double,
        comment="coherence_excess in standard deviations of the coherence when classes are permuted over the tree",
    )
    coherence_p: Mapped[float | None] = mapped_column(
        Double,
        comment="one-sided p-value of the coherence by 10,000 draws of classes; at least 1/10001; "
        "p-values of an analysis share the draws",
    )
    purity: Mapped[float | None] = mapped_column(
        Double,
        comment="share of the pairs of its 16 strongest images that are of one class; null with fewer "
        "than two, and in analyses of earlier versions",
    )
    purity_excess: Mapped[float | None] = mapped_column(Double, comment="purity less that of scored images at random")
    lch_excess: Mapped[float | None] = mapped_column(
        Double,
        comment="bits by which the lowest common hypernym of the classes of its 16 strongest images is "
        "smaller than that of as many classes at random (log2 of the classes under it); null "
        "unless it has 2 classes and fires on 16 images, and in analyses of earlier versions",
    )


class LayerCoherenceColumns:
    """What a row of layer_score has of them."""

    coherence: Mapped[float | None] = mapped_column(
        Double,
        comment="mean taxonomic coherence in bits of the columns that have one; null where undefined, and"
        " in analyses of earlier versions",
    )
    coherence_null: Mapped[float | None] = mapped_column(
        Double, comment="its null mean: the mean similarity of two different classes at random"
    )
    coherence_excess: Mapped[float | None] = mapped_column(
        Double,
        comment="coherence less coherence_null: 0 where columns do not follow the tree, whatever their density",
    )
    coherence_excess_weighted: Mapped[float | None] = mapped_column(
        Double, comment="the same with columns weighted by the number of images on which they fire"
    )
    coherence_p: Mapped[float | None] = mapped_column(
        Double,
        comment="one-sided p-value of the coherence by 999 permutations of the tree, classes within "
        "strata of their size; null for shuffled bases",
    )
    purity: Mapped[float | None] = mapped_column(
        Double,
        comment="mean purity of the columns that fire on two images or more; null where undefined, and in"
        " analyses of earlier versions",
    )
    purity_null: Mapped[float | None] = mapped_column(Double, comment="purity of scored images at random")
    lch_excess_mean: Mapped[float | None] = mapped_column(
        Double,
        comment="mean LCH excess in bits of the eligible columns (n_lch_eligible); null where undefined, "
        "and in analyses of earlier versions",
    )
    n_coherent: Mapped[int | None] = mapped_column(
        Integer, comment="columns with a coherence: those of two classes or more"
    )
    n_lch_eligible: Mapped[int | None] = mapped_column(
        Integer, comment="columns with an LCH excess: those of two classes or more that fire on 16 images or more"
    )
