"""Images on servers from `dataset add` through an extraction, also where a server is away or gives something else."""

import io

import pytest
from tests.buckets import bucket_on
from tests.cli.refusals import assert_one_line
from tests.datasets.sources.remote.test_http_tars import samples, tar
from tests.datasets.sources.remote.test_hub import COMMIT, hub
from tests.datasets.sources.remote.web_server import serving
from tests.pipeline.in_process import TINY_SAE, run_jobs
from tests.small import bare_scoring, small_request
from tests.waiting import rows_of, wait_for

from hsae.cli.framework.connections import Connections
from hsae.demo import backbone_folder
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.submission.dataset_choice import choose_dataset, settle_dataset

__all__ = ["hub"]

BUCKET = "images-of-the-cli"


@pytest.fixture
def bucket(stack):
    files = {"classes.txt": b"dog.n.01\ncat.n.01\n", "0.tar": tar(samples(0)), "1.tar": tar(samples(10))}
    with bucket_on(stack, BUCKET) as client:
        for name, content in files.items():
            client.put_object(BUCKET, f"pets/{name}", io.BytesIO(content), len(content))
        yield f"s3://{BUCKET}/pets/{{0..1}}.tar"


def extraction(service, dataset):
    request = small_request(dataset, layers=(3,), saes=(TINY_SAE,), scoring=bare_scoring())
    return submit(request, service.settings, service.sessions)


@pytest.mark.slow
def test_a_worker_reads_a_bucket(admin, service, bucket):
    added = admin(service, "dataset", "add", "pets", bucket)
    assert added.exit_code == 0, added.output
    assert "Registered pets: 12 images of 2 classes" in added.output
    checked = admin(service, "dataset", "check", "pets")
    assert checked.stdout.splitlines()[-1] == "12 of 12 images can be read."
    extraction(service, "pets")
    service.start_worker()
    sets = "SELECT layer, n_images, n_skipped FROM activation_set WHERE layer = 3 AND n_images IS NOT NULL"
    wait_for(lambda: rows_of(service, sets), message=service.logs)
    assert rows_of(service, sets) == [{"layer": 3, "n_images": 12, "n_skipped": 0}]


def test_a_data_set_of_the_hub_by_its_id(admin, service, hub):
    added = admin(service, "dataset", "add", "pets", "hf:me/pets:train")
    assert added.exit_code == 0, added.output
    assert rows_of(service, "SELECT name, root, n_images FROM dataset") == [
        {"name": "pets", "root": f"hf:me/pets:train?revision={COMMIT}", "n_images": 6}
    ]
    connections = Connections()
    choice = choose_dataset(connections, "hf:me/pets:train")
    assert settle_dataset(connections, choice, register=True)[0] == "pets", "the same images under their own name"
    submitted = admin(service, "submit", "--model", backbone_folder(), "--layer", "1", "--dataset", "hf:me/pets")
    assert_one_line(submitted, "has the splits test, train")
    hub.refuse("/api/datasets/me/none", 401, "RepoNotFound")
    assert_one_line(admin(service, "dataset", "add", "none", "hf:me/none"), "there is no such data set on the hub")


def test_a_web_server_that_is_away_and_tars_that_changed(admin, service):
    with serving() as server:
        server.files |= {"/classes.txt": b"dog.n.01\ncat.n.01\n", "/x.tar": tar(samples(0))}
        url = f"{server.url}/x.tar"
        assert admin(service, "dataset", "add", "pets", url).exit_code == 0
        plan = extraction(service, "pets")
        server.statuses["/x.tar"] = 503
        assert run_jobs(service, plan, "extract") == ["queued again"]
        (job,) = rows_of(service, "SELECT error, state FROM job WHERE kind = 'extract'")
        assert "answers with HTTP 503" in job["error"]
        server.statuses.clear()
        server.files["/x.tar"] = tar(
            [(name, content + b"\0" if name == "003.png" else content) for name, content in samples(0)]
        )
        wait_for(lambda: run_jobs(service, plan, "extract") == ["failed"])
        (job,) = rows_of(service, "SELECT error FROM job WHERE kind = 'extract'")
        assert job["error"].startswith(f"{url}/003.png has changed since the data set was registered")
