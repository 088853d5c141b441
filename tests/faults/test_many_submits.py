"""Two hundred submits of the same request at once: one study, one set of jobs, each run once."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from tests.small import small_request
from tests.waiting import events_of, rows_of

from hsae.catalog import connect, session_factory
from hsae.pipeline.planning.submit import Plan, check_model, submit
from hsae.pipeline.queue.notifier import Notifier

_N_THREADS = 198
_N_COMMANDS = 2


def test_two_hundred_submits_at_once(standing):
    service = standing.service
    standing.forget("train")
    request = small_request()
    checked = check_model(request, service.settings)
    start = threading.Barrier(_N_THREADS)

    def submit_as_a_client_of_its_own(_: int) -> Plan:
        engine = connect(service.settings)
        start.wait(240)
        try:
            plan = submit(request, service.settings, session_factory(engine), checked=checked)
        finally:
            engine.dispose()
        Notifier(service.settings).notify(plan.to_notify)
        return plan

    spec = service.folder / "study.yaml"
    given = request.model_dump(mode="json", include={"model", "dataset", "layers", "extraction", "scoring"})
    saes = [{"kind": "topk", "k": 8, "expansion": 4, "n_steps": 200}]
    spec.write_text(yaml.safe_dump({**given, "saes": saes, "split": "none"}))
    command = [Path(sys.executable).with_name("hsae-admin"), "submit", "--spec", spec, "--yes"]
    commands = [
        subprocess.Popen(
            command,
            env={**os.environ, **service.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(_N_COMMANDS)
    ]
    with ThreadPoolExecutor(_N_THREADS) as clients:
        plans = list(clients.map(submit_as_a_client_of_its_own, range(_N_THREADS)))
    for process in commands:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    assert len({plan.study_id for plan in plans}) == 1
    first = min(plans, key=lambda plan: plan.study_id)
    standing.check_finished(first)
    jobs = rows_of(service, "SELECT * FROM job WHERE kind <> 'extract'")
    assert len(jobs) == len(first.jobs) - 1
    for job in jobs:
        claims = [reason for reason, _ in events_of(service, job["id"]) if reason == "claimed"]
        assert (job["attempt"], len(claims), job["outages"]) == (1, 1, 0), service.logs()
    counts = rows_of(service, "SELECT count(*) AS n_jobs, (SELECT count(*) FROM study) AS n_studies FROM job")
    assert counts == [{"n_jobs": len(first.jobs), "n_studies": 1}]
    links = rows_of(service, "SELECT count(*) AS n FROM study_job GROUP BY study_id")
    assert {row["n"] for row in links} == {len(first.jobs)}
