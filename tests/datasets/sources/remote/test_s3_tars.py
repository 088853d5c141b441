"""Tars in a bucket of a real S3 server, and what a wrong bucket, key or setting says."""

import io

import pytest
from tests.buckets import bucket_on
from tests.datasets.sources.remote.test_http_tars import refused, samples, tar
from tests.datasets.sources.test_parquet import png

from hsae.datasets import check_images, scan, source_at
from hsae.datasets.sources.remote import remote_file
from hsae.datasets.sources.remote.s3_tars import S3Tars
from hsae.errors import ServiceError, UserError
from hsae.taxonomy import load_taxonomy

BUCKET = "images-of-tests"


@pytest.fixture(scope="module")
def client(stack):
    with bucket_on(stack, BUCKET) as client:
        yield client


@pytest.fixture
def put(client, stack, monkeypatch, tmp_path):
    monkeypatch.setenv("HSAE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HSAE_S3_ENDPOINT", stack.s3_endpoint)
    monkeypatch.setenv("HSAE_S3_ACCESS_KEY", stack.s3_access_key)
    monkeypatch.setenv("HSAE_S3_SECRET_KEY", stack.s3_secret_key)

    def put(key, content):
        client.put_object(BUCKET, key, io.BytesIO(content), len(content))

    put("pets/classes.txt", b"dog.n.01\ncat.n.01\n")
    for number in range(3):
        put(f"pets/train-{number:03}.tar", tar(samples(10 * number)))
    put("pets/deep/other.tar", tar(samples(90)))
    return put


def test_tars_by_range_pattern_and_folder(put, tmp_path):
    for number in range(3):
        (tmp_path / f"train-{number:03}.tar").write_bytes(tar(samples(10 * number)))
    (tmp_path / "classes.txt").write_bytes(b"dog.n.01\ncat.n.01\n")
    tree = load_taxonomy()
    local = scan(f"tar://{tmp_path}/train-{{000..002}}.tar", tree)
    for pattern in ("pets/train-{000..002}.tar", "pets/train-*.tar", "pets/train-00[0-9].tar", "pets/"):
        dataset = scan(f"s3://{BUCKET}/{pattern}", tree)
        assert dataset.fingerprint == local.fingerprint, pattern
    again = source_at(dataset.source.root)
    assert again.read("train-001.tar/012.png") == png(12)
    assert again.locate("train-001.tar/012.png") == f"s3://{BUCKET}/pets/train-001.tar/012.png"
    assert check_images(dataset, max_pixels=1000) == []
    assert S3Tars(f"s3://{BUCKET}/pets/*/*.tar").names == ["deep/other.tar"]


def test_what_cannot_be_read_is_one_line(put, client, stack, monkeypatch):
    put("pets/broken.tar", tar(samples(70))[:6000])
    for pattern, problem in {
        "pets/none.tar": f"s3://{BUCKET}/pets/none.tar: cannot be read (there is no such object",
        "nothing/here": "no .tar is there (looked for nothing/here/*.tar in the bucket)",
        "pets/broken.tar": "broken.tar: cannot be read as a tar after the member",
        "pets/train-000.tar?labl=x": "there is no setting labl; known: label",
    }.items():
        assert problem in refused(f"s3://{BUCKET}/{pattern}")
    client.remove_object(BUCKET, "pets/broken.tar")
    source = source_at(f"s3://{BUCKET}/pets/train-000.tar")
    path = source.list().images[0].path
    put("pets/train-000.tar", tar(samples(50)))
    monkeypatch.setattr(remote_file, "windows", remote_file.Windows())  # what was received before
    with pytest.raises(OSError, match="was replaced while it was read"):
        source.read(path)
    client.remove_object(BUCKET, "pets/train-000.tar")
    with pytest.raises(FileNotFoundError, match="no such object"):
        source_at(f"s3://{BUCKET}/pets/train-000.tar").read(path)
    assert "there is no bucket no-such-bucket on the S3 server" in refused("s3://no-such-bucket/a/*.tar")
    assert "there is no bucket no-such-bucket on the S3 server" in refused("s3://no-such-bucket/a.tar")
    line = refused("s3://KEY1234:SECRET1234@bucket/a.tar")
    assert "HSAE_S3_* has them" in line
    assert "1234" not in line
    assert "names no bucket" in refused("s3:///a.tar")
    monkeypatch.setenv("HSAE_S3_SECRET_KEY", "not-the-secret")
    line = refused(f"s3://{BUCKET}/pets/train-001.tar", ServiceError)
    assert "correct HSAE_S3_ACCESS_KEY and HSAE_S3_SECRET_KEY" in line
    monkeypatch.setenv("HSAE_S3_ENDPOINT", "127.0.0.1:1")
    assert "127.0.0.1:1 cannot be reached" in refused(f"s3://{BUCKET}/pets/train-001.tar", ServiceError)
    monkeypatch.delenv("HSAE_S3_ENDPOINT")
    monkeypatch.delenv("HSAE_S3_ACCESS_KEY")
    assert "set HSAE_S3_ENDPOINT, HSAE_S3_ACCESS_KEY: the S3 server that has the images" in refused(
        f"s3://{BUCKET}/pets/train-001.tar", UserError
    )


def test_images_on_another_server_than_the_results(put, stack, monkeypatch):
    location = f"s3://{BUCKET}/pets/train-001.tar"
    monkeypatch.setenv("HSAE_S3_ENDPOINT", "127.0.0.1:1")
    monkeypatch.setenv("HSAE_IMAGES_S3_ENDPOINT", stack.s3_endpoint)
    monkeypatch.setenv("HSAE_IMAGES_S3_SECURE", "false")
    line = refused(location, ServiceError)  # nobody may read this bucket without keys
    assert "HSAE_IMAGES_S3_ACCESS_KEY and HSAE_IMAGES_S3_SECRET_KEY" in line
    monkeypatch.setenv("HSAE_IMAGES_S3_ACCESS_KEY", stack.s3_access_key)
    monkeypatch.setenv("HSAE_IMAGES_S3_SECRET_KEY", stack.s3_secret_key)
    assert source_at(location).read("train-001.tar/012.png") == png(12)
    monkeypatch.setenv("HSAE_IMAGES_S3_ENDPOINT", "127.0.0.1:2")
    assert "start it or correct HSAE_IMAGES_S3_ENDPOINT" in refused(location, ServiceError)
    monkeypatch.setenv("HSAE_IMAGES_S3_ENDPOINT", "http://host:port")
    assert "HSAE_IMAGES_S3_ENDPOINT is host:port without a scheme" in refused(location)
