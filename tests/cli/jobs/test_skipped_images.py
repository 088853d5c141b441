"""What is said of images that a study's extractions skipped: of its data set, and of another one that is scored."""

import pytest

from hsae.catalog import Dataset, Job, Study, StudyJob, transaction
from hsae.cli.framework.connections import Connections
from hsae.cli.jobs.skipped_images import print_skipped, skipped_json

N_SKIPPED = {"train": 2, "val": 3}
N_READ = {"train": 38, "val": 17}


def plant(service, request, extracted):
    """A study whose extractions of these data sets ended; `again` has the images of `val`. Returns its number."""
    with transaction(service.sessions) as session:
        for number, (name, fingerprint) in enumerate((("train", "1"), ("val", "2"), ("again", "2")), start=1):
            session.add(
                Dataset(id=number, name=name, fingerprint=fingerprint, root=f"/{name}", taxonomy="wordnet-3.0",
                        taxonomy_key="0", n_images=40, n_classes=3, n_nodes=6, listing_sha256="0")
            )  # fmt: skip
        study = Study(name="planted", request=request)
        numbers = {"train": 1, "val": 2}
        jobs = [
            Job(key=str(i), kind="extract", queue="gpu", title="extract", request={"dataset": {"id": numbers[name]}},
                state="succeeded", max_attempts=3, result={"n_skipped": N_SKIPPED[name], "n_images": N_READ[name]})
            for i, name in enumerate(extracted)
        ]  # fmt: skip
        session.add_all([study, *jobs])
        session.flush()
        session.add_all(StudyJob(study_id=study.id, job_id=job.id, reused=False) for job in jobs)
        return study.id


def connections_of(service) -> Connections:
    connections = Connections()
    connections.use(service.settings)
    return connections


TRAIN = {"dataset": "train", "n_skipped": 2, "n_images": 40}
VAL = {"dataset": "val", "n_skipped": 3, "n_images": 20}


@pytest.mark.parametrize(
    ("request_", "extracted", "said", "as_json"),
    [
        (
            {"dataset": "train", "score_dataset": "val"},
            ("train", "val", "val"),  # the last for embeddings of another layer
            ["2 of 40 images of train could not be read", "3 of 20 images of val could not be read"],
            {"skipped": TRAIN, "score_skipped": VAL},
        ),
        (  # whose extraction another study began, under another name of the same images
            {"dataset": "train", "score_dataset": "again"},
            ("val", "train"),
            ["2 of 40 images of train could not be read", "3 of 20 images of val could not be read"],
            {"skipped": TRAIN, "score_skipped": VAL},
        ),
        (
            {"dataset": "train", "score_dataset": "val"},
            ("val",),
            ["3 of 20 images of val could not be read"],
            {"skipped": None, "score_skipped": VAL},
        ),
        ({"dataset": "train"}, ("train", "train"), ["2 of 40 images could not be read"], {"skipped": TRAIN}),
        ({"dataset": "train", "score_dataset": "val"}, (), [], {"skipped": None}),
    ],
    ids=["both", "under another name", "scored first", "one data set", "not yet"],
)
def test_skipped_images_of_both_data_sets_are_said(service, capsys, request_, extracted, said, as_json):
    study = plant(service, request_, extracted)
    print_skipped(connections_of(service), study)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(said)
    for line, words in zip(lines, said, strict=True):
        assert line.startswith(words)
    for line, name in zip(lines, [found["dataset"] for found in as_json.values() if found is not None], strict=True):
        assert line.endswith(f"and were skipped: `hsae-admin dataset check {name}` lists them.")
    assert skipped_json(connections_of(service), study) == as_json
