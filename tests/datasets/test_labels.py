"""Labels are decided all at once, before any image is looked at; a mapping is written to be edited and read again."""

import csv
from pathlib import Path

import pytest

from hsae.datasets import UnresolvedLabelsError, decide_labels, scan, write_mapping
from hsae.errors import UserError
from hsae.taxonomy import Rule, load_taxonomy


@pytest.fixture
def folders(tmp_path) -> Path:
    """Class folders with plain names; the files in them are never opened by these tests."""
    root = tmp_path / "images"
    for name in ("airplane", "crane", "mouse", "qzxqzx", "n01440764_goldfish", "golden retriever"):
        (root / name).mkdir(parents=True)
        (root / name / "1.png").write_bytes(b"x")
    return root


@pytest.fixture
def no_hashing(monkeypatch):
    def hash_files(*_):
        raise AssertionError("files are hashed before the labels are known to be right")

    monkeypatch.setattr("hsae.datasets.dataset.hash_files", hash_files)


def write_rows(path: Path, *rows: tuple[str, ...]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_all_unresolved_folders_at_once(folders, wordnet, no_hashing):
    with pytest.raises(UnresolvedLabelsError) as caught:
        scan(folders, wordnet)
    error = caught.value
    assert [decision.label for decision in error.unresolved] == ["crane", "mouse", "n01440764_goldfish", "qzxqzx"]
    message = str(error)
    assert "\n" not in message
    assert message.startswith(
        f"4 of 6 labels of {folders} do not name one synset: 'crane', 'mouse', 'n01440764_goldfish', 'qzxqzx'; rename"
    )
    for words in ("folder,synset", "--write-mapping labels.csv", "--senses imagenet would decide 1"):
        assert words in message
    assert [line for line in error.details if not line.startswith("    ")] == [
        decision.meaning.problem for decision in error.unresolved
    ]
    assert "    crane.n.05 n02012849: large long-necked wading bird of marshes and plains in ..." in error.details
    assert any(line.startswith("    mouse.n.04 n03793489: ") for line in error.details)


def test_unresolved_folders_that_look_the_same_are_told_apart(tmp_path, wordnet):
    composed, decomposed = "qz\u00e9x", "qze\u0301x"
    for name in (composed, decomposed, "qz\u00fcx"):
        (tmp_path / name).mkdir()
    with pytest.raises(UnresolvedLabelsError) as caught:
        scan(tmp_path, wordnet)
    shown = [r"'qze\u0301x'", r"'qz\xe9x'", "'qz\u00fcx'"]
    assert f"do not name one synset: {', '.join(shown)}; rename" in str(caught.value)
    assert [line.split()[0] for line in caught.value.details] == shown


def test_all_unresolved_labels_of_a_csv_at_once_before_its_files_are_looked_for(tmp_path, wordnet):
    listing = write_rows(
        tmp_path / "images.csv", ("path", "label"), ("absent.png", "crane"), ("gone.png", "dog.n.01"),
        ("absent.png", "qzxqzx"),
    )  # fmt: skip
    with pytest.raises(UnresolvedLabelsError, match="2 of 3 labels of .*'crane', 'qzxqzx'; correct the labels"):
        scan(listing, wordnet)


def test_all_unknown_nodes_of_a_custom_tree_at_once(tmp_path, folders):
    tree = load_taxonomy(write_rows(tmp_path / "tree.csv", ("child", "parent"), ("crane", "bird"), ("mouse", "rodent"),
                                    ("bird", "animal"), ("rodent", "animal")))  # fmt: skip
    with pytest.raises(UnresolvedLabelsError, match="4 of 6 labels") as caught:
        scan(folders, tree)
    assert caught.value.details[0] == "'airplane' is no node of the taxonomy tree"
    assert "--senses" not in str(caught.value)


def test_many_unknown_labels_are_reported_without_a_search_for_each(tmp_path, wordnet):
    """With one the close words are named; a hundred searches would take many seconds."""
    rows = [(f"{i}.png", f"sunflowerr{'x' * i}q") for i in range(100)]
    decisions = decide_labels(write_rows(tmp_path / "images.csv", ("path", "label"), *rows), wordnet)
    assert len(decisions) == 100
    assert sum("did you mean" in decision.meaning.problem for decision in decisions) <= 10
    assert "did you mean sunflower" in decisions[0].meaning.problem


def test_what_was_decided_is_told(folders, wordnet):
    for name in ("mouse", "qzxqzx", "n01440764_goldfish", "crane"):
        (folders / name / "1.png").unlink()
        (folders / name).rmdir()
    (folders / "n02084071").mkdir()
    (folders / "n02084071" / "1.png").write_bytes(b"y")
    found = {decision.label: decision for decision in scan(folders, wordnet).decisions}
    assert {label: decision.meaning.rule for label, decision in found.items()} == {
        "airplane": Rule.ONE_SENSE,
        "golden retriever": Rule.ONE_SENSE,
        "n02084071": Rule.NAME,
    }
    assert [label for label, decision in found.items() if decision.is_by_rule] == ["airplane", "golden retriever"]


def test_a_mapping_is_written_edited_and_read(folders, tmp_path, wordnet):
    mapping = tmp_path / "labels.csv"
    write_mapping(mapping, decide_labels(folders, wordnet))
    rows = read_rows(mapping)
    assert list(rows[0]) == ["folder", "synset", "rule", "definition", "candidates"]
    assert [(row["folder"], row["synset"]) for row in rows] == [
        ("crane", ""),
        ("mouse", ""),
        ("n01440764_goldfish", ""),
        ("qzxqzx", ""),
        ("airplane", "airplane.n.01"),
        ("golden retriever", "golden_retriever.n.01"),
    ]
    assert "crane.n.05 (n02012849: large" in rows[0]["candidates"]
    assert "is no wnid" in rows[3]["candidates"]
    assert rows[4]["rule"] == "one sense"
    assert rows[4]["definition"].startswith("an aircraft that has a fixed wing")

    with pytest.raises(UserError, match="lines 2, 3, 4, 5: the synset is blank"):
        scan(folders, wordnet, mapping=mapping)
    filled = dict(zip(("crane", "mouse", "n01440764_goldfish", "qzxqzx"),
                      ("crane.n.05", "n02330245", "goldfish", "wolfhounds"), strict=True))  # fmt: skip
    for row in rows:
        row["synset"] = row["synset"] or filled[row["folder"]]
    write_rows(mapping, tuple(rows[0]), *(tuple(row.values()) for row in rows))
    dataset = scan(folders, wordnet, mapping=mapping)
    assert dataset.class_names["n02012849"] == "crane"
    assert {decision.label for decision in dataset.decisions if decision.is_by_rule} == {"n01440764_goldfish", "qzxqzx"}
    again = decide_labels(folders, wordnet, mapping=mapping)
    write_mapping(tmp_path / "again.csv", again)
    assert {row["synset"] for row in read_rows(tmp_path / "again.csv")} == {
        decision.meaning.synset.name for decision in dataset.decisions
    }


def test_folders_whose_names_differ_in_the_form_of_an_accent_alone_are_mapped_both(tmp_path, wordnet):
    labels = ("caf\u00e9", "cafe\u0301", "owl")
    rows = [(f"{number}.png", label) for number, label in enumerate(labels)]
    images = write_rows(tmp_path / "images.csv", ("path", "label"), *rows)
    mapping = write_rows(tmp_path / "map.csv", ("folder", "synset"), ("caf\u00e9", "cafe.n.01"))
    found = {decision.label: decision for decision in decide_labels(images, wordnet, mapping=mapping)}
    assert [found[label].is_mapped for label in labels] == [True, True, False]
    assert [found[label].meaning.synset is not None for label in labels] == [True, True, True]


def test_a_mapping_is_never_written_over(folders, tmp_path, wordnet):
    mapping = tmp_path / "labels.csv"
    mapping.write_text("edited for hours")
    with pytest.raises(UserError, match="exists; edit it and give it as --mapping, or choose another name"):
        write_mapping(mapping, decide_labels(folders, wordnet))
    assert mapping.read_text() == "edited for hours"
    with pytest.raises(UserError, match="cannot be written"):
        write_mapping(tmp_path / "absent" / "labels.csv", ())


def test_all_wrong_rows_of_a_mapping_at_once(folders, tmp_path, wordnet):
    rows = [("crane", "crane"), ("mouse", "mouse.n.77"), ("n01440764_goldfish", "goldfish"), ("qzxqzx", "dog.n.01")]
    mapping = write_rows(tmp_path / "map.csv", ("folder", "synset"), *rows)
    with pytest.raises(UnresolvedLabelsError, match="2 of 6 labels .*'crane', 'mouse'; correct the mapping") as caught:
        scan(folders, wordnet, mapping=mapping)
    assert f"{mapping}, line 2: 'crane' does not say which synset is meant" in caught.value.details
    assert f"{mapping}, line 3: 'mouse.n.77' is no synset of WordNet 3.0" in caught.value.details
    write_rows(mapping, ("folder", "synset"), ("crane", "a"), ("crane", "b"), ("mouse", "c"), ("mouse", "d"))
    with pytest.raises(UserError, match="line 3: 'crane' is already .*; line 5: 'mouse' is already mapped to 'c'"):
        scan(folders, wordnet, mapping=mapping)


def test_a_mapping_has_the_other_senses_beside_the_one_that_a_rule_took(folders, tmp_path, wordnet):
    """Whoever has animals in the folder `mouse` finds the animal there."""
    mapping = tmp_path / "labels.csv"
    write_mapping(mapping, decide_labels(folders, wordnet, senses="imagenet"))
    rows = read_rows(mapping)
    assert [row["folder"] for row in rows if row["candidates"]] == [
        "crane", "n01440764_goldfish", "qzxqzx", "mouse",
    ]  # fmt: skip
    mouse = next(row for row in rows if row["folder"] == "mouse")
    assert (mouse["synset"], mouse["rule"]) == ("mouse.n.04", "ImageNet's sense")
    assert "mouse.n.01 (n02330245: any of numerous small rodents" in mouse["candidates"]


def test_senses_of_imagenet(folders, wordnet):
    found = {decision.label: decision.meaning for decision in decide_labels(folders, wordnet, senses="imagenet")}
    assert found["mouse"].synset is not None
    assert (found["mouse"].synset.name, found["mouse"].rule) == ("mouse.n.04", Rule.IMAGENET)
    assert found["crane"].synset is None
