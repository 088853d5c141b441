"""Tables of artifacts: activation sets, SAEs and analyses."""

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Double, ForeignKey, Index, Integer, SmallInteger
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base, CreatedAt, Identity64, Json

_AS_MANY = "on as many training rows as were held out (on all if none were)"
_EARLIER = "null in SAEs of earlier versions"
_NOT_THERE = "where no rows are held out, in SAEs of earlier versions"


class ActivationSet(Base):
    """The activations of one layer of one model over one data set."""

    __tablename__ = "activation_set"
    __table_args__ = ({"comment": "Activations of one layer of one model over one data set, in the object store."},)

    id: Mapped[Identity64] = mapped_column(comment="primary key")
    key: Mapped[str] = mapped_column(unique=True, comment="content address; objects lie under activations/<key>/")
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"), comment="the backbone")
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"), comment="the data set")
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), comment="the job that makes it")
    layer: Mapped[int] = mapped_column(
        SmallInteger, comment="0-based block whose output (residual stream) it is, unless hook says otherwise"
    )
    tokens: Mapped[str] = mapped_column(comment="cls, registers, patches or mean")
    dtype: Mapped[str] = mapped_column(comment="stored type: float32 or bfloat16")
    n_views: Mapped[int] = mapped_column(comment="1 + augmented views per image (training rows only)")
    n_rows: Mapped[int | None] = mapped_column(comment="stored rows; null until published")
    n_images: Mapped[int | None] = mapped_column(comment="images that could be read; null until published")
    n_skipped: Mapped[int | None] = mapped_column(comment="images skipped as unreadable; null until published")
    manifest_sha256: Mapped[str | None] = mapped_column(
        comment="checksum of activations/<key>/manifest-<checksum>.json; null until published"
    )
    created_at: Mapped[CreatedAt]
    hook: Mapped[str] = mapped_column(
        server_default="residual",
        comment="which activations of the layer: residual (the stream after the block), attention, mlp, embedding, or"
        " the path of a module",
    )
    d_model: Mapped[int | None] = mapped_column(
        comment="numbers in a row; null in sets of earlier versions, whose rows are as wide as the model's d_model"
    )
    hardware: Mapped[str | None] = mapped_column(
        comment="kind of processor that computes its rows; null before its first shard, and in sets of earlier versions"
    )
    dropped_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True),
        comment="when its shards were given up, as its studies asked; the manifest stays. Null where they are kept",
    )
    freed_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True),
        comment="when the last object of its dropped shards was deleted; null before, and where they are kept",
    )


class ActivationShard(Base):
    """One stored shard of an activation set."""

    __tablename__ = "activation_shard"
    __table_args__ = ({"comment": "Shards of activation sets that are safely in the object store."},)

    activation_set_id: Mapped[int] = mapped_column(
        ForeignKey("activation_set.id", ondelete="CASCADE"), primary_key=True, comment="the activation set"
    )
    shard: Mapped[int] = mapped_column(Integer, primary_key=True, comment="number of the shard, from 0")
    object_key: Mapped[str] = mapped_column(comment="object in the bucket")
    sha256: Mapped[str] = mapped_column(comment="checksum of the object")
    n_bytes: Mapped[int] = mapped_column(comment="size of the object")
    n_rows: Mapped[int] = mapped_column(comment="rows in it")
    first_image: Mapped[int] = mapped_column(comment="first image of its range")
    end_image: Mapped[int] = mapped_column(comment="one past the last image of its range")
    skipped: Mapped[list[Any]] = mapped_column(comment="images of the range that could not be read, with reasons")


class Sae(Base):
    """A trained sparse autoencoder."""

    __tablename__ = "sae"
    __table_args__ = (
        Index("ix_sae_activation_set_id", "activation_set_id"),
        {"comment": "Trained sparse autoencoders."},
    )

    id: Mapped[Identity64] = mapped_column(comment="primary key")
    key: Mapped[str] = mapped_column(unique=True, comment="content address; objects lie under saes/<key>/")
    activation_set_id: Mapped[int] = mapped_column(
        ForeignKey("activation_set.id"), comment="the activations it was trained on"
    )
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), comment="the job that made it")
    kind: Mapped[str] = mapped_column(comment="kind of the SAE, such as relu or topk")
    config: Mapped[Json] = mapped_column(comment="the whole training configuration")
    expansion: Mapped[int] = mapped_column(comment="expansion factor: n_latents / d_model, of an imported SAE rounded")
    n_latents: Mapped[int] = mapped_column(comment="size of the dictionary")
    seed: Mapped[int] = mapped_column(comment="seed of initialisation, split and batches")
    n_steps: Mapped[int] = mapped_column(comment="training steps; 0: another program trained it, see config.imported")
    fvu: Mapped[float | None] = mapped_column(
        Double, comment="fraction of variance unexplained on held-out rows; null where they do not vary or none are"
    )
    cosine: Mapped[float | None] = mapped_column(
        Double, comment="mean cosine of input and reconstruction on held-out rows; null where none are"
    )
    l0: Mapped[float | None] = mapped_column(
        Double, comment="mean number of firing latents per held-out row; null where none are"
    )
    holdout_dead_share: Mapped[float | None] = mapped_column(
        Double, comment=f"share of latents that fire on no held-out row; null where none are, {_EARLIER}"
    )
    train_fvu: Mapped[float | None] = mapped_column(
        Double, comment=f"fraction of variance unexplained {_AS_MANY}; null where they do not vary, {_EARLIER}"
    )
    train_cosine: Mapped[float | None] = mapped_column(
        Double, comment=f"mean cosine of input and reconstruction {_AS_MANY}; {_EARLIER}"
    )
    train_l0: Mapped[float | None] = mapped_column(
        Double, comment=f"mean number of firing latents per row, {_AS_MANY}; {_EARLIER}"
    )
    train_dead_share: Mapped[float | None] = mapped_column(
        Double, comment=f"share of latents that fire on none of the rows, {_AS_MANY}; {_EARLIER}"
    )
    dead_share: Mapped[float] = mapped_column(Double, comment="share of latents that fire on no plain row")
    l0_quantiles: Mapped[list[float] | None] = mapped_column(
        ARRAY(Double),
        comment="quantiles .05, .25, .5, .75 and .95 over the held-out rows of the number of firing latents; "
        f"null {_NOT_THERE}",
    )
    train_l0_quantiles: Mapped[list[float] | None] = mapped_column(
        ARRAY(Double), comment=f"the same quantiles {_AS_MANY}; {_EARLIER}"
    )
    density_histogram: Mapped[list[int] | None] = mapped_column(
        ARRAY(Integer),
        comment="number of latents by density, the share of the held-out rows on which a latent fires: first those "
        "that never do, then 12 bins from 1e-6 to 1, two to a factor of ten, the first with all that are rarer; "
        f"null {_NOT_THERE}",
    )
    train_density_histogram: Mapped[list[int] | None] = mapped_column(
        ARRAY(Integer), comment=f"the same histogram {_AS_MANY}; {_EARLIER}"
    )
    cknna: Mapped[float | None] = mapped_column(
        Double,
        comment="CKNNA of latents and activations on at most 1,024 held-out rows: 1 where they have the same nearest "
        f"neighbours; null where undefined, {_NOT_THERE}",
    )
    cknna_shuffled: Mapped[float | None] = mapped_column(
        Double, comment="the same with the rows of the latents shuffled: what chance gives; null as cknna"
    )
    train_cknna: Mapped[float | None] = mapped_column(
        Double, comment="CKNNA on as many training rows; null where undefined, in SAEs of earlier versions"
    )
    decoder_coherence: Mapped[float | None] = mapped_column(
        Double,
        comment="greatest absolute cosine of a direction with another one, mean over the directions (over 8,192 drawn "
        f"ones where there are more); {_EARLIER}",
    )
    decoder_coherence_max: Mapped[float | None] = mapped_column(
        Double, comment=f"the greatest over the same directions; {_EARLIER}"
    )
    decoder_coherence_random: Mapped[float | None] = mapped_column(
        Double, comment=f"what decoder_coherence is expected to be for as many random directions; {_EARLIER}"
    )
    class_accuracy: Mapped[float | None] = mapped_column(
        Double,
        comment="share of the held-out images whose class a linear probe names from the activations, trained on those "
        f"of training images; null where images have several classes or there is one class, {_NOT_THERE}",
    )
    class_accuracy_reconstructed: Mapped[float | None] = mapped_column(
        Double,
        comment="the same probe on the SAE's reconstructions of the same images; null as class_accuracy",
    )
    class_accuracy_chance: Mapped[float | None] = mapped_column(
        Double,
        comment="the same of always naming the class with most training images; null as class_accuracy",
    )
    metrics: Mapped[Json] = mapped_column(comment="every training metric")
    weights_sha256: Mapped[str] = mapped_column(comment="checksum of saes/<key>/sae-<checksum>.safetensors")
    created_at: Mapped[CreatedAt]


class SaeCurve(Base):
    """A point of the curve of a training."""

    __tablename__ = "sae_curve"
    __table_args__ = (
        Index("ix_sae_curve_job_id", "job_id"),
        {
            "comment": "Curves of trainings, also of those under way: at most 200 points each, evenly spaced by step, "
            "measured on at most 1,024 held-out rows and as many training rows. SAEs of earlier versions have none."
        },
    )

    sae_key: Mapped[str] = mapped_column(primary_key=True, comment="sae.key of the SAE that is trained")
    step: Mapped[int] = mapped_column(Integer, primary_key=True, comment="steps done, from 1")
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), comment="the job that trains it")
    loss: Mapped[float] = mapped_column(Double, comment="loss of the step's batch")
    reconstruction_loss: Mapped[float] = mapped_column(Double, comment="its reconstruction term")
    sparsity_loss: Mapped[float] = mapped_column(Double, comment="its sparsity term, before its coefficient")
    auxiliary_loss: Mapped[float] = mapped_column(Double, comment="its auxiliary term, before its coefficient")
    fvu: Mapped[float | None] = mapped_column(
        Double, comment="fraction of variance unexplained on held-out rows; null where none are or they do not vary"
    )
    l0: Mapped[float | None] = mapped_column(
        Double, comment="mean number of firing latents per held-out row; null where none are"
    )
    train_fvu: Mapped[float | None] = mapped_column(
        Double, comment="fraction of variance unexplained on training rows; null where they do not vary"
    )
    train_l0: Mapped[float] = mapped_column(Double, comment="mean number of firing latents per training row")
    dead_share: Mapped[float] = mapped_column(
        Double, comment="share of latents that fired on no row of the last dead_after_steps steps"
    )
    learning_rate: Mapped[float] = mapped_column(Double, comment="learning rate of the step")
    vectors_per_second: Mapped[float | None] = mapped_column(
        Double,
        comment="training rows per second since the point before; null where the training went back to an earlier step",
    )


class ImportedSae(Base):
    """An SAE that another program trained, as it was registered."""

    __tablename__ = "imported_sae"
    __table_args__ = ({"comment": "SAEs of other programs, as `hsae-admin sae import` registered them."},)

    id: Mapped[Identity64] = mapped_column(comment="primary key")
    key: Mapped[str] = mapped_column(
        unique=True, comment="sha256 over weights and settings; the object lies under imports/<key>/"
    )
    name: Mapped[str] = mapped_column(unique=True, comment="what it is called here")
    config: Mapped[Json] = mapped_column(
        comment="its config; imported says format, width, layer, hook point, model, tokens, and what was folded"
    )
    source: Mapped[str] = mapped_column(comment="the folder, file or repository that it was read from")
    weights_sha256: Mapped[str] = mapped_column(comment="checksum of imports/<key>/sae-<checksum>.safetensors")
    created_at: Mapped[CreatedAt]


class Analysis(Base):
    """All scores of one SAE."""

    __tablename__ = "analysis"
    __table_args__ = (
        Index("ix_analysis_sae_id", "sae_id"),
        {"comment": "One row per scored SAE; its node scores are the partition node_score_a<id>."},
    )

    id: Mapped[Identity64] = mapped_column(comment="primary key")
    key: Mapped[str] = mapped_column(unique=True, comment="content address; objects lie under analyses/<key>/")
    sae_id: Mapped[int] = mapped_column(ForeignKey("sae.id"), comment="the SAE that was scored")
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"), comment="the labelled images that were scored")
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), comment="the job that made it")
    config: Mapped[Json] = mapped_column(
        comment="scoring configuration: firing threshold, rule, control seeds, key of the embeddings, format"
    )
    n_images: Mapped[int] = mapped_column(
        comment="images of all parts that could be read; where another data set trains, those of the scored one"
    )
    split: Mapped[Json | None] = mapped_column(
        comment="shares train, select, score and their seed; by: images or whole groups; is_halved: one half trains "
        "and selects, for want of images, the first or, where fold is 1, the second. Where another data set trains: "
        "score_dataset names the one that selects and scores, and scored has its shares. Null: in-sample, every image "
        "did everything"
    )
    n_train: Mapped[int | None] = mapped_column(comment="images that trained the SAE; null in-sample")
    n_select: Mapped[int | None] = mapped_column(comment="images on which latents were chosen; null in-sample")
    n_score: Mapped[int | None] = mapped_column(comment="images that every score is of; null in-sample: all of them")
    activations_sha256: Mapped[str] = mapped_column(
        comment="checksum of analyses/<key>/latents-<checksum>.safetensors: every latent's activation on every image"
    )
    class_sums_sha256: Mapped[str] = mapped_column(
        comment="checksum of analyses/<key>/class_sums-<checksum>.safetensors, from which every pair's scores follow"
    )
    created_at: Mapped[CreatedAt]
