"""Out of memory on the device: the job goes on with less on it, and the bits stay; raised by hand, without a GPU."""

import pytest
import torch
from sqlalchemy import select
from tests.pipeline.in_process import TINY_SAE, attempt, job_id, run_jobs
from tests.small import bare_scoring, register_small, small_request

from hsae.backbones.backbone import Backbone
from hsae.catalog import ActivationShard, Job, JobEvent, MapSet, Sae, transaction
from hsae.devices.errors import OutOfDeviceMemoryError
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.shards import extract_shard
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.stages.activations import shard_pass
from hsae.pipeline.stages.map import make_maps
from hsae.relevancy.config import MapSettings
from hsae.store.keys import maps_key

pytestmark = pytest.mark.slow  # a job or two for each

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]
SMALL_SAE = TINY_SAE.model_copy(update={"batch_size": 12, "n_steps": 12})


def _plan(service, sae=SMALL_SAE, maps=None, **extraction):
    request = small_request(
        layers=(1,),
        saes=(sae,),
        extraction=ExtractionConfig(**{"batch_size": 8, "shard_images": 8} | extraction),
        scoring=bare_scoring(),
        own={} if maps is None else {"map": maps},
    )
    return submit(request, service.settings, service.sessions)


def _column(service, column, *where):
    with transaction(service.sessions) as session:
        return list(session.scalars(select(column).where(*where).order_by(column)))


def _remarks(service) -> list[str]:
    return _column(service, JobEvent.message, JobEvent.reason == "remark")


def _fail_at(monkeypatch, owner, name, errors):
    """Make the calls with these numbers raise these errors; returns the list of all calls' first sizes."""
    plain = getattr(owner, name)
    sizes: list[int] = []

    def failing(self, *args, **kwargs):
        sizes.append(len(args[1] if name == "losses" else args[0]))
        if len(sizes) in errors:
            raise errors[len(sizes)]
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(owner, name, failing)
    return sizes


@pytest.fixture(scope="module")
def undisturbed(make_service):
    """Checksums of the shards and of the SAE where memory is never lacking."""
    service = make_service()
    register_small(service, n_classes=4)
    assert run_jobs(service, _plan(service, part_images=3), "extract", "train") == ["succeeded"] * 2
    return _column(service, ActivationShard.sha256), _column(service, Sae.weights_sha256)


@pytest.fixture
def service(make_service):
    service = make_service(max_attempts=1)
    register_small(service, n_classes=4)
    return service


@pytest.fixture
def spared(monkeypatch):
    """Of every shard that is extracted whether memory is spared."""
    found: list[bool] = []
    plain = extract_shard

    def noted(*args, spare_memory, **kwargs):
        found.append(spare_memory)
        return plain(*args, spare_memory=spare_memory, **kwargs)

    monkeypatch.setattr(shard_pass, "extract_shard", noted)
    return found


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", [1, 5])
def test_an_extraction_goes_on_and_its_bits_stay(service, monkeypatch, undisturbed, spared, error, call):
    sizes = _fail_at(monkeypatch, Backbone, "activations", {call: error})
    assert run_jobs(service, _plan(service, part_images=3), "extract") == ["succeeded"]
    assert max(sizes) == 3
    assert _column(service, ActivationShard.sha256) == undisturbed[0]
    assert _column(service, Job.attempt, Job.kind == "extract") == [1]
    (remark,) = _remarks(service)
    assert remark.startswith("out of memory on cpu, going on with less on it")
    assert spared == [False] * spared.index(True) + [True] * (len(spared) - spared.index(True))  # to the job's end


def test_a_later_attempt_begins_with_little_on_the_device(make_service, monkeypatch, undisturbed, spared):
    """The first one ran out of memory, and then its process crashed."""
    service = make_service(max_attempts=2, retry_seconds=0)
    register_small(service, n_classes=4)
    _fail_at(monkeypatch, Backbone, "activations", {1: ERRORS[0], 3: RuntimeError("crashed by the test")})
    plan = _plan(service, part_images=3)
    assert run_jobs(service, plan, "extract") == ["crashed, queued again"]
    assert spared == [False, True]
    spared.clear()
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    assert set(spared) == {True}
    assert _column(service, ActivationShard.sha256) == undisturbed[0]
    assert len(_remarks(service)) == 1


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", [1, 8])
def test_a_training_goes_on_and_its_bits_stay(service, monkeypatch, undisturbed, error, call):
    _fail_at(monkeypatch, type(TINY_SAE.variant), "losses", {call: error})
    assert run_jobs(service, _plan(service, part_images=3), "extract", "train") == ["succeeded"] * 2
    assert _column(service, Sae.weights_sha256) == undisturbed[1]
    assert len(_remarks(service)) == 1


def test_a_gpu_that_is_too_small_for_a_batch_is_told_what_to_do(service, monkeypatch):
    plain = Backbone.activations

    def small_gpu(self, pixel_values, tokens):
        if len(pixel_values) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(self, pixel_values, tokens)

    monkeypatch.setattr(Backbone, "activations", small_gpu)
    assert run_jobs(service, _plan(service), "extract") == ["crashed"]
    (error,) = _column(service, Job.error, Job.kind == "extract")
    assert "8 images at once do not fit: submit with --part-images 4" in error
    assert run_jobs(service, _plan(service, part_images=4), "extract") == ["succeeded"]


def test_a_gpu_that_is_too_small_for_a_training_is_told_what_to_do(service, monkeypatch):
    kind = type(TINY_SAE.variant)
    plain = kind.losses

    def small_gpu(self, sae, x_scaled, at):
        if len(x_scaled) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(self, sae, x_scaled, at)

    monkeypatch.setattr(kind, "losses", small_gpu)
    assert run_jobs(service, _plan(service), "extract", "train") == ["succeeded", "crashed"]
    (error,) = _column(service, Job.error, Job.kind == "train")
    assert "set part_rows of the SAE (all rows of a batch at once now)" in error
    in_parts = SMALL_SAE.model_copy(update={"part_rows": 6})
    assert run_jobs(service, _plan(service, sae=in_parts), "train") == ["succeeded"]


def test_maps_go_on_in_the_same_parts_or_say_what_to_do(service, monkeypatch):
    """How many images are in a pass decides last digits, so it never changes by itself."""
    plan = _plan(service, maps=MapSettings(latents=2, images=3, batch_size=4), part_images=2, precision="bfloat16")
    assert run_jobs(service, plan, "extract", "train", "analyze") == ["succeeded"] * 3
    precisions: list[str] = []
    load = Backbone.load

    def noted(*args, precision, **kwargs):
        precisions.append(precision)
        return load(*args, precision=precision, **kwargs)

    monkeypatch.setattr(Backbone, "load", noted)
    with attempt(service, job_id(plan, "map")) as (request, context):
        make_maps(request, context)
        with transaction(service.sessions) as session:
            made = session.scalars(select(MapSet)).one()
        stored = maps_key(made.key, made.maps_sha256)
        service.store.delete(stored)
        with monkeypatch.context() as patched:
            sizes = _fail_at(patched, Backbone, "traced", {2: ERRORS[0]})
            with pytest.raises(torch.OutOfMemoryError):
                make_maps(request, context)
            context.back_off()
            make_maps(request, context)
        service.store.get(stored, sha256=made.maps_sha256)  # the same bits
        assert (max(sizes), set(precisions)) == (2, {"bfloat16"})
        service.store.delete(stored)
        _fail_at(monkeypatch, Backbone, "traced", {1: ERRORS[2]})
        with pytest.raises(OutOfDeviceMemoryError, match="maps of 2 images at once do not fit: write `map: {batch_si"):
            make_maps(request, context)
