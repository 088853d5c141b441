"""Kind train: one activation set -> one SAE."""

from collections.abc import Iterator

from sqlalchemy import delete, exists, func, null, select, update
from sqlalchemy.orm import Session

from hsae.catalog import UNSUCCESSFUL_STATES, ActivationSet, Job, Model, Sae, SaeCurve
from hsae.pipeline.estimate import Estimate
from hsae.pipeline.kinds.artifact import NamedObject, artifact_key, split_content
from hsae.pipeline.kinds.setting_labels import extraction_label, sae_label, split_suffix
from hsae.pipeline.kinds.stage import Asked, Stage, StageRequest
from hsae.report.ranges import ranges
from hsae.sae.config import SaeConfig, n_latents_of
from hsae.split_config import SplitConfig
from hsae.store.keys import SAES, weights_key

# Raised whenever the same request would give other bytes than before; docs/storage-format.md has the exceptions.
SAE_FORMAT = 1
_LARGEST_BATCH = 4_096  # of those that a config leaves open


def described(asked: Asked) -> str:
    """The SAE, its layer and, unless it is the class token, the activations it is trained on."""
    tokens = extraction_label(asked.extraction)
    place = f"{asked.model_name} layer {ranges(asked.layers)}"
    return f"{sae_label(asked.one_sae)} of {place}" + ("" if tokens == "cls" else f", {tokens}")


class TrainRequest(StageRequest):
    """One SAE on one activation set.

    Attributes:
        activation_key: the activations.
        sae: how it is trained.
        split: it is trained on the images of the part `train`; None: on all images.
    """

    activation_key: str
    sae: SaeConfig
    split: SplitConfig | None = None

    @property
    def key(self) -> str:
        """Key of the SAE."""
        content = {"activations": self.activation_key, "sae": self.sae.model_dump(mode="json")}
        return artifact_key("sae", SAE_FORMAT, content | split_content(self.split))


class TrainStage(Stage[TrainRequest]):
    """Trains one SAE. After a crash it continues from its checkpoint."""

    kind = "train"
    request = TrainRequest
    queue = "gpu"
    unit = "vectors"
    code = "hsae.pipeline.stages.train:train"
    after = ("extract",)
    per = "sae"
    folder = SAES
    table = Sae

    def is_for(self, sae: SaeConfig) -> bool:
        """Not of SAEs that another program trained."""
        return sae.imported is None

    def ask(self, asked: Asked) -> TrainRequest:
        """The SAE on its layer's activations."""
        return TrainRequest(activation_key=asked.one_key("extract"), sae=asked.one_sae, split=asked.training_split)

    def title(self, asked: Asked) -> str:
        """Which SAE of which layer."""
        return f"train {described(asked)}{split_suffix(asked.training_split)}"

    def estimate(self, asked: Asked) -> Estimate:
        """Encoder and decoder in float32."""
        (layer,) = asked.layers
        width = asked.model.shape(layer, asked.extraction.hook).width
        return Estimate(n_bytes=2 * 4 * width * n_latents_of(asked.one_sae, width), n_objects=1)

    def needs(self, request: TrainRequest) -> tuple[str, ...]:
        """The activations."""
        return (request.activation_key,)

    def pass_key(self, request: TrainRequest) -> str | None:
        """Streamed trainings on the same rows in the same order; they may differ in kind, size, rates and length.

        Whether float32 is rounded to TF32 is a setting of the process, so they must agree in that.
        """
        sae = request.sae
        if sae.rows != "stream":
            return None
        order = {
            "activations": request.activation_key,
            "window_shards": sae.window_shards,
            "batch_size": sae.batch_size,
            "holdout_share": sae.holdout_share,
            "seed": sae.seed,
        } | ({"tf32": True} if sae.precision == "tf32" else {})
        return artifact_key("pass", SAE_FORMAT, order | split_content(request.split))

    def pass_bytes(self, request: TrainRequest, session: Session) -> int:
        """In float32 encoder and decoder, their gradients and Adam's two moments of each; the latents of a batch."""
        width = func.coalesce(ActivationSet.d_model, Model.d_model)
        of_set = select(width).select_from(Model).join(ActivationSet, ActivationSet.model_id == Model.id)
        d_model = session.execute(of_set.where(ActivationSet.key == request.activation_key)).scalar_one_or_none() or 0
        n_latents = request.sae.expansion * d_model
        return 4 * n_latents * (4 * 2 * d_model + (request.sae.batch_size or _LARGEST_BATCH))

    def named_objects(self, session: Session, key: str | None = None) -> Iterator[NamedObject]:
        """Weights, and the checkpoints of trainings that have not succeeded."""
        saes = select(Sae.key, Sae.weights_sha256, Sae.job_id, Job.title).join(Job, Job.id == Sae.job_id)
        trainings = select(Job).where(Job.kind == self.kind, Job.checkpoint.is_not(None))
        if key is not None:
            saes, trainings = saes.where(Sae.key == key), trainings.where(Job.key == key)
        for row in session.execute(saes.order_by(Sae.id)):
            yield NamedObject(weights_key(row.key, row.weights_sha256), row.weights_sha256, row.title, row.job_id)
        for job in session.scalars(trainings.order_by(Job.id)):
            saved = job.checkpoint or {}
            yield NamedObject(
                saved["object_key"],
                saved["sha256"],
                f"checkpoint of: {job.title}",
                job.id,
                is_checkpoint=True,
                is_abandoned=job.state in UNSUCCESSFUL_STATES,
            )

    def forget(self, request: TrainRequest, job_id: int, session: Session) -> None:
        """Clear the checkpoint of the job's row, and delete the curve unless its SAE is there."""
        session.execute(update(Job).where(Job.id == job_id).values(checkpoint=null()))
        is_published = exists().where(Sae.key == SaeCurve.sae_key)
        session.execute(delete(SaeCurve).where(SaeCurve.sae_key.in_(self.artifact_keys(request)), ~is_published))


TRAIN = TrainStage()
