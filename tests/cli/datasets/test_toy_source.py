"""An image source that no other file knows goes through registration, extraction, SQL and the check of its images."""

import errno
import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from tests.cli.refusals import assert_one_line
from tests.pipeline.in_process import TINY_SAE, run_jobs
from tests.small import bare_scoring, small_request
from tests.waiting import rows_of

from hsae.cli.framework.connections import Connections
from hsae.datasets import Contents, ImageSource, LeftOut, SourceImage, register_source, scan
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.submission.dataset_choice import choose_dataset, settle_dataset
from hsae.pipeline.submission.registration import add_dataset
from hsae.taxonomy import load_taxonomy

N_IMAGES = 6
UNREADABLE = "dog/3.png"


@register_source("toy")
class ToySource(ImageSource):
    """Pictures of noise, made when they are read; the URI names the classes: toy://cat,dog."""

    def list(self):
        classes = self.uri.removeprefix("toy://").split(",")
        images = [SourceImage(f"{label}/{number}.png", (label,)) for number in range(N_IMAGES) for label in classes]
        return Contents(images, LeftOut(files=Counter({".txt": 2})))

    def read(self, path):
        label, _, name = path.partition("/")
        if label not in self.uri:
            raise FileNotFoundError(errno.ENOENT, "there is no such toy", path)
        if path == UNREADABLE:
            return b"a broken toy"
        grey = np.random.default_rng([len(label), ord(label[0]), int(name[0])]).integers(0, 256, (64, 64), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(grey).convert("RGB").save(stream, "PNG")
        return stream.getvalue()


@pytest.fixture
def service(make_service):
    return make_service(max_skipped_share=0.2)


@pytest.fixture
def connections(service, monkeypatch):
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    return Connections()


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "tree.csv"
    path.write_text("child,parent\ncat,animal\ndog,animal\ncrane,animal\n")
    return path


def test_a_toy_source_from_registration_to_scores(admin, service, connections, tree, tmp_path):
    registration = add_dataset(connections, "toys", "toy://cat,dog", taxonomy=tree)
    dataset = registration.dataset
    assert (dataset.root, dataset.n_images, registration.n_labels) == ("toy://cat,dog", 12, 12)
    assert registration.images.left_out.text() == "2 .txt"
    assert settle_dataset(connections, choose_dataset(connections, "toy://cat,dog"), register=False)[0] == "toys"
    for image in ToySource("toy://cat,dog").list().images:
        path = tmp_path / "files" / image.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ToySource("toy://cat,dog").read(image.path))
    from_files = scan(tmp_path / "files", load_taxonomy(tree))
    assert from_files.fingerprint == dataset.fingerprint, "where the images lie is no part of what they are"
    assert from_files.listing == registration.images.listing

    request = small_request("toys", layers=(3,), saes=(TINY_SAE,), scoring=bare_scoring())
    plan = submit(request, service.settings, service.sessions)
    assert set(run_jobs(service, plan)) == {"succeeded"}
    assert rows_of(service, "SELECT layer, n_images, n_skipped FROM activation_set") == [
        {"layer": 3, "n_images": 11, "n_skipped": 1}
    ]
    scored = rows_of(service, "SELECT DISTINCT dataset, layer FROM layer_progress WHERE basis = 'sae'")
    assert scored == [{"dataset": "toys", "layer": 3}]

    checked = admin(service, "dataset", "check", "toys")
    assert checked.exit_code == 0, checked.output
    first, last = checked.stdout.splitlines()
    assert first.startswith(f"{UNREADABLE}: not a readable")
    assert last == "11 of 12 images can be read."


def test_a_toy_that_changed_or_is_gone(service, connections, tree, monkeypatch):
    add_dataset(connections, "toys", "toy://cat,dog", taxonomy=tree)
    request = small_request("toys", layers=(3,), saes=(TINY_SAE,), scoring=bare_scoring())
    plan = submit(request, service.settings, service.sessions)
    monkeypatch.setattr(ToySource, "read", lambda self, path: b"another toy")
    assert run_jobs(service, plan, "extract") == ["failed"]
    (job,) = rows_of(service, "SELECT error FROM job WHERE kind = 'extract'")
    assert job["error"].startswith("toy://cat,dog/cat/0.png has changed since the data set was registered")


def test_wrong_labels_and_missing_toys_are_one_line(admin, service, tree):
    for uri, parts in {
        "toy://cat,unicorn": ("unicorn", "label 'unicorn' of toy://cat,unicorn", "correct the label"),
        "toy://cat": ("toy://cat: all images are of one class",),
        "ftp://cat,dog": ("no image source for ftp://", "file://", "toy://"),
    }.items():
        assert_one_line(admin(service, "dataset", "add", "toys", uri, "--taxonomy", tree), *parts)
    assert_one_line(admin(service, "submit", "--layer", "1", "--dataset", "ftp://cat"), "no image source for ftp://")
