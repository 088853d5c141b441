"""Tables of relevancy maps: one set per analysis and settings, and a row for each map (docs/maps.md)."""

from sqlalchemy import Double, ForeignKey, Index, Integer, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base, CreatedAt, Identity64, Json


class MapSet(Base):
    """The relevancy maps that one job made for latents of one analysis."""

    __tablename__ = "map_set"
    __table_args__ = (
        Index("ix_map_set_analysis_id", "analysis_id"),
        {"comment": "Sets of relevancy maps: where in an image a latent comes from. One per analysis and settings."},
    )

    id: Mapped[Identity64] = mapped_column(comment="primary key")
    key: Mapped[str] = mapped_column(unique=True, comment="content address; the maps lie under maps/<key>/")
    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), comment="the analysis whose latents are explained"
    )
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), comment="the job that made it")
    config: Mapped[Json] = mapped_column(comment="settings: latents, images, methods, batch_size, seed; format")
    n_latents: Mapped[int] = mapped_column(Integer, comment="latents that have maps")
    n_maps: Mapped[int] = mapped_column(Integer, comment="maps of all methods together")
    n_undefined: Mapped[int] = mapped_column(Integer, comment="rows of latent_map without a map")
    n_patch_rows: Mapped[int] = mapped_column(SmallInteger, comment="rows of patches, so many values high is a map")
    n_patch_cols: Mapped[int] = mapped_column(SmallInteger, comment="columns of patches, so many values wide is a map")
    maps_sha256: Mapped[str] = mapped_column(
        comment="checksum of maps/<key>/maps-<checksum>.safetensors: by method float16[n, n_patch_rows, n_patch_cols], "
        "each map divided by its greatest value"
    )
    created_at: Mapped[CreatedAt]


class LatentMap(Base):
    """One map: which patches of one image matter for one latent."""

    __tablename__ = "latent_map"
    __table_args__ = (
        {"comment": "Relevancy maps, one row for each latent, image and method; the values are in the set's object."},
    )

    map_set_id: Mapped[int] = mapped_column(
        ForeignKey("map_set.id", ondelete="CASCADE"), primary_key=True, comment="the set"
    )
    method: Mapped[str] = mapped_column(
        primary_key=True,
        comment="chefer (gradient-weighted attention), gradcam, or a control: attention, gradient, activation (of each "
        "patch), random",
    )
    latent: Mapped[int] = mapped_column(Integer, primary_key=True, comment="index in the dictionary")
    rank: Mapped[int] = mapped_column(
        SmallInteger, primary_key=True, comment="the image is the latent's rank-th strongest, from 1"
    )
    image: Mapped[int] = mapped_column(Integer, comment="the image's number in the data set's listing")
    path: Mapped[str] = mapped_column(comment="the image's path")
    activation: Mapped[float | None] = mapped_column(
        Double, comment="the latent's activation when the map was made; null where the image could not be read"
    )
    map_index: Mapped[int | None] = mapped_column(
        Integer, comment="place in the object's tensor of this method, from 0; null where the map is undefined"
    )
    peak: Mapped[float | None] = mapped_column(
        Double,
        comment="greatest value of the map, by which the stored one is divided; null where no patch is relevant (no "
        "positive or no finite value)",
    )
    peak_row: Mapped[int | None] = mapped_column(SmallInteger, comment="row of the patch with the peak, from the top")
    peak_col: Mapped[int | None] = mapped_column(
        SmallInteger, comment="column of the patch with the peak, from the left"
    )
    concentration: Mapped[float | None] = mapped_column(
        Double,
        comment="share of the map's sum that the most relevant tenth of the patches has: 0.1 for an even map, 1 for a "
        "point",
    )
