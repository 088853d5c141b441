"""submit --split: what it says about the images before anything runs, and what it refuses."""

import json

import pytest
from sqlalchemy import select
from tests.cli.refusals import MODEL, assert_one_line, counts
from tests.small import link_classes, register, small_request

from hsae.catalog import Job, transaction
from hsae.hierarchy.config import ScoringConfig
from hsae.pipeline.planning.submit import submit
from hsae.split_config import parse_split

HALVED = (
    "more than half of the 4 classes would have no image in one of three parts, so the images are split in two halves"
)


def listed(folder, n_classes, n_images, group=""):
    """A CSV of some images of some bundled classes."""
    root = link_classes(folder, n_classes)
    rows = ["path,label,group"]
    for of_class in sorted(root.iterdir()):
        paths = sorted(of_class.glob("*"))[:n_images]
        rows += [f"{path.relative_to(folder).as_posix()},{of_class.name},{group}" for path in paths]
    path = folder / "images.csv"
    path.write_text("\n".join(rows))
    return path


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with data sets of few images, in which nothing runs."""
    service = make_service()
    for name, n_classes, n_images, group in (
        ("whole", 4, 4, ""), ("pairs", 4, 2, ""), ("singles", 4, 1, ""), ("two", 2, 4, ""), ("grouped", 4, 4, "noto"),
    ):  # fmt: skip
        folder = service.folder / name
        folder.mkdir()
        register(service, name, listed(folder, n_classes, n_images, group))
    return service


def submitted(admin, service, dataset, *arguments):
    """What a dry run says on standard error, and its JSON."""
    command = ("submit", "--layer", 1, *MODEL, "--dataset", dataset, "--expansion", 1, "--dry-run", *arguments)
    result = admin(service, *command)
    assert result.exit_code == 0, result.output
    said = admin(service, *command, "--json")
    plan = json.loads(said.stdout)
    assert [f"Note: {note}." for note in plan["notes"]] == [
        line for line in result.stderr.splitlines() if line.startswith("Note: ")
    ]
    return plan


def test_a_data_set_of_enough_images_needs_no_note(admin, ready):
    assert submitted(admin, ready, "whole")["notes"] == []
    assert submitted(admin, ready, "pairs", "--split", "none")["notes"] == []


def test_few_images_are_said(admin, ready):
    plan = submitted(admin, ready, "pairs")
    (halved,) = plan["notes"]
    assert halved.startswith(f"{HALVED}: cross-fitting: each trains and selects while the other scores")
    assert sum(job["kind"] == "analyze" for job in plan["jobs"]) == 2
    plan = submitted(admin, ready, "pairs", "--one-way")
    assert plan["notes"] == [f"{HALVED}: the first trains and selects, the second scores"]
    assert sum(job["kind"] == "analyze" for job in plan["jobs"]) == 1
    notes = submitted(admin, ready, "singles")["notes"]
    assert notes[0].startswith(HALVED)
    assert notes[1].startswith("4 classes have a single image, which trains or scores: unless it scores, the scores of")
    assert notes[2].endswith("no scored image in the second half: what needs one is undefined (NULL) there")
    (few,) = submitted(admin, ready, "two")["notes"]
    assert few.startswith("there are 2 classes: ")
    assert submitted(admin, ready, "two", "--split", "none")["notes"] == [few], "whether or not there is a split"


def test_the_images_that_train_are_counted(admin, ready):
    (warning,) = submitted(admin, ready, "whole")["warnings"]
    assert warning.startswith("7 training rows are fewer than the 192 latents")  # half of 16, one of them held out
    (warning,) = submitted(admin, ready, "whole", "--split", "none")["warnings"]
    assert warning.startswith("14 training rows are fewer than the 192 latents")


@pytest.mark.parametrize(
    ("dataset", "split", "words"),
    [
        ("grouped", ".5/.25/.25", ["all images are of the group noto", "--split none"]),
        ("whole", ".5/.5/.5", ["sum to 1.5", "sum to 1"]),
        ("whole", "1/0/0", ["'1/0/0' is no split", "less than 1", "greater than 0"]),
        ("whole", "half", ["'half' is no split", ".5/.25/.25, or none"]),
    ],
)
def test_what_cannot_be_split_is_refused_before_anything_is_entered(admin, ready, dataset, split, words):
    before = counts(ready)
    command = ("submit", "--layer", 1, *MODEL, "--dataset", dataset, "--split", split)
    assert_one_line(admin(ready, *command), *words)
    assert counts(ready) == before


def test_titles_say_what_is_not_the_default(service):
    register(service, "whole", listed(service.folder, 4, 4))
    titles = {}
    for split in ("none", "0.5/0.25/0.25", "0.6/0.2/0.2"):
        request = small_request("whole", layers=(1,), split=parse_split(split), scoring=ScoringConfig())
        plan = submit(request, service.settings, service.sessions)
        with transaction(service.sessions) as session:
            jobs = session.scalars(select(Job).where(Job.id.in_([job.id for job in plan.jobs]))).all()
            titles[split] = {job.kind: job.title for job in jobs}
    assert titles["none"]["analyze"].endswith("on whole (in-sample)")
    assert titles["0.5/0.25/0.25"]["analyze"].endswith("on whole")
    assert titles["0.6/0.2/0.2"]["analyze"].endswith("on whole (split=0.6/0.2/0.2)")
    assert titles["0.6/0.2/0.2"]["train"] == f"{titles['none']['train']} (split=0.6/0.2/0.2)"
    assert titles["none"]["extract"] == titles["0.6/0.2/0.2"]["extract"]


def test_a_study_shows_its_split_as_a_study_file_says_it(admin, service):
    register(service, "whole", listed(service.folder, 4, 4))
    for arguments, shown in (
        (("--split", "none"), "split: none"),
        ((), "split: {seed: 0, score: 0.25, train: 0.5, select: 0.25}"),
    ):
        command = ("submit", "--layer", 1, *MODEL, "--dataset", "whole", "--steps", 30, *arguments)
        assert admin(service, *command).exit_code == 0
        assert shown in admin(service, "studies", "show").stdout
