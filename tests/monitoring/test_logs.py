"""Lines that tell their job and keep secrets."""

import json
import logging
import threading

import pytest
from minio import Minio
from pydantic import SecretStr

from hsae import logs
from hsae.settings import Settings

log = logging.getLogger("hsae.test")
SECRETS = ("dbpass/w0rd+x", 'quote"and\\slash', "s3-secret-key", "reader-passw0rd")


@pytest.fixture
def configured(clean_logging, tmp_path):
    """Logs with settings full of secrets; returns a function that reads what was logged."""

    def configure(log_format: str, level: int = logging.INFO):
        settings = Settings(
            home=tmp_path,
            database_url=SecretStr("postgresql://hsae:dbpass%2Fw0rd%2Bx@127.0.0.1:5432/hsae"),
            broker_url=SecretStr("redis://:quote%22and%5Cslash@127.0.0.1:6379/0"),
            s3_secret_key=SecretStr("s3-secret-key"),
            reader_password=SecretStr("reader-passw0rd"),
            log_format=log_format,
        )
        logs.configure(settings, level=level, file=tmp_path / "log")
        return lambda: (tmp_path / "log").read_text()

    return configure


def test_json_lines(configured):
    read = configured("json")
    log.info("stored %d shards", 3, extra={"shard": 7})
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("job failed")
    first, second = (json.loads(line) for line in read().splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {"level": "INFO", "logger": "hsae.test", "message": "stored 3 shards", "shard": 7}
    assert second["level"] == "ERROR"
    assert second["exception"].startswith("Traceback")
    assert second["exception"].endswith("ValueError: broken")


def test_text(configured):
    read = configured("text")
    with logs.job_context(12, 3):
        log.warning("slow")
    log.debug("not shown")
    (line,) = read().splitlines()
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert rest == "WARNING  hsae.test [job 12, start 3] slow"


def test_records_carry_their_job_also_from_its_threads(configured):
    read = configured("json")
    with logs.job_context(5, 2):
        log.info("here")
        thread = threading.Thread(target=log.info, args=("in a thread",))
        thread.start()
        thread.join()
    log.info("outside")
    here, in_thread, outside = (json.loads(line) for line in read().splitlines())
    assert (here["job_id"], here["fence"]) == (in_thread["job_id"], in_thread["fence"]) == (5, 2)
    assert "job_id" not in outside


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_logged(configured, log_format):
    read = configured(log_format, logging.DEBUG)
    for secret in SECRETS:
        log.info("in the message: " + secret)
        log.info("as an argument: %s, %r, %s", secret, secret, {"password": secret})
        log.info("extra", extra={"detail": secret})
        try:
            raise RuntimeError(f"in an error: {secret}")
        except RuntimeError:
            log.exception("it failed")
    log.info("postgresql://hsae:dbpass%%2Fw0rd%%2Bx@127.0.0.1/hsae")
    log.info("redis://:another-one@10.0.0.1:6379/0 host=x password=third-one dbname=y")
    text = read()
    for secret in (*SECRETS, "dbpass%2Fw0rd%2Bx", r"quote\"and\\slash", r"quote\\\"and", "another-one", "third-one"):
        assert secret not in text
    assert "10.0.0.1:6379" in text  # what is no secret stays
    assert "dbname=y" in text


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_signature_of_a_presigned_url_is_logged(configured, log_format):
    read = configured(log_format)
    client = Minio("127.0.0.1:9000", access_key="access", secret_key="another-secret", region="us-east-1")
    url = client.presigned_get_object("hsae", "weights.safetensors")
    signature = url.split("X-Amz-Signature=")[1][:64]
    assert len(signature) == 64
    log.info("fetch %s", url)
    log.info("Authorization: AWS4-HMAC-SHA256 Credential=access/x, SignedHeaders=host, Signature=%s", signature)
    text = read()
    assert signature not in text
    assert "Credential=access" not in text
    assert "weights.safetensors" in text


def test_the_clients_of_the_stores_stay_quiet(configured, service):
    read = configured("text", logging.DEBUG)
    service.store.put("quiet", b"x")
    service.store.get("quiet")
    log.debug("shown")
    assert len(read().splitlines()) == 1


def test_a_second_call_replaces_the_first(configured):
    configured("text")
    read = configured("text")
    log.info("once")
    assert read().count("once") == 1
