"""Jobs on an emulated GPU that has no memory for one product: they go on, and publish the same rows."""

import pytest
import torch
from sqlalchemy import text
from tests.devices.numeric.numeric_cuda import NumericCuda
from tests.pipeline.in_process import attempt, job_id, run_jobs
from tests.pipeline.stages.analyze.stored import plan_analysis
from tests.pipeline.stages.test_probe import plan_probe
from tests.small import all_results, bare_scoring, register_small

from hsae.catalog import transaction
from hsae.hierarchy.config import ProbeConfig
from hsae.hierarchy.controls.bases import kmeans
from hsae.hierarchy.kernels.back_off import forget_parts
from hsae.pipeline.stages.analyze import analyze
from hsae.pipeline.stages.probe import probe

pytestmark = pytest.mark.slow  # a job for each product


@pytest.fixture(autouse=True)
def whole_blocks():
    forget_parts()
    yield
    forget_parts()


def _assert_goes_on(service, job, stage, table):
    """Whichever product finds no memory. How a product is added up depends on its size, as where cuBLAS chooses."""
    with attempt(service, job) as (request, context):
        context.device = torch.device("cuda", 0)

        def rows(**lacking):
            forget_parts()
            with NumericCuda(products_by_size=True, **lacking) as gpu:
                stage(request, context)
                assert gpu.n_bytes == 0, "something stays on the device"
            found = all_results(service)
            with transaction(service.sessions) as session:
                session.execute(text(f"DELETE FROM {table}"))
            return found, gpu.n_products

        expected, n_products = rows()
        assert n_products > 0
        for number in range(1, n_products + 1):
            found, n_tried = rows(no_memory_for=number)
            assert n_tried > n_products, "no product was tried again"
            assert found == expected, number


def test_an_analysis(make_service, monkeypatch):
    monkeypatch.setattr(kmeans, "_DRAWS", 2)
    monkeypatch.setattr(kmeans, "MAX_ROUNDS", 2)
    service = make_service()
    register_small(service, n_classes=4)
    plan = plan_analysis(service, scoring=bare_scoring(controls=("kmeans", "pca", "untrained")))
    assert run_jobs(service, plan, "extract", "train") == ["succeeded"] * 2
    _assert_goes_on(service, job_id(plan, "analyze"), analyze, "analysis")


def test_a_probe(make_service):
    service = make_service()
    register_small(service, n_classes=4)
    plan = plan_probe(service, probe=ProbeConfig(n_path_shuffles=3))
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    _assert_goes_on(service, job_id(plan, "probe"), probe, "class_probe")
