"""The column `group` of a CSV: what the listing and the fingerprint make of it."""

import csv

import pyarrow as pa
import pytest

from hsae.datasets import GROUP_FIELD, scan
from hsae.datasets.dataset import fingerprint_of
from hsae.errors import UserError

DOG, CAT = "n02084071", "n02121620"
ROWS = [("a.png", DOG, "noto"), ("b.png", CAT, "noto"), ("c.png", CAT, "flat")]


@pytest.fixture
def written(tmp_path):
    """Writes a CSV beside three images."""
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(name.encode())

    def write(rows, header=("path", "label", "group")):
        path = tmp_path / "images.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        return path

    return write


def test_groups_are_in_the_listing(written, wordnet):
    listing = scan(written(ROWS), wordnet).listing
    assert listing.schema.field("group") == GROUP_FIELD
    assert listing["group"].to_pylist() == ["noto", "noto", "flat"]
    backwards = scan(written([row[::-1] for row in ROWS[::-1]], ("group", "label", "path")), wordnet)
    assert backwards.listing == listing


def test_without_groups_listing_and_fingerprint_are_as_ever(written, wordnet):
    plain = scan(written([row[:2] for row in ROWS], ("path", "label")), wordnet)
    assert "group" not in plain.listing.column_names
    assert plain.fingerprint == "80fa125022e4edb68f70e623976351f6ab620eb782dff51425b3b821ed0787f5"
    blank = scan(written([(path, label, " ") for path, label, _ in ROWS]), wordnet)
    assert (blank.listing, blank.fingerprint) == (plain.listing, plain.fingerprint)


def test_groups_are_part_of_the_fingerprint(written, wordnet):
    grouped = scan(written(ROWS), wordnet)
    assert grouped.fingerprint == "f2cec32d0c3717248114d05531b44ee5db45456e041150f289343c8c419be08d"
    others = [("noto", "flat", "flat"), ("noto", "noto", "Flat"), ("noto", "noto", ""), ("", "noto", "flat")]
    seen = {grouped.fingerprint}
    for groups in others:
        rows = [(path, label, group) for (path, label, _), group in zip(ROWS, groups, strict=True)]
        seen.add(scan(written(rows), wordnet).fingerprint)
    assert len(seen) == 1 + len(others)


def test_an_image_without_a_group_has_null(written, wordnet):
    listing = scan(written([*ROWS[:2], ("c.png", CAT, "")]), wordnet).listing
    assert listing["group"].to_pylist() == ["noto", "noto", None]


def test_an_image_of_several_labels_has_one_group(written, wordnet):
    rows = [*ROWS, ("a.png", CAT, "noto")]
    dataset = scan(written(rows), wordnet)
    assert dataset.listing.column_names == ["image", "path", "class_ids", "sha256", "n_bytes", "group"]
    assert dataset.listing["group"].type == pa.string()
    with pytest.raises(UserError, match=r"line 5: a.png is of the group 'flat', and in line 2 of 'noto'; give all"):
        scan(written([*ROWS, ("a.png", CAT, "flat")]), wordnet)
    with pytest.raises(UserError, match=r"line 5: a.png is of the group '', and in line 2 of 'noto'"):
        scan(written([*ROWS, ("a.png", CAT, "")]), wordnet)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([(*row, "x") for row in ROWS], ("path", "label", "group", "Group"), "has more than one column 'group'"),
        ([ROWS[0], ROWS[1], ("c.png", CAT, "two\nlines")], ("path", "label", "group"), "holds characters that cannot"),
    ],
)
def test_groups_that_cannot_be(written, wordnet, rows, header, message):
    with pytest.raises(UserError, match=message):
        scan(written(rows, header), wordnet)


def test_the_fingerprint_of_groups_cannot_be_mistaken():
    rows = [("a", "c", "0"), ("b", "c", "1")]
    made = {fingerprint_of(rows, groups) for groups in (None, {"a": "x"}, {"b": "x"}, {"a": "x", "b": "x"}, {"a": ""})}
    assert len(made) == 5
