"""A data set that the extraction is the first to read, from `dataset add` to a file that was changed unseen."""

import hashlib
import os
from pathlib import Path

import pytest
from sqlalchemy import select, text
from tests.pipeline.in_process import TINY_SAE, plan_small, run_jobs
from tests.small import few_images

from hsae.catalog import Dataset, ImageChecksum, transaction
from hsae.datasets.sources.local_files import LocalFiles
from hsae.demo import backbone_folder
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.stored import read_listing


@pytest.fixture
def images(tmp_path) -> Path:
    """Four classes of two images each, as files of the test's own."""
    folder = few_images(tmp_path / "linked", 4)
    for link in folder.glob("*/*"):
        content = link.read_bytes()
        link.unlink()
        link.write_bytes(content)
    return folder


def the_dataset(service):
    with transaction(service.sessions) as session:
        return session.scalars(select(Dataset)).one()


def checksums_of(service) -> dict[int, str]:
    with transaction(service.sessions) as session:
        return {row.image: row.sha256 for row in session.scalars(select(ImageChecksum))}


def listed_files(service, images) -> list[Path]:
    listing = read_listing(service.store, dataset_ref(the_dataset(service)))
    return [images / path for path in listing["path"].to_pylist()]


def extract(service, layer: int) -> list[str]:
    plan = plan_small(service, "pets", layers=(layer,), saes=(TINY_SAE,), cross_fit=False)
    return run_jobs(service, plan, "extract")


def errors_of(service) -> list[str]:
    with transaction(service.sessions) as session:
        return list(
            session.execute(
                text("SELECT error FROM job WHERE state = 'failed' AND kind = 'extract' ORDER BY id")
            ).scalars()
        )


def test_each_file_is_read_by_the_first_extraction_and_compared_by_the_next(admin, service, images):
    added = admin(service, "dataset", "add", "pets", images, "--checksums", "extraction")
    assert added.exit_code == 0, added.output
    assert the_dataset(service).checksums == "extraction"
    assert checksums_of(service) == {}

    assert extract(service, 1) == ["succeeded"]
    files = listed_files(service, images)
    contents = {number: hashlib.sha256(file.read_bytes()).hexdigest() for number, file in enumerate(files)}
    assert checksums_of(service) == contents
    assert extract(service, 2) == ["succeeded"]
    assert checksums_of(service) == contents

    # The same size and time: only its content tells.
    status, content = files[3].stat(), files[3].read_bytes()
    files[3].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(files[3], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert extract(service, 3) == ["failed"]
    (error,) = errors_of(service)
    assert error.startswith(f"{files[3]}: not the content that an extraction read first, though size and time")
    assert checksums_of(service) == contents

    files[3].write_bytes(content)  # the old content at a later time
    assert extract(service, 4) == ["failed"]
    assert any(line.startswith(f"{files[3]} has changed since") for line in errors_of(service))


def test_a_folder_that_is_registered_so_is_not_read_by_a_submit_either(admin, service, images, monkeypatch):
    assert admin(service, "dataset", "add", "pets", images, "--checksums", "extraction").exit_code == 0

    def refuse(self, path):
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(LocalFiles, "open", refuse)
    again = admin(service, "dataset", "add", "pets", images)
    assert again.exit_code == 0, again.output
    assert "Already registered: pets" in again.output
    submitted = admin(
        service, "submit", "--layer", "1", "--dataset", f"{images}/", "--model", backbone_folder(), "--yes"
    )
    assert submitted.exit_code == 0, submitted.output
    assert the_dataset(service).name == "pets"


def test_the_same_images_with_the_other_choice_are_another_data_set(admin, service, images):
    assert admin(service, "dataset", "add", "pets", images).exit_code == 0
    other = admin(service, "dataset", "add", "pets", images, "--checksums", "extraction")
    assert other.exit_code == 1
    assert "the name pets is taken by a data set of other images, labels or --checksums" in other.output
    assert admin(service, "dataset", "add", "unread", images, "--checksums", "extraction").exit_code == 0


def test_a_data_set_and_its_checksums_are_removed_together(admin, service, images):
    assert admin(service, "dataset", "add", "pets", images, "--checksums", "extraction").exit_code == 0
    with transaction(service.sessions) as session:
        session.add(ImageChecksum(dataset_id=session.scalars(select(Dataset.id)).one(), image=0, sha256="0" * 64))
    removed = admin(service, "dataset", "remove", "pets")
    assert removed.exit_code == 0, removed.output
    assert checksums_of(service) == {}
