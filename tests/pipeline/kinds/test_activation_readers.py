"""Who reads an activation set is known from the requests: dropped sets depend on it."""

import json

from sqlalchemy import select
from tests.pipeline.in_process import plan_small
from tests.small import WITH_MAPS, bare_scoring, register_small

from hsae.catalog import ActivationSet, Job, transaction
from hsae.hierarchy.config import ProbeConfig
from hsae.interventions.config import InterveneSettings
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.kinds.activation_sets.readers import readers, reads
from hsae.pipeline.kinds.probe import ProbeRequest
from hsae.pipeline.kinds.registry import stage_of
from hsae.pipeline.kinds.scored_apart import ScoredApart
from hsae.split_config import ScoreSplit, SplitConfig


def test_every_request_that_names_a_set_counts_as_its_reader(service):
    """A request that named one in a field of another name would lose it while it waits."""
    register_small(service, n_classes=2)
    own = {"map": WITH_MAPS, "intervene": InterveneSettings(label_effects=1)}
    plan_small(service, layers=(1,), scoring=bare_scoring(embeddings="last"), own=own)
    with transaction(service.sessions) as session:
        sets = dict(session.execute(select(ActivationSet.key, ActivationSet.layer)).all())
        found = session.execute(select(reader := readers())).all()
        jobs = session.scalars(select(Job)).all()
    assert reader.c.keys() == ["job_id", "state", "key", "of_layer"]
    naming = {(job.id, key) for job in jobs for key in sets if key in json.dumps(job.request)}
    assert {(row.job_id, row.key) for row in found} == naming
    kinds = {job.id: job.kind for job in jobs}
    assert {(kinds[row.job_id], sets[row.key], row.of_layer) for row in found} == {
        ("probe", 1, True), ("train", 1, True), ("analyze", 1, True), ("analyze", 5, False), ("intervene", 1, True),
    }  # fmt: skip
    for job in jobs:
        request = stage_of(job.kind).request.model_validate(job.request)
        assert reads(request) == {row.key for row in found if row.job_id == job.id}


def test_edits_of_several_layers_read_the_activations_of_each(service):
    """Were one of them dropped while the job waits, it would fail."""
    register_small(service, n_classes=2)
    own = {"intervene": InterveneSettings(loss_recovered=True, layers="together")}
    plan_small(service, layers=(0, 1, 3), own=own)
    with transaction(service.sessions) as session:
        sets = set(session.scalars(select(ActivationSet.key)))
        (job,) = session.scalars(select(Job).where(Job.kind == "intervene"))
        rows = session.execute(select(readers(Job.id == job.id))).all()
    assert len(sets) == 3
    assert sorted(row.key for row in rows) == sorted(sets)
    assert {row.of_layer for row in rows} == {True}
    assert reads(stage_of(job.kind).request.model_validate(job.request)) == sets


def test_activations_of_another_data_set_are_read_too():
    dataset = DatasetRef(
        id=1, name="a", root="/a", fingerprint="a" * 64, listing_sha256="b" * 64, taxonomy_key="c" * 64
    )
    apart = ScoredApart(train_dataset=dataset, activation_key="e" * 64, split=ScoreSplit.of(SplitConfig()))
    request = ProbeRequest(activation_key="d" * 64, dataset=dataset, probe=ProbeConfig(), apart=apart)
    assert reads(request) == {"d" * 64, "e" * 64}
    assert reads(request.model_copy(update={"apart": None})) == {"d" * 64}
