"""One flipped bit on the S3 server's disk: the server gives every object but that one, and the object is made again."""

from pathlib import Path

from tests.faults.standing import Standing
from tests.small import submit_mapped
from tests.waiting import rows_of


def _flip_a_bit(standing: Standing, content: bytes) -> None:
    """Of the object with this content, in the middle of it, where the server keeps it."""
    middle = content[len(content) // 2 :][:256]
    volumes = sorted((standing.stack.home / "seaweedfs").rglob("*.dat"), key=lambda path: path.stat().st_mtime_ns)
    path, offset = next(
        (path, offset) for path in reversed(volumes) if (offset := path.read_bytes().rfind(middle)) >= 0
    )
    _write_byte(path, offset, middle[0] ^ 1)


def _write_byte(path: Path, offset: int, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([value]))


def test_a_rotten_shard_is_made_again_while_those_who_read_it_wait(standing: Standing):
    service = standing.service
    standing.forget("train")
    (shard,) = rows_of(
        service,
        "SELECT object_key FROM activation_shard h JOIN activation_set s ON s.id = h.activation_set_id"
        " WHERE s.layer = 1 AND h.shard = 0",
    )
    _flip_a_bit(standing, service.store.get(shard["object_key"]))
    jobs = standing.check_finished(submit_mapped(service))
    # The first of the layer's training and probe that reads the shard finds out; the other waits at no cost.
    attempts = sorted(job["attempt"] for job in jobs if job["kind"] in ("train", "probe"))
    assert attempts == [1, 1, 1, 2], service.logs()
    assert {job["outages"] for job in jobs} == {0}
    (event,) = rows_of(
        service,
        "SELECT e.message FROM job_event e JOIN job j ON j.id = e.job_id"
        " WHERE j.kind = 'extract' AND e.reason = 'requeued' AND e.message LIKE 'runs again: %'",
    )
    assert f"object {shard['object_key']} in bucket {service.settings.s3_bucket} is damaged (" in event["message"]
    assert "while the server gives other objects" in event["message"]
