"""CUDA out of memory: once more with half the micro-batch, recorded; raised here by hand, for it needs no GPU so."""

import numpy as np
import pytest
import torch
from sqlalchemy import select
from tests.pipeline.in_process import TINY_SAE, run_jobs
from tests.small import bare_scoring, register_small, small_request

from hsae.backbones.backbone import Backbone
from hsae.catalog import ActivationShard, Job, JobEvent, Sae, transaction
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.planning.submit import submit
from hsae.store.tensors import get_tensors


def _plan(service, **changes):
    request = small_request(
        layers=(1,),
        saes=(TINY_SAE,),
        extraction=ExtractionConfig(batch_size=8),
        scoring=bare_scoring(),
        **changes,
    )
    return submit(request, service.settings, service.sessions)


def _remarks(service) -> list[str]:
    with transaction(service.sessions) as session:
        return list(session.scalars(select(JobEvent.message).where(JobEvent.reason == "remark")))


def test_an_extraction_goes_on_with_half_the_images_at_once(make_service, monkeypatch):
    activations = []
    plain = Backbone.activations
    sizes = []

    def small_gpu(self, pixel_values, tokens):
        sizes.append(len(pixel_values))
        if len(pixel_values) > 4 and len(activations) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return plain(self, pixel_values, tokens)

    monkeypatch.setattr(Backbone, "activations", small_gpu)
    for _ in range(2):
        service = make_service()
        register_small(service, n_classes=3)
        assert run_jobs(service, _plan(service), "extract") == ["succeeded"]
        with transaction(service.sessions) as session:
            (shard,) = session.scalars(select(ActivationShard)).all()
            assert session.scalars(select(Job.attempt).where(Job.kind == "extract")).one() == 1
        activations.append(get_tensors(service.store, shard.object_key, sha256=shard.sha256)[0]["activations"])
    assert max(sizes) == 8
    assert sizes[-1] <= 4
    (remark,) = _remarks(service)
    assert remark.startswith("out of GPU memory, trying again with half the micro-batch")
    np.testing.assert_allclose(activations[1], activations[0], rtol=0, atol=2e-5)


def test_a_training_in_parts_is_the_training_and_a_second_failure_is_a_failed_attempt(make_service, monkeypatch):
    kind = type(TINY_SAE.variant)
    plain = kind.losses
    limit = [10**9]

    def small_gpu(self, sae, x_scaled, at):
        if len(x_scaled) > limit[0]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(self, sae, x_scaled, at)

    monkeypatch.setattr(kind, "losses", small_gpu)
    found = []
    for size in (10**9, 6, 1):
        limit[0] = size
        service = make_service(max_attempts=1)
        register_small(service, n_classes=4)
        sae = TINY_SAE.model_copy(update={"batch_size": 12, "aux_coefficient": 0.0})
        request = small_request(layers=(1,), saes=(sae,))
        plan = submit(request, service.settings, service.sessions)
        outcome = run_jobs(service, plan, "extract", "train")
        with transaction(service.sessions) as session:
            found.append((outcome, session.scalars(select(Sae.fvu)).all(), _remarks(service)))
    whole, halves, none = found
    assert whole[0] == halves[0] == ["succeeded"] * 2
    assert halves[1] == pytest.approx(whole[1], rel=1e-3)
    assert (len(whole[2]), len(halves[2]), len(none[2])) == (0, 1, 1)
    assert none[0] == ["succeeded", "crashed"]
