"""Kind extract: images -> one activation set per layer."""

import hashlib
from collections.abc import Iterator

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from hsae.backbones.spec import BackboneSpec, n_tokens
from hsae.catalog import UNSUCCESSFUL_STATES, ActivationSet, ActivationShard, Job, JobDependency
from hsae.errors import UserError
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.estimate import Estimate, pass_teraflop
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.kinds.activation_sets.dropped import UNPUBLISHED
from hsae.pipeline.kinds.artifact import NamedObject, artifact_key
from hsae.pipeline.kinds.setting_labels import extraction_label
from hsae.pipeline.kinds.stage import Asked, Stage, StageRequest
from hsae.pipeline.queue.unmade import fail_succeeded
from hsae.report.ranges import ranges
from hsae.store.keys import ACTIVATIONS, artifact_of, manifest_key

# Raised whenever the same request would give other bytes than before; docs/storage-format.md has the exceptions.
ACTIVATIONS_FORMAT = 1


class ExtractRequest(StageRequest):
    """One pass over a data set that fills the activation sets of one or several layers."""

    model: BackboneSpec
    dataset: DatasetRef
    layers: tuple[int, ...]
    extraction: ExtractionConfig

    def activation_key(self, layer: int) -> str:
        """Key of the activation set of one layer."""
        return artifact_key(
            "activations",
            ACTIVATIONS_FORMAT,
            {
                "model_revision": self.model.revision,
                "preprocessing": self.model.preprocessing,
                "dataset": self.dataset.fingerprint,
                "layer": layer,
                **self.extraction.model_dump(),
            },
        )

    @property
    def key(self) -> str:
        """Key of the job: the hash of the keys of all sets that it makes."""
        joined = ",".join(self.activation_key(layer) for layer in self.layers)
        return hashlib.sha256(joined.encode()).hexdigest()


class ExtractStage(Stage[ExtractRequest]):
    """Extracts activations. Only this stage makes several artifacts in one job: the layers that do not exist yet."""

    kind = "extract"
    request = ExtractRequest
    queue = "gpu"
    unit = "images"
    code = "hsae.pipeline.stages.extract:extract"
    folder = ACTIVATIONS
    table = ActivationSet
    changes_hands = True
    after = ("part",)

    def ask(self, asked: Asked) -> ExtractRequest:
        """One pass for all of the layers."""
        return ExtractRequest(
            model=asked.model, dataset=asked.dataset, layers=asked.layers, extraction=asked.extraction
        )

    def title(self, asked: Asked) -> str:
        """Which tokens of which layers, of which images."""
        tokens = extraction_label(asked.extraction)
        return f"extract {tokens} of {asked.model_name} layer {ranges(asked.layers)} over {asked.dataset.name}"

    def estimate(self, asked: Asked) -> Estimate:
        """Rows times width times the size of a number, in shards and a manifest, of all layers; one pass for all."""
        spec, extraction = asked.model, asked.extraction
        of_image = sum(
            n_tokens(spec, extraction.tokens, hook=extraction.hook, n_sampled=extraction.patches_per_image, layer=layer)
            * spec.shape(layer, extraction.hook).width
            for layer in asked.layers
        )
        n_passes = asked.n_images * extraction.n_views
        n_shards = -(-asked.n_images // extraction.shard_images)
        return Estimate(
            n_bytes=n_passes * of_image * (2 if extraction.dtype == "bfloat16" else 4),
            n_objects=len(asked.layers) * (n_shards + 1),
            n_rows=len(asked.layers) * (n_shards + 1),
            teraflop=pass_teraflop(spec, asked.layers, n_passes),
        )

    def artifact_keys(self, request: ExtractRequest) -> tuple[str, ...]:
        """An activation set per layer."""
        return tuple(request.activation_key(layer) for layer in request.layers)

    def named_objects(self, session: Session, key: str | None = None) -> Iterator[NamedObject]:
        """Shards and manifests."""
        sets = select(ActivationSet, Job.title, Job.state).join(Job, Job.id == ActivationSet.job_id)
        if key is not None:
            sets = sets.where(ActivationSet.key == key)
        for row, title, state in session.execute(sets.order_by(ActivationSet.id)).all():
            what = f"layer {row.layer} of: {title}"
            abandoned = row.manifest_sha256 is None and state in UNSUCCESSFUL_STATES
            shards = select(ActivationShard).where(ActivationShard.activation_set_id == row.id)
            for shard in session.scalars(shards.order_by(ActivationShard.shard)):
                yield NamedObject(shard.object_key, shard.sha256, what, row.job_id, is_abandoned=abandoned)
            if row.manifest_sha256 is not None:
                yield NamedObject(manifest_key(row.key, row.manifest_sha256), row.manifest_sha256, what, row.job_id)

    def forget(self, request: ExtractRequest, job_id: int, session: Session) -> None:
        """Delete the rows of shards of sets that are not published."""
        unpublished = session.scalars(
            select(ActivationSet.id)
            .where(
                ActivationSet.key.in_(self.artifact_keys(request)),
                ActivationSet.manifest_sha256.is_(None),
                ActivationSet.job_id == job_id,  # a job with other layers may make some of them by now
            )
            .with_for_update()  # ... and none may begin to, until these rows are gone
        ).all()
        session.execute(delete(ActivationShard).where(ActivationShard.activation_set_id.in_(unpublished)))
        session.execute(update(ActivationSet).where(ActivationSet.id.in_(unpublished)).values(hardware=None))
        if unpublished:  # whoever asks for the extraction again needs the shards of its parts again
            parts = select(JobDependency.depends_on_id).where(JobDependency.job_id == job_id)
            why = "its shards were deleted with the extraction that it was a part of"
            fail_succeeded(session, parts, "clean-up", why)

    def forget_object(self, object_key: str, session: Session) -> None:
        """Delete the shard's row; the manifest is written again from the rows of the shards."""
        session.execute(delete(ActivationShard).where(ActivationShard.object_key == object_key))
        this_set = ActivationSet.key == artifact_of(object_key)[1]
        session.execute(update(ActivationSet).where(this_set).values(**UNPUBLISHED))

    def check_retry(self, request: ExtractRequest, job_id: int, session: Session) -> None:
        """Refuse if another job makes some of the layers now."""
        keys = self.artifact_keys(request)
        other = session.scalar(
            select(ActivationSet.job_id).where(ActivationSet.key.in_(keys), ActivationSet.job_id != job_id).limit(1)
        )
        if other is not None:
            raise UserError(f"job {other} makes layers of job {job_id} now: submit the request again instead")


EXTRACT = ExtractStage()
