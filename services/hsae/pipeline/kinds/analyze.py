"""Kind analyze: one SAE, its controls and the taxonomy -> every score."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy.orm import Session

from hsae.catalog import Analysis
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.cost import cpu_seconds, memory_bytes
from hsae.pipeline.estimate import Estimate
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.kinds.artifact import NamedObject, artifact_key, split_content, titled_rows
from hsae.pipeline.kinds.scored_apart import ScoredApart, apart_content
from hsae.pipeline.kinds.setting_labels import scoring_label
from hsae.pipeline.kinds.stage import Asked, Stage, StageRequest
from hsae.pipeline.kinds.train import described
from hsae.sae.config import initial_l0, n_latents_of
from hsae.split_config import ScoreSplit, SplitConfig
from hsae.store.keys import ANALYSES, class_sums_key, latents_key

# Raised whenever the same request would give other bytes than before; docs/storage-format.md has the exceptions.
ANALYSIS_FORMAT = 4


class AnalyzeRequest(StageRequest):
    """Every score of one SAE against the taxonomy of one data set.

    Attributes:
        sae_key: the SAE.
        activation_key: the activations that it was trained on.
        dataset: the labelled images that are scored.
        scoring: how it is scored.
        embedding_key: the activation set in which monosemanticity compares images; None: that of the scored images.
        split: the parts of the images on which latents are chosen and scored; None: in-sample, or `apart`.
        apart: where `dataset` is another data set than the one that trained the SAE.
    """

    sae_key: str
    activation_key: str
    dataset: DatasetRef
    scoring: ScoringConfig
    embedding_key: str | None = None
    split: SplitConfig | None = None
    apart: ScoredApart | None = None

    @property
    def scored_key(self) -> str:
        """The activations of the scored images."""
        return self.activation_key if self.apart is None else self.apart.activation_key

    @property
    def division(self) -> SplitConfig | ScoreSplit | None:
        """How the images of `dataset` are divided; None: in-sample."""
        return self.split if self.apart is None else self.apart.split

    @property
    def key(self) -> str:
        """Key of the analysis."""
        return artifact_key(
            "analysis",
            ANALYSIS_FORMAT,
            {
                "sae": self.sae_key,
                "dataset": self.dataset.fingerprint,
                "taxonomy": self.dataset.taxonomy_key,
                # Which set it is counts, and not by which name a request called it.
                "scoring": self.scoring.key_fields(),
                "embeddings": self.embedding_key,
                **split_content(self.split),
                **apart_content(self.apart),
            },
        )

    @property
    def config(self) -> dict[str, Any]:
        """The scoring as the analysis' row stores it: the same for every request with this key."""
        return self.scoring.model_dump(mode="json") | {
            "embeddings": self.embedding_key or self.scored_key,
            "format": ANALYSIS_FORMAT,
        }


class AnalyzeStage(Stage[AnalyzeRequest]):
    """Scores one SAE. An ended attempt leaves no rows: all of them are written in the last transaction."""

    kind = "analyze"
    request = AnalyzeRequest
    queue = "cpu"
    unit = "pairs"
    code = "hsae.pipeline.stages.analyze:analyze"
    after = ("extract", "train", "import")
    per = "sae"
    folder = ANALYSES
    table = Analysis

    def ask(self, asked: Asked) -> AnalyzeRequest:
        """The scores of the SAE on the activations that it was trained on, or on those of another data set."""
        activation_key, apart = asked.one_key("extract"), asked.apart
        scored_key = activation_key if apart is None else apart.activation_key
        return AnalyzeRequest(
            sae_key=asked.sae_key,
            activation_key=activation_key,
            dataset=asked.scored,
            scoring=asked.scoring,
            embedding_key=None if asked.embedding_key == scored_key else asked.embedding_key,
            split=asked.training_split,
            apart=apart,
        )

    def title(self, asked: Asked) -> str:
        """Which SAE of which layer, on which images, scored how."""
        where = f"{asked.scored.name}{asked.trained_on}"
        return f"analyze {described(asked)} on {where}{scoring_label(asked.scoring, asked.division)}"

    def estimate(self, asked: Asked) -> Estimate:
        """By the images that select and score, the latents, and which controls are scored beside them.

        An activation takes 8 bytes before compression; as many fire as the SAE aims at, or before its training. Of
        every basis the five best nodes of each latent, and the five best latents of each node, are rows.
        """
        division = asked.division
        share = 1.0 if division is None or division.groups is not None else division.select + division.score
        (layer,) = asked.layers
        d_model = asked.model.shape(layer, asked.extraction.hook).width
        n_latents = n_latents_of(asked.one_sae, d_model)
        n_images = round(share * asked.n_scored)
        n_held = asked.n_scored + (0 if asked.score_dataset is None else asked.n_images)
        l0 = asked.one_sae.variant.stated_settings().get("target_l0") or initial_l0(asked.one_sae, d_model)
        n_bases = 1 + len(asked.scoring.controls) + 2 * asked.scoring.n_shuffles
        return Estimate(
            n_bytes=round(8 * l0 * n_images),
            n_objects=2,
            n_rows=5 * n_bases * (n_latents + asked.n_nodes),
            cpu_minutes=cpu_seconds(asked.scoring, n_images, n_latents, d_model) / 60,
            memory_bytes=memory_bytes(n_held, n_latents, l0, d_model),
        )

    def needs(self, request: AnalyzeRequest) -> tuple[str, ...]:
        """The SAE, the embeddings, and another scored data set. The SAE's activations exist once the SAE does."""
        apart = () if request.apart is None else (request.apart.activation_key,)
        return (request.sae_key, *(() if request.embedding_key is None else (request.embedding_key,)), *apart)

    def named_objects(self, session: Session, key: str | None = None) -> Iterator[NamedObject]:
        """Latent activations and class sums."""
        for row, title in titled_rows(session, Analysis, key):
            latents, sums = row.activations_sha256, row.class_sums_sha256
            yield NamedObject(latents_key(row.key, latents), latents, title, row.job_id)
            yield NamedObject(class_sums_key(row.key, sums), sums, title, row.job_id)


ANALYZE = AnalyzeStage()
