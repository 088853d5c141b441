"""Kind map: one analysis and its images -> relevancy maps of the latents that people look at."""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.orm import Session

from hsae.catalog import MapSet
from hsae.errors import UserError
from hsae.frozen_model import FrozenModel
from hsae.pipeline.kinds.artifact import NamedObject, artifact_key, titled_rows
from hsae.pipeline.kinds.bases.of_analysis import PassRequest, of_analysis
from hsae.pipeline.kinds.setting_labels import settings_label
from hsae.pipeline.kinds.stage import Asked, Stage
from hsae.pipeline.kinds.train import described
from hsae.relevancy.config import MapSettings
from hsae.store.keys import MAPS, maps_key

# Raised whenever the same request would give other bytes than before; docs/storage-format.md has the exceptions.
MAPS_FORMAT = 1
_BYTES_EACH = 2  # of a value: float16
_MAX_BYTES = 256 << 20
"""The most that the maps of an analysis take: workers and readers hold all of them in memory."""


class MapRequest(PassRequest):
    """Maps of latents of one analysis.

    Attributes:
        maps: which latents and methods.
    """

    maps: MapSettings

    @property
    def key(self) -> str:
        """Key of the set of maps. The analysis' key stands for model, layer, images and SAE."""
        fields = {"analysis": self.analysis_key, "maps": self.maps.key_fields(), **self.of_the_pass()}
        return artifact_key("maps", MAPS_FORMAT, fields)

    @property
    def batch_size(self) -> int:
        """See `PassRequest`."""
        return self.maps.batch_size

    @property
    def config(self) -> dict[str, Any]:
        """The settings as the set's row stores them."""
        return self.maps.model_dump(mode="json") | self.of_the_pass() | {"format": MAPS_FORMAT}


class MapStage(Stage[MapRequest]):
    """Makes maps, if a study asks for some. An ended attempt leaves no rows: all are written in one transaction."""

    kind = "map"
    request = MapRequest
    queue = "gpu"
    unit = "images"
    code = "hsae.pipeline.stages.map:make_maps"
    after = ("extract", "train", "import", "analyze")
    per = "sae"
    folder = MAPS
    settings = MapSettings
    tells_studies_apart = False  # maps change no result
    table = MapSet

    def is_wanted(self, own: Mapping[str, FrozenModel]) -> bool:
        """Only if the settings name a number of latents."""
        given = own.get(self.kind)
        return isinstance(given, MapSettings) and given.latents > 0

    def ask(self, asked: Asked) -> MapRequest:
        """Maps of the analysis' latents on the images that were scored."""
        maps = asked.settings(MapSettings)
        (layer,) = asked.layers
        extraction, n_patches = asked.extraction, asked.model.shape(layer).n_patches
        if not extraction.is_of_stream:
            raise UserError(
                f"relevancy maps explain class and patch tokens of the residual stream, not {extraction.tokens} at"
                f" {extraction.hook}: leave --maps out"
            )
        n_bytes = _BYTES_EACH * maps.latents * maps.images * len(maps.methods) * n_patches
        if n_bytes > _MAX_BYTES:
            raise UserError(
                f"maps of {maps.latents} latents x {maps.images} images x {len(maps.methods)} methods of"
                f" {n_patches} patches take {n_bytes >> 20} MiB per SAE, more than {_MAX_BYTES >> 20}: ask"
                " for fewer"
            )
        return MapRequest(
            **of_analysis(asked),
            maps=maps,
        )

    def title(self, asked: Asked) -> str:
        """Of which SAE and images, and how."""
        where = f"{asked.scored.name}{asked.trained_on}"
        return f"map latents of {described(asked)} on {where}{settings_label(asked.settings(MapSettings))}"

    def needs(self, request: MapRequest) -> tuple[str, ...]:
        """The analysis; its SAE exists once it does."""
        return (request.analysis_key,)

    def named_objects(self, session: Session, key: str | None = None) -> Iterator[NamedObject]:
        """The values of the maps."""
        for row, title in titled_rows(session, MapSet, key):
            yield NamedObject(maps_key(row.key, row.maps_sha256), row.maps_sha256, title, row.job_id)


MAP = MapStage()
