"""dataset add, rename and remove as a user sees them, and which data set `submit --dataset` means."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from tests.cli.refusals import MODEL, assert_one_line, counts
from tests.pipeline.in_process import run_jobs
from tests.small import link_classes, register_small, small_request
from tests.waiting import rows_of

import hsae.taxonomy
from hsae.cli.framework.connections import Connections
from hsae.errors import UserError
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.submission import registration
from hsae.pipeline.submission.dataset_choice import choose_dataset, settle_dataset
from hsae.pipeline.submission.registration import add_dataset

TREE = "child,parent\ncat,animal\ndog,animal\ncrane,animal\nanimal,thing\n"


def add_image(path: Path, grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (grey, grey, grey)).save(path)
    return path


def pets(root: Path, grey: int = 0) -> Path:
    """Two classes of one image; another `grey` makes another data set."""
    add_image(root / "cat" / "a.png", grey)
    add_image(root / "dog" / "b.png", grey + 1)
    return root


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "tree.csv"
    path.write_text(TREE)
    return path


@pytest.fixture
def connections(service, tree, monkeypatch):
    """What `submit` sees, with the small tree in place of WordNet, whose reading takes seconds."""
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    small = hsae.taxonomy.load_taxonomy(tree)
    for module in (hsae.taxonomy, registration):  # a folder that `submit` registers, and `dataset add`
        monkeypatch.setattr(module, "load_taxonomy", lambda *_, **__: small)
    return Connections()


def chosen(connections, given, *, register=True):
    name, _ = settle_dataset(connections, choose_dataset(connections, str(given)), register=register)
    return name


def add(connections, name, path):
    return add_dataset(connections, name, path).dataset


def names(service):
    return [row["name"] for row in rows_of(service, "SELECT name FROM dataset ORDER BY id")]


def test_add_says_what_was_left_out_and_what_was_merged(admin, service, tmp_path, tree):
    folder = pets(tmp_path / "pets")
    add_image(folder / "cat" / "@eaDir" / "a.png" / "SYNOPHOTO_THUMB_M.jpg")
    add_image(folder / "__MACOSX" / "cat" / "._a.jpg")
    add_image(folder / "hound" / "c.jfif.png", 9).rename(folder / "hound" / "c.jfif")
    add_image(folder / "cover.png")
    for name in ("a.txt", "b.txt", "c.heic", ".DS_Store"):
        (folder / "cat" / name).write_text("x")
    (tmp_path / "map.csv").write_text("folder,synset\nhound,dog\n")
    arguments = ("dataset", "add", "pets", folder, "--taxonomy", tree, "--mapping", tmp_path / "map.csv")
    added = admin(service, *arguments)
    assert added.exit_code == 0, added.output
    assert added.stdout.splitlines()[1:] == [
        "Left out: 2 .txt, 1 .heic, 1 hidden; 2 folders of other programs (@eaDir, __MACOSX); beside the class folders"
        " 1 .png; to use images of the kind .heic, convert them to JPEG or PNG.",
        "One class under several names: dog = hound.",
    ]
    assert added.stdout.startswith("Registered pets: 3 images of 2 classes, ")
    shown = json.loads(admin(service, *arguments, "--json").stdout)
    assert (shown["n_images"], shown["new"]) == (3, False)
    assert shown["left_out"] == {
        "files": {".txt": 2, ".heic": 1, "hidden": 1},
        "beside_class_folders": {".png": 1},
        "folders": {"@eaDir": 1, "__MACOSX": 1},
    }
    assert shown["merged"] == [{"class": "dog", "names": ["dog", "hound"]}]
    clean = admin(service, "dataset", "add", "clean", pets(tmp_path / "clean", 50), "--taxonomy", tree)
    assert clean.stdout.count("\n") == 1, "nothing is said where there is nothing to say"


def test_class_folders_with_rank_paths_beside_folders_of_the_system(admin, service, tmp_path):
    folder = tmp_path / "birds"
    for name in ("0_Animalia_Aves_Corvus", "1_Animalia_Aves_Grus", "@eaDir", "lost+found"):
        add_image(folder / name / "a.png")
    added = admin(service, "dataset", "add", "birds", folder, "--taxonomy", folder)
    assert added.exit_code == 0, added.output
    assert "2 images of 2 classes" in added.stdout
    assert "2 folders of other programs (@eaDir, lost+found)" in added.stdout


def test_a_name_that_is_also_a_folder_here_is_asked_about(admin, service, tmp_path, monkeypatch, connections):
    registered = pets(tmp_path / "data" / "train")
    add(connections, "train", registered)
    here = tmp_path / "work"
    pets(here / "train", 100)
    monkeypatch.chdir(here)
    before = counts(service)
    result = admin(service, "submit", "--layer", "1", *MODEL, "--dataset", "train")
    assert_one_line(
        result, str(registered), str(here / "train"), "--dataset ./train", "dataset add NAME ./train", "dataset rename"
    )
    assert_one_line(admin(service, "submit", "--layer", "1", *MODEL, "--dataset", "train", "--dry-run"), "ambiguous")
    assert counts(service) == before

    # What the message proposes works.
    assert chosen(connections, "./train") == "train-2"
    assert chosen(connections, "./train") == "train-2"
    assert chosen(connections, here / "train", register=False) == "train-2"
    assert chosen(connections, registered) == "train"
    monkeypatch.chdir(registered.parent)
    assert chosen(connections, "train") == "train"
    assert chosen(connections, "train/") == "train"
    monkeypatch.chdir(tmp_path)
    assert chosen(connections, "train") == "train"
    monkeypatch.chdir(here)
    assert admin(service, "dataset", "rename", "train", "old").exit_code == 0
    assert chosen(connections, "train") == "train-2"  # the folder here, under the name that it has
    assert names(service) == ["old", "train-2"]


def test_a_csv_that_has_a_registered_name(connections, service, tmp_path, monkeypatch):
    folder = pets(tmp_path / "data")
    listing = folder / "mine.csv"
    listing.write_text("path,label\ncat/a.png,cat\ndog/b.png,dog\n")
    assert chosen(connections, listing) == "mine"
    monkeypatch.chdir(folder)
    assert chosen(connections, "mine.csv") == "mine"
    assert chosen(connections, "mine") == "mine"
    add(connections, "mine.csv", pets(tmp_path / "other", 50))
    with pytest.raises(UserError, match=rf"ambiguous.*a different file lies here, {listing}.*--dataset \./mine\.csv"):
        choose_dataset(connections, "mine.csv")
    # The folder of the CSV is a data set of its own, be it of the same images.
    add_image(folder / "cat" / "c.png", 7)
    assert chosen(connections, folder) == "data"
    assert names(service) == ["mine", "mine.csv", "data"]


@pytest.mark.parametrize("folder", ["imagenet.v1.0", "a.csv", "train.tar"])
def test_nothing_is_dropped_from_a_folders_name(connections, tmp_path, folder):
    assert chosen(connections, pets(tmp_path / folder)) == folder


def test_a_csv_loses_its_suffix_and_nothing_else(connections, tmp_path):
    listing = pets(tmp_path / "pets") / "imagenet.v1.0.CSV"
    listing.write_text("path,label\ncat/a.png,cat\ndog/b.png,dog\n")
    assert chosen(connections, listing) == "imagenet.v1.0"


def test_images_added_to_a_registered_folder_are_no_silent_other_data_set(connections, service, tmp_path):
    folder = pets(tmp_path / "pets")
    assert chosen(connections, folder) == "pets"
    add_image(folder / "cat" / "new.png", 9)
    with pytest.raises(UserError, match="the name pets is taken by a data set of other images.*another name"):
        chosen(connections, folder)
    assert names(service) == ["pets"]


def test_a_moved_folder_is_the_same_data_set(connections, service, tmp_path):
    folder = pets(tmp_path / "pets")
    assert chosen(connections, folder) == "pets"
    (tmp_path / "new").mkdir()
    folder.rename(tmp_path / "new" / "pets")
    assert chosen(connections, tmp_path / "new" / "pets") == "pets"
    assert rows_of(service, "SELECT root FROM dataset") == [{"root": str(tmp_path / "new" / "pets")}]


def test_what_is_neither_a_name_nor_a_path(connections, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    add(connections, "birds", pets(tmp_path / "pets"))
    (tmp_path / "birds").write_text("no data set")  # so the name is not in doubt
    assert chosen(connections, "birds") == "birds"
    for given, words in (
        ("brids", r"no data set brids \(did you mean birds\?\).*dataset add NAME PATH"),
        ("./brids", r"--dataset ./brids: there is no such folder or file"),
        ("Pets/", r"there is no such folder or file; .* holds 'pets', which looks like 'Pets'"),
        ("", "no data set"),
        ("a\0b", r"no data set 'a\\x00b'"),
        ("a\udc80", r"no data set 'a\\udc80'"),
        ("x" * 5000, "no data set"),
        ("/", "is no name for a data set.*dataset add NAME /"),
    ):
        with pytest.raises(UserError, match=words):
            chosen(connections, given)


def test_a_folder_whose_labels_need_its_mapping_is_taken_by_name(admin, connections, service, tmp_path, tree):
    folder = pets(tmp_path / "pets")
    (folder / "dog").rename(folder / "hound")
    (tmp_path / "map.csv").write_text("folder,synset\nhound,dog\n")
    arguments = ("--taxonomy", tree, "--mapping", tmp_path / "map.csv")
    assert admin(service, "dataset", "add", "mine", folder, *arguments).exit_code == 0
    with pytest.raises(UserError, match=r"'hound' is no node.*take it by its name: --dataset mine"):
        chosen(connections, folder)
    assert chosen(connections, "mine") == "mine"


@pytest.mark.parametrize("name", ["a/b", "-x", " x"])
def test_a_name_is_refused_before_anything_is_read(admin, service, tmp_path, name):
    words = "is no name for a data set"
    assert_one_line(admin(service, "dataset", "add", "--", name, tmp_path / "absent"), words)
    assert_one_line(admin(service, "dataset", "rename", "--", "absent", name), words)


def test_rename_and_remove(admin, connections, service, tmp_path):
    first, second = pets(tmp_path / "first"), pets(tmp_path / "second", 50)
    add(connections, "first", first)
    add(connections, "second", second)
    renamed = admin(service, "dataset", "rename", "first", "birds")
    assert (renamed.exit_code, renamed.stdout) == (0, "Renamed first: it is birds now.\n")
    shown = admin(service, "dataset", "rename", "birds", "first", "--json")
    assert json.loads(shown.stdout) == {"name": "first", "former_name": "birds"}
    assert_one_line(admin(service, "dataset", "rename", "first", "second"), "second is taken", str(second))
    assert_one_line(admin(service, "dataset", "remove", "frist"), "no data set frist", "did you mean first?")
    removed = admin(service, "dataset", "remove", "first")
    assert removed.exit_code == 0, removed.output
    assert removed.stdout.splitlines() == [
        f"Removed first: 2 images, which still lie in {first}.",
        "It was the default of `submit`; that is second now.",
    ]
    assert sorted(path.name for path in first.rglob("*.png")) == ["a.png", "b.png"]
    shown = json.loads(admin(service, "dataset", "remove", "second", "--json").stdout)
    assert (shown["name"], shown["n_objects"], shown["default"]) == ("second", 2, None)
    assert list(service.store.list("")) == []


def test_a_data_set_in_use_is_not_removed(admin, service):
    register_small(service, n_classes=2)
    submit(small_request(layers=(1,)), service.settings, service.sessions)
    before = counts(service)
    assert_one_line(admin(service, "dataset", "remove", "small"), "study 1", "dataset rename small NEW")
    assert counts(service) == before


def test_a_submit_says_what_it_registered(admin, service, tmp_path, connections):
    folder = pets(tmp_path / "pets")
    (folder / "cat" / "notes.txt").write_text("x")
    arguments = ("submit", "--layer", "1", *MODEL, "--dataset", folder)
    result = admin(service, *arguments)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Registered pets: 2 images of 2 classes")
    assert lines[1] == "Left out: 1 .txt."
    shown = json.loads(admin(service, *arguments, "--json").stdout)
    assert shown["registered"]["new"] is False
    assert shown["registered"]["left_out"]["files"] == {".txt": 1}
    assert shown["skipped"] is None  # nothing is extracted yet


def test_skipped_images_are_said_at_the_end(admin, make_service):
    service = make_service(max_skipped_share=0.5)
    folder = link_classes(service.folder, 3)
    for name in sorted(folder.iterdir())[:2]:
        source = name.resolve()
        name.unlink()
        name.mkdir()
        for image in source.iterdir():
            (name / image.name).write_bytes(image.read_bytes())
    broken = sorted(folder.rglob("*.webp"))[:2]
    for path in broken:
        path.write_bytes(path.read_bytes()[:40])
    register_small(service, n_classes=3)
    arguments = ("submit", "--layer", "1", *MODEL, "--sae", "topk", "--k", "4", "--steps", "20", "--wait")
    run_jobs(service, submit_only(admin, service, arguments))
    n_images = rows_of(service, "SELECT n_images FROM dataset")[0]["n_images"]
    line = f"2 of {n_images} images could not be read and were skipped: `hsae-admin dataset check small` lists them."
    waited = admin(service, *arguments)
    assert waited.exit_code == 0, waited.output
    assert waited.stderr.splitlines()[-1] == line
    assert admin(service, "jobs", "watch").stderr.splitlines()[-1] == line
    shown = json.loads(admin(service, *arguments, "--json").stdout)
    assert shown["skipped"] == {"dataset": "small", "n_skipped": 2, "n_images": n_images}
    assert {job["status"] for job in shown["jobs"]} == {"reused"}
    listed = admin(service, "dataset", "check", "small").stdout
    assert all(f"{path.parent.name}/{path.name}: " in listed for path in broken)


def submit_only(admin, service, arguments):
    """Submit without waiting; returns what has to be run."""
    plan = json.loads(admin(service, *arguments[:-1], "--json").stdout)
    return SimpleNamespace(jobs=[SimpleNamespace(**job) for job in plan["jobs"]])
