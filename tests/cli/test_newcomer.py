"""The README's way from plainly named folders to results, and what labels say on the command line."""

import csv
import functools
import json
import re
import shlex
from pathlib import Path

import pytest
from tests.cli.refusals import assert_one_line, counts

from hsae.demo import backbone_folder, images_folder
from hsae.pipeline.execution.run import run_job
from hsae.taxonomy import load_taxonomy

README = Path(__file__).parents[2] / "README.md"
SENSES = {
    "airplane": "n02691156", "apple": "n07739125", "banana": "n07753592", "bat": "n02139199", "bear": "n02131653",
    "bicycle": "n02834778", "bus": "n02924116", "car": "n02958343", "cat": "n02121620", "crane": "n02012849",
    "dog": "n02084071", "elephant": "n02503517", "fox": "n02118333", "horse": "n02374451",
    "hot air balloon": "n02782093", "lemon": "n07749582", "lion": "n02129165", "monkey": "n02484322",
    "mouse": "n02330245", "owls": "n01621127", "penguin": "n02055803", "pizza": "n07873807", "rabbit": "n02324045",
    "snake": "n01726692", "strawberry": "n07745940", "tiger": "n02129604", "turtle": "n01662784",
    "violin": "n04536866", "wolf": "n02114100",
}  # fmt: skip


@pytest.fixture(scope="module")
def wordnet():
    return functools.cache(load_taxonomy)  # it takes a second or two


@pytest.fixture(autouse=True)
def one_wordnet(wordnet, monkeypatch):
    for module in ("cli.datasets.labels", "pipeline.submission.registration", "cli.taxonomy.show"):
        monkeypatch.setattr(f"hsae.{module}.load_taxonomy", wordnet)


@pytest.fixture
def my_images(tmp_path) -> Path:
    """29 folders of bundled images with the names that people give; a word that no image is of gets another's."""
    folder = tmp_path / "my images"
    folder.mkdir()
    others = (path for path in sorted(images_folder().iterdir()) if path.name not in SENSES.values())
    for name, wnid in SENSES.items():
        source = images_folder() / wnid
        (folder / name).symlink_to(source if source.is_dir() else next(others), target_is_directory=True)
    assert len(list(folder.iterdir())) == 29
    return folder


def fill_in(mapping: Path) -> dict[str, str]:
    """Do what a person does in the file; returns the folders that were blank with the candidates beside them."""
    with mapping.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    blank = {row["folder"]: row["candidates"] for row in rows if not row["synset"]}
    for row in rows:
        row["synset"] = SENSES[row["folder"]] if row["folder"] in blank else row["synset"]
    with mapping.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return blank


def documented_commands() -> list[list[str]]:
    """The commands of the README's section up to the first results, without their comments."""
    block = re.search(r"## Your own images, your own model\n\n((?: {4}.*\n)+)", README.read_text())
    assert block is not None
    commands = [shlex.split(line, comments=True) for line in block[1].splitlines()]
    first_results = next(i for i, command in enumerate(commands) if command[:2] == ["hsae-admin", "results"])
    return commands[: first_results + 1]


def test_from_plain_folders_to_results_in_six_documented_commands(admin, service, my_images, tmp_path, monkeypatch):
    """Here with the bundled model, a short training, and the jobs in this process instead of `up` and `--wait`."""
    monkeypatch.chdir(tmp_path)
    commands = documented_commands()
    assert len(commands) <= 6
    assert commands[0][:2] == ["make", "install"]
    assert commands[1] == ["hsae-admin", "up"]
    assert [command[:3] for command in commands[2:4]] == [["hsae-admin", "dataset", "add"]] * 2
    assert [command[1] for command in commands[4:]] == ["submit", "results"]
    for command in commands[2:]:
        arguments = [str(my_images) if word == "/data/my-images" else word for word in command[1:]]
        if command[1] == "submit":
            arguments = [word for word in arguments if word != "--wait"]
            arguments[arguments.index("--layer") + 1] = "1"
            arguments += ["--model", str(backbone_folder()), "--steps", "30", "--json"]
        result = admin(service, *arguments)
        assert result.exit_code == 0, f"{command}: {result.output}"
        if "--write-mapping" in command:
            blank = fill_in(tmp_path / "labels.csv")
            assert {"bat", "crane"} <= blank.keys()
            assert "crane.n.05 (n02012849: large long-necked wading bird" in blank["crane"]
        if command[1] == "submit":
            plan = json.loads(result.stdout)
            assert {run_job(job["id"], service.settings, "test") for job in plan["jobs"]} == {"succeeded"}
            assert result.stderr.startswith("Warning: ")
            assert "training rows are fewer than the 1536 latents of relu SAE x8" in result.stderr
            assert plan["warnings"] == [result.stderr.removeprefix("Warning: ").strip().removesuffix(".")]
    assert "relu SAE x8" in result.stdout


def test_every_label_that_a_rule_decided_is_printed_with_its_meaning(admin, service, my_images, tmp_path):
    for name in SENSES.keys() - {"airplane", "banana", "hot air balloon"}:
        (my_images / name).unlink()
    (my_images / "n02084071_dog").symlink_to(images_folder() / "n02084071", target_is_directory=True)
    result = admin(service, "dataset", "add", "mine", my_images, "--senses", "imagenet")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "airplane airplane.n.01 one sense an aircraft that has a fixed wing and is powered by ..." in lines
    assert "banana banana.n.02 ImageNet's sense elongated crescent-shaped yellow fruit with soft sweet flesh" in lines
    assert "1 label was read by the wnid in front of its name, and both agree." in lines
    labels = json.loads(admin(service, "dataset", "add", "mine", my_images, "--senses", "imagenet", "--json").stdout)
    assert [(label["label"], label["rule"], label["synset"]) for label in labels["labels"]] == [
        ("airplane", "one sense", "airplane.n.01"),
        ("banana", "ImageNet's sense", "banana.n.02"),
        ("hot air balloon", "one sense", "hot-air_balloon.n.01"),
        ("n02084071_dog", "wnid and name", "dog.n.01"),
    ]
    assert labels["labels"][0]["definition"].startswith("an aircraft that has a fixed wing")
    assert labels["labels"][0]["wnid"] == "n02691156"


def test_all_unclear_labels_are_listed_and_nothing_is_registered(admin, service, my_images, tmp_path):
    result = admin(service, "dataset", "add", "mine", my_images)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert "'crane' does not say which synset is meant" in lines
    assert "    bat.n.01 n02139199: nocturnal mouselike mammal with forelimbs modified to ..." in lines
    assert [line for line in lines if line.startswith("Error: ")] == lines[-1:]
    assert "22 of 29 labels" in lines[-1]
    assert "'bat', 'bear'" in lines[-1]
    assert counts(service)["dataset"] == 0


def test_a_mapping_is_written_without_any_server(admin, my_images, tmp_path):
    mapping = tmp_path / "labels.csv"
    arguments = ("dataset", "add", "mine", my_images, "--write-mapping", mapping)
    result = admin(None, *arguments, HSAE_HOME=str(tmp_path / "none"))
    assert result.exit_code == 0, result.output
    assert f"Wrote {mapping}: 7 of 29 labels have their synset." in result.stdout
    assert f"  hsae-admin dataset add mine '{my_images}' --mapping {mapping}" in result.stdout
    assert_one_line(admin(None, *arguments), "exists")
    mapping.unlink()
    written = json.loads(admin(None, *arguments, "--json").stdout)
    assert written["mapping"] == str(mapping)
    bat = next(label for label in written["labels"] if label["label"] == "bat")
    assert bat["synset"] is None
    assert bat["candidates"][0] == {
        "wnid": "n02139199",
        "synset": "bat.n.01",
        "definition": "nocturnal mouselike mammal with forelimbs modified to form membranous wings and anatomical"
        " adaptations for echolocation by which they navigate",
    }


def test_taxonomy_show_takes_a_word_with_one_sense(admin):
    assert "n02691156" in admin(None, "taxonomy", "show", "airplane").stdout
    assert_one_line(admin(None, "taxonomy", "show", "crane"), "candidates: crane.n.01")
