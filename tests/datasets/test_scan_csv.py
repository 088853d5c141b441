"""CSVs that list images: what they become, and everything that can be wrong with them."""

import hashlib
import re
import shutil

import pytest
from tests.datasets.small_images import CAT, CRANE_BIRD, DOG, add_image, fails, listing_of, paths_of, write

from hsae.datasets import check_images, scan, told_apart


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


def test_all_mistakes_of_a_csv_are_said_at_once(pets, wordnet):
    good = [("dog.n.01/b.png", DOG), (f"{CAT}/c.webp", CAT)]
    rows = [*good, ("absent.png", DOG), ("absent.png", CAT), ("dog.n.01", DOG), ("./x/../dog.n.01/b.png", CAT)]
    message = "line 4: there is no file .*; .*line 6: .* no regular file; .*line 7: .* listed again, after line 2"
    fails(listing_of(pets, rows), wordnet, message)
    many = [*good, *((f"absent-{number}.png", DOG) for number in range(9))]
    fails(listing_of(pets, many), wordnet, "line 4: .*line 8: .*absent-4.png.*; and 4 more like these")


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
