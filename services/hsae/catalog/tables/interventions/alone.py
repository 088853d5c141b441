"""Tables of latents one by one: whether each is used for its label, and how many steer."""

from sqlalchemy import Double, ForeignKey, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base
from hsae.catalog.tables.interventions.sets import READOUT


class LatentEffect(Base):
    """What taking one latent away does at its own label."""

    __tablename__ = "latent_effect"
    __table_args__ = (
        Index("ix_latent_effect_synset_id", "synset_id"),
        {
            "comment": "Causal labels: what readouts lose at a latent's label when the latent alone is taken away, on "
            "the scored images, beside random latents of equal firing rate."
        },
    )

    intervention_set_id: Mapped[int] = mapped_column(
        ForeignKey("intervention_set.id", ondelete="CASCADE"), primary_key=True, comment="the set"
    )
    latent: Mapped[int] = mapped_column(Integer, primary_key=True, comment="index in the dictionary")
    readout: Mapped[str] = mapped_column(primary_key=True, comment=READOUT)
    synset_id: Mapped[int] = mapped_column(ForeignKey("synset.id"), comment="the latent's label")
    n_images: Mapped[int] = mapped_column(Integer, comment="scored images under the label")
    unit: Mapped[str] = mapped_column(comment="of the effect: log_odds, or accuracy of readouts without probabilities")
    effect: Mapped[float | None] = mapped_column(
        Double, comment="specificity of the ablation: drop inside the label minus drop outside it"
    )
    effect_low: Mapped[float | None] = mapped_column(
        Double, comment="lower end of its 95 % t interval over classes; null with one class inside or outside"
    )
    effect_high: Mapped[float | None] = mapped_column(Double, comment="upper end")
    accuracy_effect: Mapped[float | None] = mapped_column(Double, comment="the same of the accuracy")
    p: Mapped[float | None] = mapped_column(Double, comment="sign-flip p over the images under the label, two-sided")
    q: Mapped[float | None] = mapped_column(
        Double, comment="q-value (Benjamini and Hochberg) over the latents of the set that were taken away"
    )
    chance: Mapped[float | None] = mapped_column(
        Double, comment="mean effect at this label of random latents that fire about as often"
    )
    chance_low: Mapped[float | None] = mapped_column(
        Double,
        comment="2.5 % point of the effects of all random latents of the set, each at the label it was drawn for",
    )
    chance_high: Mapped[float | None] = mapped_column(Double, comment="97.5 % point")
    n_draws: Mapped[int] = mapped_column(Integer, comment="random latents drawn for this one")
    is_used: Mapped[bool] = mapped_column(
        comment="used for its label: q at most 0.05, and an effect above chance_high and 0"
    )


class InterventionSteerability(Base):
    """How many latents, neurons or random directions steer a readout by some amount."""

    __tablename__ = "intervention_steerability"
    __table_args__ = (
        {
            "comment": "Steerability: share of units that move a readout's mean distribution by an amount when each is "
            "driven to the top of its natural range."
        },
    )

    intervention_set_id: Mapped[int] = mapped_column(
        ForeignKey("intervention_set.id", ondelete="CASCADE"), primary_key=True, comment="the set"
    )
    readout: Mapped[str] = mapped_column(primary_key=True, comment=READOUT)
    units: Mapped[str] = mapped_column(
        primary_key=True, comment="what is driven: latents, neurons or random directions"
    )
    amount: Mapped[float] = mapped_column(
        Double, primary_key=True, comment="least total variation between the mean distributions before and after"
    )
    n_units: Mapped[int] = mapped_column(Integer, comment="units that were driven, one by one")
    n_images: Mapped[int] = mapped_column(Integer, comment="scored images that saw them")
    share: Mapped[float | None] = mapped_column(Double, comment="share of the units that move it so far")
    share_low: Mapped[float | None] = mapped_column(Double, comment="lower end of its 95 % Wilson interval")
    share_high: Mapped[float | None] = mapped_column(Double, comment="upper end")
    shift: Mapped[float | None] = mapped_column(Double, comment="median total variation over the units")
    moved: Mapped[float | None] = mapped_column(
        Double,
        comment="median squared change of the last layer's row, over the variance of the unedited rows",
    )
