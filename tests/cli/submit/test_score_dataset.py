"""submit --score-dataset: what it says and shows before anything runs, and what it refuses."""

import json

import pytest
from sqlalchemy import select
from tests.cli.refusals import MODEL, assert_one_line, counts
from tests.small import link_classes, register

from hsae.catalog import Dataset, Study, transaction
from hsae.demo import images_folder

STUDY = """\
model: {model}
dataset: drawn
score_dataset: other
layers: 1
saes: [{{kind: topk, k: 4, expansion: 1}}]
"""


def listed(folder, classes, images):
    """A CSV of some of the images of some bundled classes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "images").symlink_to(images_folder(), target_is_directory=True)
    rows = ["path,label"]
    for of_class in sorted(images_folder().iterdir())[classes]:
        paths = sorted(of_class.iterdir())[images]
        rows += [f"images/{of_class.name}/{path.name},{of_class.name}" for path in paths]
    path = folder / f"{folder.name}.csv"
    path.write_text("\n".join(rows))
    return path


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with data sets of other images, of the same images twice, and of another taxonomy."""
    service = make_service()
    drawn = listed(service.folder / "drawn", slice(4), slice(2))
    register(service, "drawn", drawn)
    register(service, "again", drawn)
    register(service, "other", listed(service.folder / "other", slice(1, 5), slice(1, 4)))
    root = link_classes(service.folder / "tree", 3)
    names = sorted(path.name for path in root.iterdir())
    tree = service.folder / "tree.csv"
    tree.write_text("\n".join(["child,parent", *(f"{name},thing" for name in names)]))
    register(service, "custom", root, tree)
    return service


def command(*arguments, score="other", dataset="drawn"):
    return (
        "submit",
        "--layer",
        1,
        *MODEL,
        "--dataset",
        dataset,
        "--expansion",
        1,
        "--score-dataset",
        score,
        *arguments,
    )


def test_a_dry_run_says_which_data_set_is_scored(admin, ready):
    before = counts(ready)
    result = admin(ready, *command("--dry-run"))
    assert result.exit_code == 0, result.output
    assert "on drawn, scored on other; 1 SAE per layer" in result.stdout
    plan = json.loads(admin(ready, *command("--dry-run", "--json")).stdout)
    assert (plan["dataset"], plan["score_dataset"]) == ("drawn", "other")
    assert [job["kind"] for job in plan["jobs"]].count("extract") == 2
    assert plan["notes"] == [
        "1 of the 4 classes of other have no image in drawn: SAEs need none, but probes, class_mean and absorption"
        " learn classes from the images that train",
        "3 images are in drawn and in other: they train, and they are chosen or scored on",
    ]
    (warning,) = plan["warnings"]
    assert warning.startswith("7 training rows are fewer")  # all 8 of the first data set, one of them held out
    assert counts(ready) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (command(score="drawn"), ["drawn cannot both train and score", "divide the images with --split"]),
        (command(score="again"), ["drawn (the same images as again) cannot both train and score"]),
        (command(score="custom"), ["of drawn are of the taxonomy wordnet-3.0, those of custom of tree"]),
        (command(score="otter"), ["there is no data set otter (did you mean other?)"]),
        (command(score="./nowhere"), ["--score-dataset ./nowhere: there is no such folder"]),
        (command("--split", "none"), ["--split none scores the images that train", "leave one of them out"]),
        (
            command("--split", "none", score="otter", dataset="dawn"),
            [
                "--split none",
                "; and there is no data set dawn (did you mean drawn?)",
                "; and there is no data set otter",
            ],
        ),
        (command("--split", "none", score="again"), ["--split none", "; and drawn (the same images as again)"]),
    ],
)
def test_data_sets_that_cannot_be_used_together_are_refused(admin, ready, arguments, words):
    before = counts(ready)
    assert_one_line(admin(ready, *arguments), *words)
    assert counts(ready) == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("score_dataset: other", "score_dataset: otter", ["there is no data set otter (did you mean other?)"]),
        ("score_dataset: other", "score_dataset: drawn", ["drawn cannot both train and score"]),
        ("layers: 1", "layers: 1\nsplit: none", ["--split none scores the images that train"]),
        ("score_dataset: other", "score_dataset:", []),
    ],
)
def test_a_study_file_names_it_too(admin, ready, old, new, words):
    path = ready.folder / "study.yaml"
    path.write_text(STUDY.format(model=MODEL[1]).replace(old, new))
    result = admin(ready, "submit", "--spec", path, "--dry-run")
    if words:
        assert_one_line(result, *words)
    else:
        assert "on drawn; 1 SAE per layer" in result.stdout


def test_a_study_file_is_entered_with_both(admin, service):
    register(service, "drawn", listed(service.folder / "drawn", slice(4), slice(2)))
    register(service, "other", listed(service.folder / "other", slice(4), slice(2, 4)))
    path = service.folder / "study.yaml"
    path.write_text(STUDY.format(model=MODEL[1]))
    result = admin(service, "submit", "--spec", path, "--yes")
    assert result.exit_code == 0, result.output
    with transaction(service.sessions) as session:
        study = session.scalars(select(Study)).one()
        assert (study.request["dataset"], study.request["score_dataset"]) == ("drawn", "other")
    listing = admin(service, "studies", "list")
    assert "drawn, scored on other" in " ".join(listing.stdout.split())


def test_folders_are_registered_on_the_way(admin, service):
    for name, images in (("train", slice(2)), ("val", slice(2, 4))):
        for of_class in sorted(images_folder().iterdir())[:3]:
            target = service.folder / name / of_class.name
            target.mkdir(parents=True)
            for path in sorted(of_class.iterdir())[images]:
                (target / path.name).symlink_to(path)
    result = admin(service, *command("--json", dataset=service.folder / "train", score=service.folder / "val"))
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert (plan["dataset"], plan["score_dataset"]) == ("train", "val")
    assert (plan["registered"]["name"], plan["score_registered"]["name"]) == ("train", "val")
    with transaction(service.sessions) as session:
        assert sorted(session.scalars(select(Dataset.name))) == ["train", "val"]


def test_a_folder_that_needs_its_tree_is_to_be_taken_by_its_name_with_the_same_option(admin, service):
    register(service, "drawn", listed(service.folder / "drawn", slice(4), slice(2)))
    folder = service.folder / "creatures"
    tree = service.folder / "tree.csv"
    names = ("gryphon of the hills", "sphinx of the sands")
    tree.write_text("\n".join(["child,parent", *(f"{name},creature" for name in names)]))
    for name, source in zip(names, sorted(images_folder().iterdir()), strict=False):
        folder.mkdir(exist_ok=True)
        (folder / name).symlink_to(source, target_is_directory=True)
    register(service, "beasts", folder, tree)
    asked = {"--score-dataset": command(score=folder), "--dataset": command(dataset=folder, score="drawn")}
    for option, arguments in asked.items():
        assert_one_line(admin(service, *arguments), f"take it by its name: {option} beasts")
