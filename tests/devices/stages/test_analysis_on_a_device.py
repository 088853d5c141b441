"""A whole analysis job on the emulated device: latents, every baseline and shuffle, and what it publishes."""

import torch
from sqlalchemy import text
from tests.devices.numeric.numeric_cuda import NumericCuda
from tests.pipeline.in_process import attempt, job_id, run_jobs
from tests.pipeline.stages.analyze.stored import plan_analysis
from tests.small import all_results, quick_scoring, register_small

from hsae.catalog import transaction
from hsae.hierarchy.config import CONTROL_BASES
from hsae.pipeline.stages.analyze import analyze


def test_every_row_and_both_objects_are_the_cpus_to_the_last_bit(make_service):
    """Its products are the CPU's, so nothing may differ: what CUDA rounds otherwise has no part in a result."""
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
    assert len(expected["node scores"]) > 100
    for name, rows in expected.items():
        n = 0
        assert len(rows) == len(found[name]), name
        worst = 0
        for a, b in zip(rows, found[name]):
            for x, y in zip(a, b):
                if x != y:
                    n += 1
                    if isinstance(x, float) and isinstance(y, float):
                        worst = max(worst, abs(x - y) / (abs(x) + 1e-6))
                    else:
                        print(name, a[:6], x, y)
        print(name, len(rows), n, worst, {a[2] for a, b in zip(rows, found[name]) if a != b and len(a) > 2})
    assert 0
