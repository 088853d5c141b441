"""The benchmark of the explorer's pages: the stack of a demo, and what the synthetic study has beside scores."""

import pytest
from benchmarks.large_study.explorer_addresses import pages
from benchmarks.large_study.explorer_pages import of_demo, put_objects
from benchmarks.large_study.synthetic_study import StudySize, fill_study

from hsae.embedded import Stack


def test_a_home_without_a_stack_is_refused(tmp_path):
    with (
        pytest.raises(SystemExit, match="has no stack: make the demo with `hsae-admin demo"),
        of_demo(tmp_path),
    ):
        pass
    assert not list(tmp_path.iterdir()), "and none is made there"


@pytest.mark.slow
def test_a_stack_is_left_as_it_was(tmp_path):
    stack = Stack(tmp_path / "home")
    info = stack.start()
    try:
        with of_demo(stack.home) as settings:
            assert settings.s3_endpoint == info.s3_endpoint
        assert stack.status().running, "it ran before"
        stack.stop()
        with of_demo(stack.home):
            assert stack.status().running
        assert not stack.status().running, "it was started for the block"
    finally:
        stack.stop()


@pytest.mark.slow
def test_the_synthetic_study_lacks_nothing(make_service, tmp_path):
    service = make_service()
    size = StudySize(n_classes=40, n_layers=1, n_latents=64, d_model=16, images_per_class=4)
    nodes = fill_study(service.sessions, size)
    put_objects(service.sessions, service.store, nodes, size, tmp_path)
    asked, lacking = pages(service.sessions, 1)
    assert lacking == []
    assert {"latents of all layers by name", "latent with maps", "relevancy map"} <= asked.keys()
