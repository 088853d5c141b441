"""Tables of interventions: one set per analysis (or several) and settings, its readouts, and a row for each edit."""

from typing import Any

from sqlalchemy import BigInteger, Double, ForeignKey, Index, Integer, SmallInteger
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base, CreatedAt, Identity64, Json

READOUT = "probe (linear), knn (nearest neighbours), classifier (the model's own) or zero_shot (nearest text)"


class InterventionSet(Base):
    """The interventions that one job made on latents of one analysis, or of several in one pass."""

    __tablename__ = "intervention_set"
    __table_args__ = (
        Index("ix_intervention_set_analysis_id", "analysis_id"),
        {"comment": "Sets of interventions: latents of an analysis are edited, and readouts say what the model lost."},
    )

    id: Mapped[Identity64] = mapped_column(comment="primary key")
    key: Mapped[str] = mapped_column(unique=True, comment="sha256 over the analysis and the settings")
    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"),
        comment="the analysis whose latents are edited; of several that of the deepest layer",
    )
    with_analyses: Mapped[list[int] | None] = mapped_column(
        ARRAY(BigInteger),
        comment="analyses of further layers whose latents are edited in the same pass, by layer; null: none. No "
        "foreign key: hsae deletes no analysis",
    )
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), comment="the job that made it")
    config: Mapped[Json] = mapped_column(comment="settings, as in the block intervene of a study file; format")
    n_images: Mapped[int] = mapped_column(Integer, comment="scored images, which neither trained nor selected")
    n_train: Mapped[int] = mapped_column(Integer, comment="images that trained the readouts, unedited")
    start: Mapped[str] = mapped_column(
        comment="where the passes began: stored (activations of the layer) or images (once up to the layer)"
    )
    created_at: Mapped[CreatedAt]


class InterventionReadout(Base):
    """A readout without any edit, and what passing through the SAE costs it."""

    __tablename__ = "intervention_readout"
    __table_args__ = (
        {"comment": "Readouts of sets of interventions on unedited images, and behind x' = decode(encode(x))."},
    )

    intervention_set_id: Mapped[int] = mapped_column(
        ForeignKey("intervention_set.id", ondelete="CASCADE"), primary_key=True, comment="the set"
    )
    readout: Mapped[str] = mapped_column(primary_key=True, comment=READOUT)
    accuracy: Mapped[float | None] = mapped_column(Double, comment="share of the scored images whose class it names")
    accuracy_through_sae: Mapped[float | None] = mapped_column(
        Double, comment="the same where the SAE's reconstruction stands in the place of the edited tokens"
    )
    chance: Mapped[float | None] = mapped_column(
        Double, comment="the same of always naming the class with most scored images"
    )
    log_odds: Mapped[float | None] = mapped_column(
        Double, comment="mean log-odds of the images' own class; null where the readout has no probabilities"
    )
    log_odds_through_sae: Mapped[float | None] = mapped_column(Double, comment="the same through the SAE")
    moved_through_sae: Mapped[float | None] = mapped_column(
        Double,
        comment="squared change of the last layer's row through the SAE, over the variance of the unedited rows",
    )
    cross_entropy: Mapped[float | None] = mapped_column(
        Double,
        comment="mean -log p of the images' own class, nats; null without probabilities, and in sets of earlier "
        "versions",
    )
    cross_entropy_through_sae: Mapped[float | None] = mapped_column(Double, comment="the same through the SAE")
    cross_entropy_mean_ablated: Mapped[float | None] = mapped_column(
        Double, comment="the same with the mean of the images that train in the place of the edited tokens"
    )
    cross_entropy_zero_ablated: Mapped[float | None] = mapped_column(
        Double, comment="the same with zeros in the place of the edited tokens"
    )
    loss_recovered_mean: Mapped[float | None] = mapped_column(
        Double,
        comment="share of the cross-entropy that the mean ablation costs and the SAE does not: 1 as unedited, 0 as the "
        "ablation; null where it costs nothing",
    )
    loss_recovered_zero: Mapped[float | None] = mapped_column(Double, comment="the same beside the zero ablation")


class Intervention(Base):
    """One edit at one dose, as one readout sees it."""

    __tablename__ = "intervention"
    __table_args__ = (
        Index("ix_intervention_synset_id", "synset_id"),
        {
            "comment": "Edits and their figures of merit, one row for each readout. Accuracies are means over classes, "
            "with the target node as one class beside every class outside it."
        },
    )

    intervention_set_id: Mapped[int] = mapped_column(
        ForeignKey("intervention_set.id", ondelete="CASCADE"), primary_key=True, comment="the set"
    )
    number: Mapped[int] = mapped_column(Integer, primary_key=True, comment="number of the edit in the set, from 0")
    readout: Mapped[str] = mapped_column(primary_key=True, comment=READOUT)
    synset_id: Mapped[int] = mapped_column(ForeignKey("synset.id"), comment="the target node")
    arm: Mapped[str] = mapped_column(
        comment="latents, or a control: random (latents), neurons, probe (its direction), class_mean, leace"
    )
    draw: Mapped[int] = mapped_column(SmallInteger, comment="draw of the random latents, from 0; else 0")
    dose: Mapped[float] = mapped_column(Double, comment="factor of the edit; of scale, 1 changes nothing")
    latents: Mapped[list[Any] | None] = mapped_column(comment="the edited latents; null of other edits")
    further_latents: Mapped[Json | None] = mapped_column(
        comment="by layer the latents of further layers that are edited in the same pass; null: none"
    )
    n_inside: Mapped[int] = mapped_column(Integer, comment="classes at or under the target with scored images")
    n_outside: Mapped[int] = mapped_column(Integer, comment="other classes with scored images")
    accuracy_inside_before: Mapped[float | None] = mapped_column(
        Double, comment="share of the target's images that are placed under it, unedited"
    )
    accuracy_inside_after: Mapped[float | None] = mapped_column(Double, comment="the same after the edit")
    accuracy_outside_before: Mapped[float | None] = mapped_column(
        Double, comment="share of the other images whose class is named, unedited"
    )
    accuracy_outside_after: Mapped[float | None] = mapped_column(Double, comment="the same after the edit")
    specificity: Mapped[float | None] = mapped_column(
        Double, comment="drop of the accuracy inside minus drop of that outside"
    )
    specificity_low: Mapped[float | None] = mapped_column(
        Double, comment="lower end of its 95 % t interval over classes; null with one class inside or outside"
    )
    specificity_high: Mapped[float | None] = mapped_column(Double, comment="upper end")
    specificity_log_odds: Mapped[float | None] = mapped_column(
        Double, comment="the same of log-odds: of the target inside, of the own class outside"
    )
    specificity_log_odds_low: Mapped[float | None] = mapped_column(Double, comment="lower end of its interval")
    specificity_log_odds_high: Mapped[float | None] = mapped_column(Double, comment="upper end")
    forgetting: Mapped[float | None] = mapped_column(Double, comment="share of the accuracy inside that is lost")
    retention: Mapped[float | None] = mapped_column(Double, comment="share of the accuracy outside that is left")
    distance_correlation: Mapped[float | None] = mapped_column(
        Double,
        comment="Spearman correlation of distance and drop over the classes outside: below 0, near ones lose more",
    )
    distance_p: Mapped[float | None] = mapped_column(
        Double, comment="share of shuffled trees with a correlation as low"
    )
    moved_inside: Mapped[float | None] = mapped_column(
        Double,
        comment="squared change of the last layer's row on the target's images, over the variance of the unedited rows",
    )
    moved_outside: Mapped[float | None] = mapped_column(Double, comment="the same on the other images")
