"""Sixty submits of the same request at once: one study, one set of jobs, each run once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from tests.small import mapped_request, submit_mapped
from tests.waiting import events_of, rows_of

# As many threads in one process would wait for its interpreter lock, and not for the server.
_N_PROCESSES = 3
_N_THREADS = 20
_N_COMMANDS = 2
_CLIENTS = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from hsae.catalog import connect, session_factory
from hsae.pipeline.planning.requests import SubmitRequest
from hsae.pipeline.planning.submit import check_model, submit
from hsae.pipeline.queue.notifier import Notifier
from hsae.settings import Settings

settings, request, n_threads = Settings(), SubmitRequest.model_validate_json(sys.argv[1]), int(sys.argv[2])
checked = check_model(request, settings)

def submit_as_a_client_of_its_own(_):
    engine = connect(settings)
    try:
        plan = submit(request, settings, session_factory(engine), checked=checked)
    finally:
        engine.dispose()
    Notifier(settings).notify(plan.to_notify)
    return plan.study_id, sorted(job.id for job in plan.jobs)

print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(n_threads) as clients:
    print(json.dumps(list(clients.map(submit_as_a_client_of_its_own, range(n_threads)))))
"""


def _start(service, *command: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(word) for word in command], env={**os.environ, **service.environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def _ended(process: subprocess.Popen[str], given: str | None = None) -> str:
    output, _ = process.communicate(given, timeout=900)
    assert process.returncode == 0, output
    return output


def test_sixty_submits_at_once(standing):
    service = standing.service
    standing.forget("train")
    request = mapped_request()
    clients = [
        _start(service, sys.executable, "-c", _CLIENTS, request.model_dump_json(), _N_THREADS)
        for _ in range(_N_PROCESSES)
    ]
    for process in clients:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[0]
    spec = service.folder / "study.yaml"
    given = request.model_dump(mode="json", include={"model", "dataset", "layers", "extraction", "scoring"})
    saes = [{"kind": "topk", "k": 8, "expansion": 4, "n_steps": 200}]
    spec.write_text(yaml.safe_dump({**given, "saes": saes, "split": "none", **request.model_dump(mode="json")["own"]}))
    command = (Path(sys.executable).with_name("hsae-admin"), "submit", "--spec", spec, "--yes")
    commands = [_start(service, *command) for _ in range(_N_COMMANDS)]
    for process in clients:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    plans = [plan for process in clients for plan in json.loads(_ended(process))]
    for process in commands:
        _ended(process)
    assert len(plans) == _N_PROCESSES * _N_THREADS
    ((study, jobs_of_plan),) = {(number, tuple(job_ids)) for number, job_ids in plans}
    once_more = submit_mapped(service)
    assert once_more.study_id == study
    standing.check_finished(once_more)
    jobs = rows_of(service, "SELECT * FROM job WHERE kind <> 'extract'")
    assert len(jobs) == len(jobs_of_plan) - 1
    for job in jobs:
        claims = [reason for reason, _ in events_of(service, job["id"]) if reason == "claimed"]
        assert (job["attempt"], len(claims), job["outages"]) == (1, 1, 0), service.logs()
    counts = rows_of(service, "SELECT count(*) AS n_jobs, (SELECT count(*) FROM study) AS n_studies FROM job")
    assert counts == [{"n_jobs": len(jobs_of_plan), "n_studies": 1}]
    links = rows_of(service, "SELECT count(*) AS n FROM study_job GROUP BY study_id")
    assert {row["n"] for row in links} == {len(jobs_of_plan)}
