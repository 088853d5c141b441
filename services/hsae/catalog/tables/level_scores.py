"""Table of the class information that a layer's activations hold at every level of the taxonomy."""

from sqlalchemy import Double, ForeignKey, Integer, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base


class LevelScore(Base):
    """What a layer's raw activations say of the classes, the taxonomy cut at one depth."""

    __tablename__ = "level_score"
    __table_args__ = (
        {
            "comment": "Linear probe and nearest neighbours on a layer's raw activations, with the classes joined at "
            "every depth of the taxonomy; analyses of earlier versions have none."
        },
    )

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True, comment="the analysis"
    )
    level: Mapped[int] = mapped_column(
        SmallInteger, primary_key=True, comment="depth at which the taxonomy is cut; at the greatest, classes"
    )
    n_groups: Mapped[int] = mapped_column(Integer, comment="groups of classes with images")
    n_train: Mapped[int] = mapped_column(Integer, comment="images trained on, and the neighbours to choose from")
    n_test: Mapped[int] = mapped_column(Integer, comment="held-out images; the same at every level")
    probe_accuracy: Mapped[float | None] = mapped_column(
        Double, comment="share of the held-out images whose group a linear probe names"
    )
    probe_chance: Mapped[float | None] = mapped_column(
        Double, comment="the same of always naming the group with most training images"
    )
    probe_l2: Mapped[float | None] = mapped_column(Double, comment="penalty of the probe, chosen on a part of n_train")
    knn_accuracy: Mapped[float | None] = mapped_column(
        Double, comment="share of the held-out images whose group the 20 nearest neighbours name"
    )
