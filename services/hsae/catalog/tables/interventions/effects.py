"""Tables of what interventions did: at every node, at every distance from the target, and beside the controls."""

from sqlalchemy import Double, ForeignKey, ForeignKeyConstraint, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base, Identity64
from hsae.catalog.tables.interventions.sets import READOUT

_OF_EDIT = ("intervention_set_id", "number", "readout")


def _of_edit(name: str) -> ForeignKeyConstraint:
    columns = [f"intervention.{column}" for column in _OF_EDIT]
    return ForeignKeyConstraint(_OF_EDIT, columns, name=f"fk_{name}_intervention", ondelete="CASCADE")


class InterventionEffect(Base):
    """What one edit did at one node."""

    __tablename__ = "intervention_effect"
    __table_args__ = (
        _of_edit("intervention_effect"),
        {"comment": "What edits did at every node with scored images: log-odds and accuracy before and after."},
    )

    intervention_set_id: Mapped[int] = mapped_column(primary_key=True, comment="the set")
    number: Mapped[int] = mapped_column(Integer, primary_key=True, comment="the edit")
    readout: Mapped[str] = mapped_column(primary_key=True, comment=READOUT)
    synset_id: Mapped[int] = mapped_column(ForeignKey("synset.id"), primary_key=True, comment="the node")
    distance: Mapped[int] = mapped_column(Integer, comment="edges from the target; 0 for the target and all under it")
    split: Mapped[str] = mapped_column(comment="part of the images: score")
    n_images: Mapped[int] = mapped_column(Integer, comment="scored images under the node")
    log_odds_before: Mapped[float | None] = mapped_column(
        Double, comment="mean log-odds of the node on its images; null of the root and where there are no probabilities"
    )
    log_odds_after: Mapped[float | None] = mapped_column(Double, comment="the same after the edit")
    accuracy_before: Mapped[float | None] = mapped_column(
        Double, comment="share of its images that the readout places under it"
    )
    accuracy_after: Mapped[float | None] = mapped_column(Double, comment="the same after the edit")


class InterventionDistance(Base):
    """A point of an edit's distance curve."""

    __tablename__ = "intervention_distance"
    __table_args__ = (
        _of_edit("intervention_distance"),
        {"comment": "Distance curves: what edits took from the classes at each distance from the target."},
    )

    intervention_set_id: Mapped[int] = mapped_column(primary_key=True, comment="the set")
    number: Mapped[int] = mapped_column(Integer, primary_key=True, comment="the edit")
    readout: Mapped[str] = mapped_column(primary_key=True, comment=READOUT)
    distance: Mapped[int] = mapped_column(
        Integer, primary_key=True, comment="edges from the target; 0 for its own classes"
    )
    n_classes: Mapped[int] = mapped_column(Integer, comment="classes there with scored images")
    accuracy_drop: Mapped[float | None] = mapped_column(Double, comment="mean drop in accuracy over these classes")
    accuracy_low: Mapped[float | None] = mapped_column(
        Double, comment="lower end of its 95 % t interval; null with one class"
    )
    accuracy_high: Mapped[float | None] = mapped_column(Double, comment="upper end")
    accuracy_null_low: Mapped[float | None] = mapped_column(
        Double, comment="2.5 % point of the drop in shuffled trees; null at distance 0"
    )
    accuracy_null_high: Mapped[float | None] = mapped_column(Double, comment="97.5 % point")
    log_odds_drop: Mapped[float | None] = mapped_column(Double, comment="mean drop in log-odds over these classes")
    log_odds_low: Mapped[float | None] = mapped_column(Double, comment="lower end of its 95 % t interval")
    log_odds_high: Mapped[float | None] = mapped_column(Double, comment="upper end")
    log_odds_null_low: Mapped[float | None] = mapped_column(Double, comment="2.5 % point in shuffled trees")
    log_odds_null_high: Mapped[float | None] = mapped_column(Double, comment="97.5 % point")


class InterventionContrast(Base):
    """The latents beside one control."""

    __tablename__ = "intervention_contrast"
    __table_args__ = (
        Index("ix_intervention_contrast_intervention_set_id", "intervention_set_id"),
        {"comment": "Latents beside their controls: a row for each node and control, and one over all nodes of a set."},
    )

    id: Mapped[Identity64] = mapped_column(comment="primary key")
    intervention_set_id: Mapped[int] = mapped_column(
        ForeignKey("intervention_set.id", ondelete="CASCADE"), comment="the set"
    )
    readout: Mapped[str] = mapped_column(comment=READOUT)
    control: Mapped[str] = mapped_column(comment="random, neurons, probe, class_mean or leace")
    synset_id: Mapped[int | None] = mapped_column(
        ForeignKey("synset.id"), comment="the target node; null: all nodes of the set"
    )
    n_nodes: Mapped[int] = mapped_column(Integer, comment="nodes that are compared")
    specificity_difference: Mapped[float | None] = mapped_column(
        Double, comment="specificity of the latents minus that of the control (mean of its draws), at the first dose"
    )
    specificity_p: Mapped[float | None] = mapped_column(
        Double, comment="sign-flip p over the nodes, two-sided; null of a single node's row"
    )
    equal_forgetting: Mapped[float | None] = mapped_column(
        Double, comment="forgetting that both reach at some dose: the smaller of their greatest"
    )
    cost: Mapped[float | None] = mapped_column(
        Double, comment="drop of the accuracy outside where the latents reach that forgetting, between doses"
    )
    cost_control: Mapped[float | None] = mapped_column(Double, comment="the same of the control")
    cost_p: Mapped[float | None] = mapped_column(
        Double, comment="sign-flip p of the difference of the costs over the nodes; null of a single node's row"
    )
