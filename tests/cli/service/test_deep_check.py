"""`doctor --deep`: what is missing or damaged in the object store, by name, and what makes it anew."""

import json

import pytest
from tests.pipeline.in_process import TINY_SAE, job_id, run_jobs
from tests.small import bare_scoring, register_small, small_request
from tests.waiting import rows_of

from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.planning.submit import submit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(make_service):
    """A service and a plan, done: every stage has stored its objects."""
    service = make_service()
    register_small(service, n_classes=3)
    request = small_request(
        layers=(1,),
        saes=(TINY_SAE,),
        extraction=ExtractionConfig(shard_images=8, batch_size=8),
        scoring=bare_scoring(),
    )
    plan = submit(request, service.settings, service.sessions)
    assert run_jobs(service, plan) == ["succeeded"] * len(plan.jobs)
    return service, plan


def _objects(result) -> dict:
    assert result.exit_code == 1, result.output  # no worker answers, in any case
    (finding,) = [each for each in json.loads(result.stdout) if each["part"] == "objects"]
    return finding


def test_lost_objects_are_named_and_repaired(admin, done):
    service, plan = done
    keys = [key for key in service.store.list("") if not key.startswith("logs/")]
    sound = _objects(admin(service, "doctor", "--deep", "--json"))
    assert sound == {"part": "objects", "ok": True, "detail": f"read {len(keys)}, all as they were stored", "lost": []}

    (listing, shard, weights, latents) = (
        next(key for key in keys if name in key) for name in ("/listing-", "/shard-00001-", "/sae-", "/latents-")
    )
    content = service.store.get(listing)
    for key in (listing, shard, latents):
        service.store.delete(key)
    service.store.put(weights, b"rotten")
    found = _objects(admin(service, "doctor", "--deep", "--json"))
    assert (found["ok"], found["detail"]) == (False, f"4 of {len(keys)} are missing or damaged")
    extract, train, analyze = (job_id(plan, kind) for kind in ("extract", "train", "analyze"))
    assert [(lost["object"], lost["fault"][:7], lost["job"]) for lost in found["lost"]] == [
        (listing, "missing", None),
        (shard, "missing", extract),
        (weights, "6 bytes", train),
        (latents, "missing", analyze),
    ]
    assert "`hsae-admin dataset add`" in found["lost"][0]["remedy"]
    assert rows_of(service, "SELECT 1 FROM job WHERE state <> 'succeeded'") == []  # it only looks

    service.store.put(listing, content)
    text = admin(service, "doctor", "--deep", "--repair")
    assert text.exit_code == 1
    lines = text.stdout.splitlines()
    assert f"BAD  objects       3 of {len(keys)} are missing or damaged" in lines
    assert lines[lines.index(f"     {shard}") + 1 :][:2] == [
        f"         missing; part of layer 1 of: {plan.jobs[0].title} (job {extract})",
        f"         job {extract} makes it again now",
    ]
    assert run_jobs(service, plan, "extract", "train", "analyze") == ["succeeded"] * 3
    assert _objects(admin(service, "doctor", "--deep", "--json"))["ok"]


def test_repair_alone_says_what_it_needs(admin):
    result = admin(None, "doctor", "--repair")
    assert result.exit_code == 2
    assert "hsae-admin doctor --deep --repair" in result.stderr
