"""A small data set, and a finished analysis of its patches."""

from types import SimpleNamespace

import pytest
from tests.pipeline.in_process import run_jobs
from tests.pipeline.stages.analyze.stored import N_CLASSES, RELU, THRESHOLD, plan_analysis
from tests.small import link_classes, quick_scoring, register_small


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with a data set of five classes, and the paths and classes of its images in order."""
    service = make_service()
    register_small(service, n_classes=N_CLASSES)
    root = link_classes(service.folder, N_CLASSES)
    paths = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*"))
    return SimpleNamespace(service=service, root=root, paths=paths, labels=[path.split("/")[0] for path in paths])


@pytest.fixture(scope="module")
def patches(ready):
    """A finished analysis of patch tokens, with a firing threshold."""
    plan = plan_analysis(
        ready.service,
        sae=RELU,
        tokens="patches",
        scoring=quick_scoring(n_shuffles=1, threshold=THRESHOLD, embeddings="own"),
    )
    assert run_jobs(ready.service, plan) == ["succeeded"] * len(plan.jobs)
    return plan
