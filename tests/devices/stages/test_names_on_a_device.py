"""Names by text: parts and precision of the extraction, memory that lacks, and a job on the emulated device."""

import re
from contextlib import contextmanager

import pytest
import torch
from sqlalchemy import text
from tests.cli.results.test_names import BY_CLIP, plan_names, query
from tests.devices.emulated_cuda import COPY, CUDA, EmulatedCuda, EmulatedTensor
from tests.pipeline.in_process import attempt, job_id, run_jobs
from tests.small import register_small

from hsae.backbones.backbone import Backbone
from hsae.catalog import transaction
from hsae.devices.errors import OutOfDeviceMemoryError
from hsae.pipeline.stages.text import directions
from hsae.pipeline.stages.text.names import make_names
from hsae.text import effects

pytestmark = pytest.mark.slow  # whole jobs, twice each

SETTINGS = BY_CLIP.model_copy(update={"images": 3, "latents": 8, "batch_size": 8, "n_shuffles": 9, "n_mean": 20})
IMAGES_PASS = {"effect": "recorded", "images": "activations"}


@pytest.fixture(scope="module")
def analysed(make_service):
    """Analyses of a middle layer of the CLIP and of a backbone without text."""
    service = make_service()
    register_small(service, n_classes=8)
    for method in IMAGES_PASS:
        plan = plan_names(service, method, SETTINGS)
        assert run_jobs(service, plan, "extract", "train", "analyze") == ["succeeded"] * 3
    return service


@contextmanager
def names_of(service, method, **changes):
    """(request, context) of an attempt; `changes` of the extraction, of which the stored activations know nothing."""
    with attempt(service, job_id(plan_names(service, method, SETTINGS), "names")) as (request, context):
        assert request.method == method
        yield request.model_copy(update={"extraction": request.extraction.model_copy(update=changes)}), context


def rows_and_forget(service):
    """What the one set says, without its number; it is deleted."""
    (made,) = query(service, "SELECT * FROM name_set")
    rows = query(service, "SELECT * FROM latent_name ORDER BY latent")
    with transaction(service.sessions) as session:
        session.execute(text("DELETE FROM name_set"))
    own = {name: made[name] for name in ("config", "n_words", "n_latents", "n_labelled", "directions_sha256")}
    return own, [{name: value for name, value in row.items() if name != "name_set_id"} for row in rows]


@pytest.mark.parametrize("method", IMAGES_PASS)
def test_memory_that_lacks_changes_no_bits_or_says_what_to_do(analysed, monkeypatch, method):
    """Images go through in the parts and in the precision of the extraction."""
    sizes: list[int] = []
    failing_at: set[int] = set()
    precisions: list[str] = []
    plain, load = getattr(Backbone, IMAGES_PASS[method]), Backbone.load

    def passed(backbone, images, *args):
        sizes.append(len(images))
        if len(sizes) in failing_at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return plain(backbone, images, *args)

    def noted(*args, precision="not given", **kwargs):
        precisions.append(precision)
        return load(*args, precision=precision, **kwargs)

    monkeypatch.setattr(Backbone, IMAGES_PASS[method], passed)
    monkeypatch.setattr(Backbone, "load", noted)
    with names_of(analysed, method, precision="bfloat16", part_images=2) as (request, context):
        make_names(request, context)
        expected = rows_and_forget(analysed)
        assert (expected[0]["config"]["precision"], expected[0]["config"]["part_images"]) == ("bfloat16", 2)
        failing_at.add(len(sizes) + 2)
        with pytest.raises(torch.OutOfMemoryError):
            make_names(request, context)
        context.back_off()
        make_names(request, context)
        assert rows_and_forget(analysed) == expected
        assert (max(sizes), set(precisions)) == (2, {"bfloat16"})
        failing_at.add(len(sizes) + 1)
        line = "names by 2 images at once do not fit: write `names: {batch_size: 1}` in a study file"
        with pytest.raises(OutOfDeviceMemoryError, match=re.escape(line)):
            make_names(request, context)


@pytest.mark.filterwarnings("ignore:User provided device_type")
@pytest.mark.parametrize("method", IMAGES_PASS)
def test_a_job_on_the_emulated_device_comes_to_the_same(analysed, monkeypatch, method):
    """No tensor on the wrong side: texts, images, ablations; the host waits for what it fetches."""
    waits: list[int] = []
    plain = effects.add_effects

    with names_of(analysed, method) as (request, context):
        make_names(request, context)
        expected, expected_rows = rows_and_forget(analysed)
        context.device = CUDA
        with EmulatedCuda() as cuda:

            def counted(found_so_far, embedded, blocks, stream, pairs, batch_size):
                assert isinstance(stream, EmulatedTensor)
                cuda.reset()
                plain(found_so_far, embedded, blocks, stream, pairs, batch_size)
                n_parts = -(-len(pairs) // batch_size)
                assert cuda.waits == {COPY: n_parts, "tolist": n_parts}  # what was taken, and the SAE's latents
                waits.append(cuda.waits.total())

            monkeypatch.setattr(directions, "add_effects", counted)
            make_names(request, context)
        found, found_rows = rows_and_forget(analysed)
    assert bool(waits) == (method == "effect")
    assert expected | {"directions_sha256": ""} == found | {"directions_sha256": ""}
    for row, other in zip(found_rows, expected_rows, strict=True):
        for name, value in other.items():
            assert row[name] == (pytest.approx(value, rel=1e-3, abs=1e-4) if isinstance(value, float) else value), name
