"""Image folders: what they become, what is left out of them, and mappings of their names."""

import csv
import hashlib
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from tests.datasets.small_images import CAT, CRANE_BIRD, DOG, add_image, fails, listing_of, paths_of, write

from hsae.datasets import SkippedImage, check_images, scan
from hsae.taxonomy import induce, load_taxonomy


def test_image_folder(pets, wordnet):
    dataset = scan(pets, wordnet)
    assert dataset.source.root == str(pets)
    assert paths_of(dataset) == ["dog.n.01/a.JPEG", "dog.n.01/b.png", f"{CAT}/c.webp"]
    assert dataset.listing["image"].to_pylist() == [0, 1, 2]
    assert dataset.listing["class_id"].to_pylist() == [DOG, DOG, CAT]
    assert dataset.class_names == {DOG: "dog.n.01", CAT: CAT}
    assert dataset.class_ids == (DOG, CAT)
    assert dataset.n_images == 3
    contents = [dataset.source.read(path) for path in paths_of(dataset)]
    assert dataset.listing["n_bytes"].to_pylist() == [len(content) for content in contents]
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    assert dataset.listing["sha256"].to_pylist() == digests
    assert dataset.listing.schema.types == [pa.int32(), pa.string(), pa.string(), pa.string(), pa.int64()]
    rows = zip(paths_of(dataset), [DOG, DOG, CAT], digests, strict=True)
    text = "".join(f"{path}\0{class_id}\0{digest}\n" for path, class_id, digest in rows)
    assert dataset.fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_the_fingerprint_is_of_contents_paths_and_classes_only(pets, wordnet, tmp_path, monkeypatch):
    fingerprint = scan(pets, wordnet).fingerprint
    shutil.copytree(pets, tmp_path / "copy")
    assert scan(tmp_path / "copy", wordnet).fingerprint == fingerprint
    monkeypatch.chdir(tmp_path)
    relative = scan(Path("pets"), wordnet)
    assert relative.fingerprint == fingerprint
    assert Path(relative.source.root).is_absolute()
    write(pets / "notes.txt", "not an image")
    write(pets / CAT / "notes.txt", "not an image")
    assert scan(pets, wordnet).fingerprint == fingerprint

    mapping = write(tmp_path / "map.csv", f"folder,synset\n{CAT},{CRANE_BIRD}\n")
    assert scan(pets, wordnet, mapping=mapping).fingerprint != fingerprint
    add_image(pets / CAT / "c.webp", 200)
    assert scan(pets, wordnet).fingerprint != fingerprint


def test_what_is_no_image_is_ignored(pets, wordnet):
    add_image(pets / CAT / ".hidden.png")
    add_image(pets / CAT / ".thumbnails" / "c.png")
    add_image(pets / ".git" / "x.png")
    add_image(pets / "cover.png")
    write(pets / "listing.csv", "path,label\n")
    write(pets / CAT / "Thumbs.db", "")
    write(pets / CAT / "png", "")
    dataset = scan(pets, wordnet)
    assert dataset.n_images == 3
    assert dataset.left_out.as_json() == {
        "files": {"Thumbs.db": 1, "hidden": 1, "without a suffix": 1},
        "beside_class_folders": {".csv": 1, ".png": 1},
        "folders": {".git": 1, ".thumbnails": 1},
    }


SYSTEM_FOLDERS = (
    "@eaDir", ".thumbnails", "__MACOSX", "lost+found", ".ipynb_checkpoints", "$RECYCLE.BIN", "$Recycle.Bin", "#recycle",
    ".AppleDouble", "@Recycle", "System Volume Information", ".Trash-1000",
)  # fmt: skip


@pytest.mark.parametrize("name", SYSTEM_FOLDERS)
def test_folders_of_the_system_are_left_out_wherever_they_are(pets, wordnet, name):
    fingerprint = scan(pets, wordnet).fingerprint
    add_image(pets / name / DOG / "thumbnail.png")
    add_image(pets / CAT / name / "c.webp" / "SYNOPHOTO_THUMB_M.jpg")
    add_image(pets / "dog.n.01" / "deep" / name / "c.jpg")
    dataset = scan(pets, wordnet)
    assert dataset.fingerprint == fingerprint
    assert dataset.left_out.folders == {name: 3}
    assert dataset.left_out.text() == f"3 folders of other programs ({name})"


def test_a_folder_of_the_system_is_not_looked_into(pets, wordnet):
    (pets / CAT / "@eaDir").mkdir()
    (pets / CAT / "@eaDir" / "gone.png").symlink_to(pets / "nothing.png")  # an error anywhere else
    (pets / "lost+found").symlink_to(pets / "nothing")
    assert scan(pets, wordnet).left_out.folders == {"@eaDir": 1, "lost+found": 1}


def test_what_is_left_out_is_counted_by_suffix(pets, wordnet):
    for name in ("a.txt", "b.TXT", "._a.JPEG", "c.heic", "d.jpg.part", "e.tar.gz", "f.a\nb", "desktop.ini", "noext"):
        write(pets / CAT / name, "x")
    write(pets / "dog.n.01" / "deep.txt", "x")
    left_out = scan(pets, wordnet).left_out
    assert left_out.files == {
        ".txt": 3, ".heic": 1, ".part": 1, ".gz": 1, "hidden": 1, "desktop.ini": 1, "without a suffix": 2
    }  # fmt: skip
    assert left_out.text() == (
        "3 .txt, 2 without a suffix, 1 .gz, 1 .heic, 1 .part, 1 desktop.ini, 1 hidden; to use images of the kind .heic,"
        " convert them to JPEG or PNG"
    )
    for number in range(20):
        write(pets / CAT / f"x.{number:03d}", "x")
    assert "and 19 of other kinds" in scan(pets, wordnet).left_out.text()
    assert not scan(listing_of(pets, [("dog.n.01/b.png", DOG), (f"{CAT}/c.webp", CAT)]), wordnet).left_out


def test_folders_below_a_class_folder_and_every_suffix(tmp_path, wordnet):
    suffixes = (
        "png", "jpg", "jpeg", "jpe", "jfif", "webp", "avif", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm", "pnm",
        "PNG", "Jpg",
    )  # fmt: skip
    for suffix in suffixes:
        add_image(tmp_path / DOG / "images" / "deep" / f"x.{suffix}")
    add_image(tmp_path / CAT / "images.png" / "y.png")  # a folder named like an image
    dataset = scan(tmp_path, wordnet)
    assert dataset.n_images == len(suffixes) + 1
    assert not check_images(dataset, max_pixels=1000)
    assert f"{DOG}/images/deep/x.tif" in paths_of(dataset)
    assert f"{CAT}/images.png/y.png" in paths_of(dataset)
    assert paths_of(dataset) == sorted(paths_of(dataset))


def test_links_are_followed(pets, tmp_path, wordnet):
    add_image(tmp_path / "elsewhere" / "d.png", 9)
    (pets / CRANE_BIRD).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (pets / CAT / "link.png").symlink_to(tmp_path / "elsewhere" / "d.png")
    assert f"{CRANE_BIRD}/d.png" in paths_of(scan(pets, wordnet))
    assert f"{CAT}/link.png" in paths_of(scan(pets, wordnet))


def test_names_with_spaces_accents_and_commas(pets, wordnet):
    add_image(pets / CAT / "día, 猫 .png")
    dataset = scan(pets, wordnet)
    assert f"{CAT}/día, 猫 .png" in paths_of(dataset)
    assert not check_images(dataset, max_pixels=1000)


def test_mapping(pets, tmp_path, wordnet):
    (pets / CAT).rename(pets / "crane")
    mapping = write(tmp_path / "map.csv", f"folder,synset\ncrane,{CRANE_BIRD}\n")
    dataset = scan(pets, wordnet, mapping=mapping)
    assert dataset.class_names == {CRANE_BIRD: "crane", DOG: "dog.n.01"}
    assert dataset.class_ids == (CRANE_BIRD, DOG)

    write(mapping, "folder,synset\ncrane,crane.n.05\ndog.n.01,dog.n.01\nhorse,horse.n.01\n")
    assert scan(pets, wordnet, mapping=mapping).class_ids == (CRANE_BIRD, DOG), "rows for other folders are fine"


def test_folders_of_the_same_synset_are_one_class(pets, wordnet):
    add_image(pets / DOG / "z.png")
    dataset = scan(pets, wordnet)
    assert dataset.class_names[DOG] == "dog.n.01", "the first name in sort order"
    assert dataset.listing["class_id"].to_pylist().count(DOG) == 3
    assert dataset.merged == {DOG: ("dog.n.01", DOG)}
    shutil.rmtree(pets / CAT)
    fails(pets, wordnet, rf"all images are of one class \(dog.n.01 = {DOG}, {DOG}\)")


def test_custom_tree(tmp_path):
    tree = load_taxonomy(write(tmp_path / "tree.csv", "child,parent\nrose,flower\ntulip,flower\nflower,plant\n"))
    for label in ("rose", "tulip", "flower"):
        add_image(tmp_path / "images" / label / "1.png")
    dataset = scan(tmp_path / "images", tree)
    assert dataset.class_ids == ("flower", "rose", "tulip")
    assert len(induce(tree, dataset.class_ids).synsets) == 4


def test_spaces_around_a_folder_name_in_a_mapping(pets, tmp_path, wordnet):
    (pets / CAT).rename(pets / " crane")
    mapping = write(tmp_path / "map.csv", f'folder,synset\n" crane",{CRANE_BIRD}\n dog.n.01 , {DOG} \n')
    assert scan(pets, wordnet, mapping=mapping).class_names == {CRANE_BIRD: " crane", DOG: "dog.n.01"}


def test_check_images(pets, wordnet):
    write(pets / CAT / "a.png", "")
    write(pets / CAT / "b.png", "no image")
    shutil.copy(pets / "dog.n.01" / "b.png", pets / CAT / "x.jpg")  # a PNG all the same
    whole = (pets / "dog.n.01" / "b.png").read_bytes()
    (pets / "dog.n.01" / "cut.png").write_bytes(whole[:40])
    Image.new("L", (40, 40)).save(pets / "dog.n.01" / "large.png")
    for index in range(100):  # several tasks for the threads
        add_image(pets / CAT / f"y{index:03d}.png")
    dataset = scan(pets, wordnet)
    skipped = check_images(dataset, max_pixels=1000)
    assert [Path(image.path).name for image in skipped] == ["cut.png", "large.png", "a.png", "b.png"]
    assert skipped == sorted(skipped, key=lambda image: image.image)
    for image in skipped:
        assert paths_of(dataset)[image.image] == image.path
    assert skipped[1] == SkippedImage(3, "dog.n.01/large.png", "40 x 40 pixels, more than the limit of 1000 pixels")
    assert skipped[2].reason == "the file is empty"
    assert check_images(dataset, max_pixels=1000) == skipped


def test_many_files_keep_their_order(tmp_path, wordnet):
    for index in range(600):
        path = tmp_path / (DOG if index % 2 else CAT) / f"{index * 7919 % 600}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(str(index).encode())
    dataset = scan(tmp_path, wordnet)
    for row in dataset.listing.to_pylist():
        content = (tmp_path / row["path"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert row["n_bytes"] == len(content)
    assert scan(tmp_path, wordnet).fingerprint == dataset.fingerprint


def test_emoji(shared_data, wordnet):
    dataset = scan(shared_data / "emoji", wordnet)
    assert dataset.n_images == 1790
    assert len(dataset.class_ids) == 376
    assert check_images(dataset, max_pixels=128 * 128) == []
    with (shared_data / "emoji" / "listing.csv").open(newline="", encoding="utf-8") as file:
        expected = {row["path"]: row["wnid"] for row in csv.DictReader(file)}
    columns = (dataset.listing["path"].to_pylist(), dataset.listing["class_id"].to_pylist())
    assert dict(zip(*columns, strict=True)) == expected
