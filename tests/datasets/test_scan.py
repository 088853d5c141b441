"""Image folders and CSVs: what they become, and everything that can be wrong with them."""

import csv
import hashlib
import os
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from hsae.datasets import SkippedImage, check_images, scan, told_apart
from hsae.errors import UserError
from hsae.taxonomy import induce, load_taxonomy

DOG, CAT, CRANE_BIRD = "n02084071", "n02121620", "n02012849"


def add_image(path: Path, grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)
    return path


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def pets(tmp_path) -> Path:
    """Two classes, three images."""
    root = tmp_path / "pets"
    add_image(root / "dog.n.01" / "b.png", 1)
    add_image(root / "dog.n.01" / "a.JPEG", 2)
    add_image(root / CAT / "c.webp", 3)
    return root


def paths_of(dataset) -> list[str]:
    return dataset.listing["path"].to_pylist()


def fails(path, taxonomy, message, **options):
    with pytest.raises(UserError, match=message) as caught:
        scan(path, taxonomy, **options)
    assert "\n" not in str(caught.value)


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


def test_a_class_folder_says_what_it_holds_instead_of_images(pets, wordnet):
    for number in range(3):
        write((pets / CAT / f"{number}.heic"), "x")
    (pets / CAT / "c.webp").unlink()
    fails(pets, wordnet, rf"class folder '{CAT}'.*holds no images \(3 .heic; .*convert them to JPEG or PNG\)")


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


def test_links_that_lead_nowhere_or_in_circles(pets, wordnet):
    (pets / CAT / "up").symlink_to(pets / CAT, target_is_directory=True)
    fails(pets, wordnet, "link to a folder above itself")
    (pets / CAT / "up").unlink()
    (pets / CAT / "gone.png").symlink_to(pets / "nothing.png")
    fails(pets, wordnet, "gone.png: cannot be read")
    (pets / CAT / "gone.png").unlink()
    (pets / CRANE_BIRD).symlink_to(pets / "nothing")
    fails(pets, wordnet, f"{CRANE_BIRD}: cannot be read")
    (pets / CRANE_BIRD).unlink()
    (pets / CRANE_BIRD).symlink_to(pets / CRANE_BIRD)
    fails(pets, wordnet, f"{CRANE_BIRD}: cannot be read")


@pytest.mark.parametrize("above", [".", "..", "../.."])
def test_a_link_to_the_top_folder_or_further_up_is_named_itself(pets, wordnet, above):
    """Not what is found by following it: that folder, a real one, is not to be removed."""
    (pets / CAT / "deep").mkdir()
    link = pets / CAT / "deep" / "up"
    link.symlink_to(pets / above, target_is_directory=True)
    fails(pets, wordnet, f"^{link}: is a link to a folder above itself; remove the link$")
    seen_through_a_link = pets.parent / "view"
    seen_through_a_link.symlink_to(pets, target_is_directory=True)
    fails(seen_through_a_link, wordnet, f"^{seen_through_a_link}/{CAT}/deep/up: is a link to a folder above itself")


def test_a_class_folder_that_is_a_link_to_the_top(pets, wordnet):
    (pets / CRANE_BIRD).symlink_to(pets, target_is_directory=True)
    fails(pets, wordnet, f"^{pets / CRANE_BIRD}: is a link to a folder above itself")


def test_a_pipe_is_not_waited_for(pets, wordnet):
    os.mkfifo(pets / CAT / "pipe.png")
    fails(pets, wordnet, "no regular file")


def test_labels_that_are_no_synsets(pets, wordnet):
    (pets / CAT).rename(pets / "crane")
    fails(pets, wordnet, r"class folder 'crane' of .*candidates: .*crane\.n\.05 \(n02012849.*folder,synset")
    (pets / "crane").rename(pets / "craen")
    fails(pets, wordnet, "class folder 'craen'.*did you mean.*folder,synset")


def test_a_folder_of_splits(tmp_path, wordnet):
    add_image(tmp_path / "train" / DOG / "a.png")
    add_image(tmp_path / "val" / DOG / "b.png")
    fails(tmp_path, wordnet, f"class folder 'train'.*give {tmp_path}/train itself")


def test_folders_that_cannot_be_used(tmp_path, pets, wordnet):
    fails(tmp_path / "absent", wordnet, "there is no such folder or file")
    fails(write(tmp_path / "x.zip", ""), wordnet, "neither a folder of class folders nor a .csv")
    (tmp_path / "empty").mkdir()
    fails(
        tmp_path / "empty", wordnet, "holds no class folders; put .* or list them with their labels in a CSV path,label"
    )
    add_image(tmp_path / "empty" / "flat.png")
    add_image(tmp_path / "empty" / "@eaDir" / "thumbnail.png")
    found = r"holds no class folders \(found: 1 .png; 1 folder of other programs \(@eaDir\)\); .*CSV path,label"
    fails(tmp_path / "empty", wordnet, found)
    (pets / CRANE_BIRD).mkdir()
    write(pets / CRANE_BIRD / "notes.txt", "")
    fails(pets, wordnet, f"class folder '{CRANE_BIRD}'.*holds no images")
    shutil.rmtree(pets / CRANE_BIRD)
    shutil.rmtree(pets / CAT)
    fails(pets, wordnet, r"all images are of one class \(dog.n.01, n02084071\)")


def test_names_that_are_not_utf8(pets, wordnet):
    bad = os.fsdecode(b"caf\xe9.png")
    try:
        add_image(pets / CAT / bad)
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")
    fails(pets, wordnet, r"caf\\xe9.png: the name is not UTF-8")
    (pets / CAT / bad).unlink()
    (pets / os.fsdecode(b"caf\xe9")).mkdir()
    fails(pets, wordnet, r"caf\\xe9: the name is not UTF-8")


def test_names_with_spaces_accents_and_commas(pets, wordnet):
    add_image(pets / CAT / "día, 猫 .png")
    dataset = scan(pets, wordnet)
    assert f"{CAT}/día, 猫 .png" in paths_of(dataset)
    assert not check_images(dataset, max_pixels=1000)


def test_files_without_permission(pets, wordnet):
    (pets / CAT / "c.webp").chmod(0)
    if os.access(pets / CAT / "c.webp", os.R_OK):
        pytest.skip("root may read anything")
    fails(pets, wordnet, "c.webp: cannot be read")
    fails(listing_of(pets, [("dog.n.01/b.png", DOG), (f"{CAT}/c.webp", CAT)]), wordnet, "c.webp: cannot be read")
    (pets / CAT).chmod(0)
    fails(pets, wordnet, f"{CAT}: cannot be read")
    pets.chmod(0)
    fails(pets, wordnet, "pets: cannot be read")
    fails(pets / "images.csv", wordnet, "images.csv.*cannot be read")
    pets.chmod(0o700)
    (pets / CAT).chmod(0o700)


def test_mapping(pets, tmp_path, wordnet):
    (pets / CAT).rename(pets / "crane")
    mapping = write(tmp_path / "map.csv", f"folder,synset\ncrane,{CRANE_BIRD}\n")
    dataset = scan(pets, wordnet, mapping=mapping)
    assert dataset.class_names == {CRANE_BIRD: "crane", DOG: "dog.n.01"}
    assert dataset.class_ids == (CRANE_BIRD, DOG)

    write(mapping, "folder,synset\ncrane,crane.n.05\ndog.n.01,dog.n.01\nhorse,horse.n.01\n")
    assert scan(pets, wordnet, mapping=mapping).class_ids == (CRANE_BIRD, DOG), "rows for other folders are fine"


def test_wrong_mappings(pets, tmp_path, wordnet):
    (pets / CAT).rename(pets / "crane")
    for rows, message in (
        ("Crane,crane.n.05\n", "line 2: the data set has no 'Crane', and 'crane' is not mapped"),
        ("crane,crane\n", "line 2: 'crane' does not say which synset"),
        ("crane,crane.n.05\ncrane,crane.n.04\n", "line 3: 'crane' is already mapped to 'crane.n.05'"),
        ("crane,\n", "line 2: the synset is blank"),
    ):
        fails(pets, wordnet, message, mapping=write(tmp_path / "map.csv", "folder,synset\n" + rows))
    fails(pets, wordnet, "there is no such file", mapping=tmp_path / "absent.csv")
    fails(pets, wordnet, "no column 'folder'", mapping=write(tmp_path / "map.csv", "path,label\na,b\n"))


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


def listing_of(folder: Path, rows, header=("path", "label")) -> Path:
    path = folder / "images.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_csv(pets, wordnet):
    rows = [("./dog.n.01/b.png", "dog.n.01"), (f"{CAT}//c.webp", CAT), ("dog.n.01/a.JPEG", DOG)]
    dataset = scan(listing_of(pets, rows), wordnet)
    from_folder = scan(pets, wordnet)
    assert dataset.source.root == str(pets)
    assert dataset.listing == from_folder.listing
    assert dataset.fingerprint == from_folder.fingerprint
    assert dataset.class_names == {DOG: "dog.n.01", CAT: CAT}


def test_a_csv_gives_an_image_several_labels(pets, wordnet):
    rows = [
        ("dog.n.01/b.png", "dog.n.01"),
        ("dog.n.01/b.png", CAT),
        (f"{CAT}/c.webp", CAT),
        ("dog.n.01/a.JPEG", DOG),
        ("./dog.n.01/b.png", CRANE_BIRD),
        ("dog.n.01/b.png", CAT),  # again
        ("dog.n.01/a.JPEG", "dog.n.01"),  # the same synset
    ]
    dataset = scan(listing_of(pets, rows), wordnet)
    from_folder = scan(pets, wordnet)
    assert dataset.listing.column_names == ["image", "path", "class_ids", "sha256", "n_bytes"]
    assert dataset.listing["class_ids"].to_pylist() == [[DOG], [CRANE_BIRD, DOG, CAT], [CAT]]
    assert dataset.listing.drop_columns("class_ids") == from_folder.listing.drop_columns("class_id")
    assert dataset.class_names == {CRANE_BIRD: CRANE_BIRD, DOG: "dog.n.01", CAT: CAT}
    assert not check_images(dataset, max_pixels=1000)
    text = "".join(
        f"{row['path']}\0{class_id}\0{row['sha256']}\n"
        for row in dataset.listing.to_pylist()
        for class_id in row["class_ids"]
    )
    assert dataset.fingerprint == hashlib.sha256(text.encode()).hexdigest()
    backwards = scan(listing_of(pets, rows[::-1]), wordnet)
    assert (backwards.listing, backwards.fingerprint) == (dataset.listing, dataset.fingerprint)
    fewer = scan(listing_of(pets, rows[1:]), wordnet)
    assert fewer.listing["class_ids"].to_pylist() == [[DOG], [CRANE_BIRD, CAT], [CAT]]
    assert fewer.fingerprint != dataset.fingerprint


def test_rows_that_say_the_same_again_make_no_second_label(pets, wordnet):
    rows = [("dog.n.01/b.png", "dog.n.01"), (f"{CAT}/c.webp", CAT), ("dog.n.01/a.JPEG", DOG)]
    again = [("dog.n.01/b.png", DOG), (f"{CAT}/c.webp", CAT)]
    dataset = scan(listing_of(pets, rows + again), wordnet)
    from_folder = scan(pets, wordnet)
    assert (dataset.listing, dataset.fingerprint) == (from_folder.listing, from_folder.fingerprint)


def test_spaces_around_a_file_name_are_part_of_it_where_the_file_has_them(pets, wordnet):
    add_image(pets / " first.png", 10)
    shutil.copy(add_image(pets / CAT / "d.png"), pets / "last.png ")
    rows = [(" first.png", DOG), ("last.png ", DOG), (f" {CAT}/c.webp ", f" {CAT} ")]
    dataset = scan(listing_of(pets, rows), wordnet)
    assert paths_of(dataset) == [" first.png", "last.png ", f"{CAT}/c.webp"]
    assert not check_images(dataset, max_pixels=1000)
    add_image(pets / "first.png", 30)  # and of two, the one that is written
    assert scan(listing_of(pets, rows), wordnet).fingerprint == dataset.fingerprint


def test_spaces_around_a_folder_name_in_a_mapping(pets, tmp_path, wordnet):
    (pets / CAT).rename(pets / " crane")
    mapping = write(tmp_path / "map.csv", f'folder,synset\n" crane",{CRANE_BIRD}\n dog.n.01 , {DOG} \n')
    assert scan(pets, wordnet, mapping=mapping).class_names == {CRANE_BIRD: " crane", DOG: "dog.n.01"}


COMPOSED, DECOMPOSED = "caf\xe9", "cafe\u0301"


@pytest.mark.parametrize(("there", "asked"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_names_that_look_the_same_are_told_apart(pets, wordnet, there, asked):
    add_image(pets / there / "a.png")
    good = [("dog.n.01/b.png", DOG), (f"{CAT}/c.webp", CAT)]
    told = f"{pets} holds {there!a}, which looks like {asked!a} and is not the same"
    fails(
        listing_of(pets, [*good, (f"{asked}/a.png", DOG)]), wordnet, f"line 4: there is no file .*; {re.escape(told)}"
    )
    fails(pets / asked, wordnet, f"there is no such folder or file; {re.escape(told)}")


def test_names_that_differ_in_case_or_spaces(pets, wordnet):
    add_image(pets / " IMG_1.JPG")
    good = [("dog.n.01/b.png", DOG), (f"{CAT}/c.webp", CAT)]
    fails(listing_of(pets, [*good, ("img_1.jpg", DOG)]), wordnet, "holds ' IMG_1.JPG', which looks like 'img_1.jpg'")


def test_merged_names_that_look_the_same_are_told_apart():
    assert told_apart(["dog", "hound"]) == ["dog", "hound"]
    assert told_apart([COMPOSED, DECOMPOSED]) == ["'caf\\xe9'", "'cafe\\u0301'"]
    assert told_apart(["dog", COMPOSED, DECOMPOSED]) == ["dog", "'caf\\xe9'", "'cafe\\u0301'"]


def test_csv_paths_outside_its_folder(pets, tmp_path, wordnet):
    outside = add_image(tmp_path / "other" / "d.png")
    no_suffix = outside.rename(outside.with_suffix(""))
    rows = [(str(no_suffix), CAT), ("../other/../pets/dog.n.01/b.png", DOG)]
    dataset = scan(listing_of(pets, rows), wordnet)
    assert paths_of(dataset) == ["../other/../pets/dog.n.01/b.png", str(no_suffix)]
    assert dataset.source.locate(str(no_suffix)) == str(no_suffix)
    assert not check_images(dataset, max_pixels=1000)


def test_csv_with_more_columns_and_a_mapping(pets, tmp_path, wordnet):
    rows = [("x", "woof", "dog.n.01/b.png"), ("y", "meow, purr", f"{CAT}/c.webp")]
    mapping = write(tmp_path / "map.csv", f'folder,synset\nwoof,{DOG}\n"meow, purr",cat.n.01\n')
    dataset = scan(listing_of(pets, rows, ("note", "label", "path")), wordnet, mapping=mapping)
    assert dataset.class_names == {DOG: "woof", CAT: "meow, purr"}


def test_wrong_csvs(pets, wordnet):
    good = [("dog.n.01/b.png", DOG), (f"{CAT}/c.webp", CAT)]
    for rows, message in (
        ([*good, ("absent.png", DOG)], "line 4: there is no file .*absent.png"),
        ([*good, (r"dog.n.01\a.JPEG", DOG)], "line 4: there is no file .*separate folders with /"),
        ([*good, ("dog.n.01", DOG)], "line 4: .*is no regular file"),
        ([*good, ("x/../dog.n.01/./b.png", DOG)], "line 4: .* is listed again, after line 2, .* called dog.n.01/b.png"),
        ([*good, (str(pets / "dog.n.01" / "b.png"), CAT)], "is listed again, after line 2.*the same way"),
        ([*good, ("dog.n.01/a.JPEG", "crane")], "line 4: label 'crane': .*candidates.*folder,synset"),
        ([*good, ("a\0b.png", DOG)], "cannot be read"),
        (good[:1], "all images are of one class"),
        ([], "no rows"),
        ([*good, ("dog.n.01/a.JPEG", "")], "line 4: the label is blank"),
    ):
        fails(listing_of(pets, rows), wordnet, message)
    fails(listing_of(pets, good, ("file", "label")), wordnet, "no column 'path'")


def test_a_listed_file_without_permission_or_gone_later(pets, wordnet):
    dataset = scan(pets, wordnet)
    (pets / CAT / "c.webp").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        check_images(dataset, max_pixels=1000)


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
