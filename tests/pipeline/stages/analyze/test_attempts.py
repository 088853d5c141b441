"""Stage analyze: a crash after publishing, and an SAE that is damaged."""

import pytest
from tests.pipeline.in_process import TINY_SAE, CountingStore, attempt, job_id, run_jobs, run_study
from tests.pipeline.stages.analyze.stored import plan_analysis, query

from hsae.pipeline.stages.analyze import analyze
from hsae.store.keys import weights_key


def test_a_crash_after_publishing_scores_nothing_again(ready):
    plan = plan_analysis(ready.service, layer=1)
    run_jobs(ready.service, plan, "extract", "train")
    results, stores = [], [CountingStore.of(ready.service) for _ in range(2)]
    for store in stores:
        with attempt(ready.service, job_id(plan, "analyze"), store=store) as given:
            results.append(analyze(*given))
    assert results[0]["analysis"] == results[1]["analysis"]
    assert [len(store.keys_put) for store in stores] == [2, 0]
    assert run_jobs(ready.service, plan, "analyze") == ["succeeded"]


@pytest.mark.parametrize("damage", ["one byte", "deleted"])
def test_a_damaged_sae_is_named_and_made_again_and_nothing_is_published_meanwhile(ready, damage):
    plan = plan_analysis(ready.service, sae=TINY_SAE.model_copy(update={"seed": 1 + (damage == "deleted")}))
    run_jobs(ready.service, plan, "extract", "train")
    (sae,) = query(ready.service, "SELECT key, weights_sha256 FROM sae WHERE job_id = :id", id=job_id(plan, "train"))
    key = weights_key(sae["key"], sae["weights_sha256"])
    if damage == "one byte":
        content = bytearray(ready.service.store.get(key))
        content[-5] ^= 0x40
        ready.service.store.put(key, bytes(content))
    else:
        ready.service.store.delete(key)
    before = set(ready.service.store.list("analyses/"))
    assert run_jobs(ready.service, plan, "analyze") == ["waiting"]
    (job,) = query(ready.service, "SELECT error FROM job WHERE id = :id", id=job_id(plan, "analyze"))
    assert key in job["error"]
    assert "\n" not in job["error"]
    assert query(ready.service, "SELECT 1 FROM analysis WHERE job_id = :id", id=job_id(plan, "analyze")) == []
    assert set(ready.service.store.list("analyses/")) == before
    assert {job["state"] for job in run_study(ready.service, plan.study_id)} == {"succeeded"}
