"""Tables of the class information in a layer's raw activations: one probe per layer, and its scores at every level."""

from sqlalchemy import Double, ForeignKey, Index, Integer, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base, CreatedAt, Identity64, Json


class ClassProbe(Base):
    """What a layer's raw activations say of the classes, whatever an SAE makes of them."""

    __tablename__ = "class_probe"
    __table_args__ = (
        Index("ix_class_probe_activation_set_id", "activation_set_id"),
        {
            "comment": "Probes of a layer's raw activations for the classes of the images, one per activation set and "
            "configuration; all analyses of the layer share it."
        },
    )

    id: Mapped[Identity64] = mapped_column(comment="primary key")
    key: Mapped[str] = mapped_column(
        unique=True, comment="content address: the activation set's key, the labels, the taxonomy and the configuration"
    )
    activation_set_id: Mapped[int] = mapped_column(
        ForeignKey("activation_set.id", ondelete="CASCADE"),
        comment="the activations that were probed; where another data set is scored, those that trained the probes",
    )
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"), comment="the labelled images that were scored")
    job_id: Mapped[int] = mapped_column(
        ForeignKey("job.id"),
        comment="the job that made it; before there were probe jobs the first analysis of the layer",
    )
    config: Mapped[Json] = mapped_column(
        comment="seed, n_neighbours, n_path_shuffles, logistic, split where one was given, format; format 0: computed "
        "by an analysis of an earlier version"
    )
    classifier: Mapped[str] = mapped_column(
        comment="what probe_accuracy is of: ridge (ridge regression on one-hot targets), or logistic (softmax "
        "regression, in format 0)"
    )
    n_images: Mapped[int] = mapped_column(comment="images that were trained on or scored")
    n_neighbours: Mapped[int | None] = mapped_column(
        Integer, comment="neighbours that voted: at most the training images of the smallest class"
    )
    probe_accuracy: Mapped[float | None] = mapped_column(
        Double, comment="share of the scored images whose class the linear probe names: that of the last level"
    )
    probe_chance: Mapped[float | None] = mapped_column(
        Double, comment="the same of always naming the class with most training images; null in format 0"
    )
    knn_accuracy: Mapped[float | None] = mapped_column(
        Double, comment="share of the scored images whose class the n_neighbours nearest training images name"
    )
    nn_accuracy: Mapped[float | None] = mapped_column(
        Double, comment="share of the scored images whose nearest training image is of their class; null in format 0"
    )
    logistic_accuracy: Mapped[float | None] = mapped_column(
        Double, comment="accuracy of a logistic probe for the class on the same images; null where it was not asked for"
    )
    logistic_l2: Mapped[float | None] = mapped_column(
        Double, comment="penalty of the logistic probe, chosen on a quarter of the training images"
    )
    path_correlation: Mapped[float | None] = mapped_column(
        Double,
        comment="Spearman correlation, over pairs of classes, of their path distance in the taxonomy and the cosine "
        "distance of their centred mean activations over the scored images (format 0: over all)",
    )
    path_correlation_shuffled: Mapped[float | None] = mapped_column(
        Double, comment="the same with the classes shuffled over the tree, mean over n_path_shuffles: the control"
    )
    path_correlation_shuffled_sd: Mapped[float | None] = mapped_column(
        Double, comment="standard deviation over these shuffles; null in format 0"
    )
    undefined: Mapped[str | None] = mapped_column(
        comment="why all scores are null and there are no levels, in one line; null where they are defined"
    )
    created_at: Mapped[CreatedAt]


class ClassProbeLevel(Base):
    """The scores of one probe, the taxonomy cut at one depth."""

    __tablename__ = "class_probe_level"
    __table_args__ = (
        {"comment": "Scores of each class_probe with the classes joined at every depth of the taxonomy."},
    )

    class_probe_id: Mapped[int] = mapped_column(
        ForeignKey("class_probe.id", ondelete="CASCADE"), primary_key=True, comment="the probe"
    )
    level: Mapped[int] = mapped_column(
        SmallInteger, primary_key=True, comment="depth at which the taxonomy is cut; at the greatest, classes"
    )
    n_groups: Mapped[int] = mapped_column(Integer, comment="groups of classes with images")
    n_train: Mapped[int] = mapped_column(Integer, comment="images trained on, and the neighbours to choose from")
    n_test: Mapped[int] = mapped_column(Integer, comment="scored images, none trained on; the same at every level")
    probe_accuracy: Mapped[float | None] = mapped_column(
        Double, comment="share of the scored images whose group the linear probe names"
    )
    probe_chance: Mapped[float | None] = mapped_column(
        Double, comment="the same of always naming the group with most training images"
    )
    probe_l2: Mapped[float | None] = mapped_column(
        Double,
        comment="penalty of the probe: of this level, in mean eigenvalues of the centred X^T X; in format 0 of all "
        "levels",
    )
    knn_accuracy: Mapped[float | None] = mapped_column(
        Double, comment="share of the scored images whose group the nearest neighbours name by their vote"
    )
    nn_accuracy: Mapped[float | None] = mapped_column(
        Double, comment="share of the scored images whose nearest training image is of their group; null in format 0"
    )
