"""A whole analysis job on the emulated device: latents, every baseline and shuffle, and what it publishes."""

import pytest
import torch
from sqlalchemy import text
from tests.devices.numeric.numeric_cuda import NumericCuda
from tests.devices.stages.nearly import about
from tests.pipeline.in_process import attempt, job_id, run_jobs
from tests.pipeline.stages.analyze.stored import plan_analysis
from tests.small import all_results, quick_scoring, register_small

from hsae.catalog import transaction
from hsae.pipeline.stages.analyze import analyze
from hsae.vocabulary.bases import CONTROL_BASES

PROJECTED = frozenset(CONTROL_BASES) - {"neuron", "untrained"}
"""Bases whose columns are products with the activations, which a device takes in blocks of another size."""


@pytest.mark.slow
def test_every_row_is_the_cpus(make_service):
    """To the last bit, but for what is computed from projections: a product's size decides how it is added up."""
    service = make_service()
    register_small(service, n_classes=5)
    plan = plan_analysis(service, scoring=quick_scoring(controls=CONTROL_BASES, embeddings="own"))
    run_jobs(service, plan, "extract", "train")
    with attempt(service, job_id(plan, "analyze")) as (request, context):
        analyze(request, context)
        expected = all_results(service)
        with transaction(service.sessions) as session:
            session.execute(text("DELETE FROM analysis"))
        context.device = torch.device("cuda", 0)
        with NumericCuda() as gpu:
            analyze(request, context)
            assert gpu.n_products > 0, "nothing was computed on the device"
            assert gpu.n_bytes == 0, "something stays on the device"
    found = all_results(service)
    assert {row[2] for row in expected["node scores"]} > {"sae", *CONTROL_BASES}
    for name, rows in expected.items():
        assert len(found[name]) == len(rows), name
        for one, other in zip(found[name], rows, strict=True):
            if PROJECTED.isdisjoint(value for value in other if isinstance(value, str)):
                assert one == other, name
            else:
                assert one == tuple(about(value, rel=1e-3, abs_=1e-4) for value in other), (name, other[:4])
