"""A job's log reaches the object store whatever happens, and costs the job nothing."""

import json
import logging
import threading
import time
import warnings

import pytest
from tests.waiting import wait_for

from hsae.errors import UserError
from hsae.logs import hide_secrets
from hsae.pipeline.execution.job_log import JobLog, logged_starts, read_job_log
from hsae.store.keys import job_log_key
from hsae.store.objects import ObjectStore

log = logging.getLogger("hsae.test")


def _messages(records):
    return [record["message"] for record in records]


def test_keeps_what_a_job_logs(service):
    hide_secrets(service.settings)
    secret = service.settings.s3_secret_key.get_secret_value()
    with JobLog(service.store, 7, 2):
        log.info("shard %d stored", 4)
        logging.getLogger("transformers.modeling_utils").warning("weights are not used")
        logging.getLogger("urllib3").warning("not ours")
        warnings.warn("a bad fit", RuntimeWarning, stacklevel=1)
        log.info("the key is %s", secret)
        try:
            raise OSError("disk")
        except OSError:
            log.exception("failed")
    log.info("after the job")
    records = read_job_log(service.store, 7)
    assert records == read_job_log(service.store, 7, 2)
    first, library, warning, key, failed = records
    assert first["message"] == "shard 4 stored"
    assert (first["level"], first["logger"], first["job_id"], first["fence"]) == ("INFO", "hsae.test", 7, 2)
    assert library["message"] == "weights are not used"
    assert "RuntimeWarning: a bad fit" in warning["message"]
    assert key["message"] == "the key is ***"
    assert failed["exception"].endswith("OSError: disk")
    assert list(service.store.list("logs/")) == ["logs/7/000002.jsonl"]


def test_is_stored_while_the_job_runs(service):
    with JobLog(service.store, 1, 1, upload_seconds=0.05):
        for n in range(3):
            log.info("line %d", n)
            deadline = time.monotonic() + 30
            while not service.store.exists(job_log_key(1, 1)) or len(read_job_log(service.store, 1)) <= n:
                assert time.monotonic() < deadline
                time.sleep(0.02)


class _Refused(ObjectStore):
    """A store whose server refuses our keys until `refuse` is False."""

    refuse = True

    def put(self, key, data, *, content_type="application/octet-stream"):
        if self.refuse:
            return ObjectStore(self.endpoint, "nobody", "wrong-secret", self.bucket).put(key, data)
        return super().put(key, data, content_type=content_type)


def test_a_store_that_fails_costs_one_warning_and_nothing_is_lost(service, caplog):
    store = _Refused.from_settings(service.settings)
    with JobLog(store, 1, 1, upload_seconds=0.05):
        for n in range(10):
            log.info("line %d", n)
            time.sleep(0.05)
        wait_for(lambda: [r for r in caplog.records if "cannot be stored now" in r.getMessage()])
        store.refuse = False
    records = read_job_log(store, 1)
    assert [m for m in _messages(records) if m.startswith("line")] == [f"line {n}" for n in range(10)]
    assert len([r for r in records if "cannot be stored now" in r["message"]]) == 1


def test_an_unreachable_store_never_fails_the_job(service, caplog):
    store = ObjectStore("127.0.0.1:9", "access", "secret-key", "hsae-nowhere")
    with JobLog(store, 1, 1, upload_seconds=0.05):
        log.info("line")
    assert len([r for r in caplog.records if "cannot be stored now" in r.message]) == 1


def test_is_capped_but_keeps_the_error_at_the_end(service):
    with JobLog(service.store, 1, 1, max_bytes=20_000):
        for n in range(1000):
            log.info("line %d", n)
        log.error("why it ended")
    content = service.store.get(job_log_key(1, 1))
    assert len(content) < 20_500
    *lines, full, last = _messages(json.loads(line) for line in content.splitlines())
    assert lines == [f"line {n}" for n in range(len(lines))]
    assert len(lines) > 30
    assert full == "this log has reached 20000 bytes: further lines are dropped, except errors"
    assert last == "why it ended"


def test_jobs_of_one_process_do_not_mix(service):
    barrier = threading.Barrier(2)

    def run(job_id: int) -> None:
        with JobLog(service.store, job_id, 1):
            barrier.wait()
            log.info("of job %d", job_id)
            barrier.wait()

    threads = [threading.Thread(target=run, args=(job_id,)) for job_id in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [_messages(read_job_log(service.store, job_id)) for job_id in (1, 2)] == [["of job 1"], ["of job 2"]]


def _log_and_fail(store) -> None:
    with JobLog(store, 1, 1):
        log.info("line")
        raise KeyError("from the job")


def test_leaves_logging_as_it_was(service):
    loggers = [logging.getLogger(name) for name in ("hsae", "py.warnings", "transformers")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers], warnings.showwarning
    with pytest.raises(KeyError):
        _log_and_fail(service.store)
    assert ([(logger.level, list(logger.handlers)) for logger in loggers], warnings.showwarning) == before
    assert _messages(read_job_log(service.store, 1)) == ["line"]


def test_a_log_that_is_not_there(service):
    with pytest.raises(UserError, match="job 3 has no log"):
        read_job_log(service.store, 3)
    for fence in (1, 4):
        with JobLog(service.store, 3, fence):
            log.info("start %d", fence)
    assert logged_starts(service.store, 3) == [1, 4]
    assert _messages(read_job_log(service.store, 3)) == ["start 4"]
    with pytest.raises(UserError, match="no log of attempt 2: there are 1, 4"):
        read_job_log(service.store, 3, 2)
