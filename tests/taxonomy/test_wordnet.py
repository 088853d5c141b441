"""WordNet 3.0's nouns: known facts, labels, and where the database comes from."""

import threading
import warnings
import zipfile
from importlib import resources

import nltk.data
import pytest

from hsae.errors import UserError
from hsae.taxonomy import induce, load_taxonomy

DOG = "n02084071"


def test_dog(wordnet):
    dog = wordnet.resolve("dog.n.01")
    assert dog.id == DOG
    assert dog.name == "dog.n.01"
    assert dog.lemmas == ("dog", "domestic_dog", "Canis_familiaris")
    assert dog.definition.startswith("a member of the genus Canis")
    assert wordnet.resolve(DOG) == wordnet.synset(DOG) == dog
    assert [wordnet.synset(i).name for i in wordnet.hypernyms(DOG)] == ["domestic_animal.n.01", "canine.n.02"]
    assert "n02085374" in wordnet.hyponyms(DOG)  # toy dog
    assert wordnet.name == "wordnet-3.0"


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Dog.n.1", "dog.n.01"),
        ("  dog.n.01 ", "dog.n.01"),
        ("domestic dog.n.01", "dog.n.01"),
        ("Paris.n.01", "paris.n.01"),
        ("n00001740", "entity.n.01"),
        (".22.n.01", "twenty-two.n.02"),
    ],
)
def test_other_ways_to_write_a_synset(wordnet, label, name):
    assert wordnet.resolve(label).name == name


@pytest.mark.slow  # a test of the shipped files, which do not change
def test_every_noun_ends_at_entity():
    """One root: 82,115 synsets hang under entity.n.01, each reached through hyponyms and hypernyms."""
    wordnet = load_taxonomy()  # its caches grow to all of WordNet, so not the one that the tests share
    entity = wordnet.resolve("entity.n.01").id
    assert wordnet.hypernyms(entity) == ()
    pending, seen = [entity], {entity}
    while pending:
        node = pending.pop()
        for below in wordnet.hyponyms(node):
            assert node in wordnet.hypernyms(below)
            if below not in seen:
                seen.add(below)
                pending.append(below)
    assert len(seen) == 82_115


def test_instance_hypernyms_count(wordnet):
    paris = wordnet.resolve("paris.n.01")
    assert [wordnet.synset(i).name for i in wordnet.hypernyms(paris.id)] == ["national_capital.n.01"]
    assert paris.id in wordnet.hyponyms(wordnet.resolve("national_capital.n.01").id)
    induced = induce(wordnet, [paris.id, DOG])
    assert induced.synsets[induced.root].name == "entity.n.01"
    assert induced.synsets[induced.lch([0, 1])].name == "object.n.01"


def test_all_parents_of_a_node_are_in_the_induced_taxonomy(wordnet):
    induced = induce(wordnet, [DOG, "n02121620"])
    names = {synset.name for synset in induced.synsets}
    assert {"canine.n.02", "domestic_animal.n.01", "carnivore.n.01"} <= names
    assert induced.synsets[induced.lch([0, 1])].name == "carnivore.n.01"


def test_emoji_classes(wordnet, shared_data):
    wnids = sorted(folder.name for folder in (shared_data / "emoji").iterdir() if folder.is_dir())
    assert len(wnids) == 376
    induced = induce(wordnet, [wordnet.resolve(wnid).id for wnid in wnids])
    assert len(induced.synsets) == 809
    assert len(induced.classes) == 376
    assert induced.synsets[induced.root].name == "entity.n.01"
    assert induced.leaf_counts[induced.root] == 376
    assert induced.depth.max() <= induced.height[induced.root]


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        (
            "crane",
            [
                "which synset is meant",
                "crane.n.04 (n03126707: lifts and moves heavy",
                "crane.n.05 (n02012849",
            ],
        ),
        ("tabby cat", ["tabby.n.01 (n02123045"]),
        ("dogs", ["dog.n.01"]),
        ("dog.n.00", ["no synset", "dog.n.01"]),
        ("dog.n.08", ["no synset", "dog.n.01", "andiron.n.01"]),
        ("dogg", ["'dogg' is no wnid", "did you mean", "doggy"]),
        ("qzxqzx", ["'qzxqzx' is no wnid"]),
        ("", ["'' is no wnid"]),
        ("dog.v.01", ["not a noun"]),
        ("v02084071", ["not a noun"]),
        ("n02086723", ["'n02086723'", "WordNet 3.1"]),  # dog in WordNet 3.1
        ("n02084072", ["'n02084072'"]),  # inside dog's line
        ("n99999999", ["'n99999999'"]),
        ("n00000000", ["'n00000000'"]),
        ("head", ["head.n.01", "and 21 more"]),
    ],
)
def test_labels_that_name_no_synset(wordnet, label, parts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError) as caught:
            wordnet.resolve(label)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("synset_id", ["dog.n.01", "", "v02084071", "n2084071"])
def test_synset_takes_ids_only(wordnet, synset_id):
    for ask in (wordnet.synset, wordnet.hypernyms, wordnet.hyponyms):
        with pytest.raises(UserError, match="no noun synset"):
            ask(synset_id)


def test_many_threads_get_the_same_answers(wordnet):
    taxonomy = load_taxonomy()  # one with empty caches
    expected = {name: wordnet.resolve(name) for name in ("dog.n.01", "cat.n.01", "wine.n.01")}
    wrong = []

    def ask() -> None:
        for _ in range(10):
            wrong.extend(name for name, synset in expected.items() if taxonomy.resolve(name) != synset)
            wrong.extend(i for i in taxonomy.hyponyms(DOG) if taxonomy.synset(i).id != i)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def write_database(folder, files, **replaced):
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def other_version(files):
    return files | {"data.noun": files["data.noun"].replace(b"WordNet 3.0 Copyright", b"WordNet 3.1 Copyright")}


def marked(files):
    """The same database with one definition changed (and no offset), to see which copy was read."""
    changed = files["data.noun"].replace(b"a member of the genus Canis", b"A MEMBER OF THE GENUS CANIS")
    return files | {"data.noun": changed}


def test_a_folder_overrides_the_shipped_database(noun_files, tmp_path):
    only_nouns = {name: data for name, data in marked(noun_files).items() if name in ("data.noun", "index.noun")}
    taxonomy = load_taxonomy(wordnet=write_database(tmp_path / "wn", only_nouns))
    assert taxonomy.resolve("dog.n.01").definition.startswith("A MEMBER OF")
    assert taxonomy.name == "wordnet-3.0"


@pytest.mark.parametrize("zipped", [True, False])
def test_nltk_data_comes_before_the_shipped_database(noun_files, tmp_path, monkeypatch, zipped):
    corpora = tmp_path / "nltk_data" / "corpora"
    if zipped:
        corpora.mkdir(parents=True)
        with zipfile.ZipFile(corpora / "wordnet.zip", "w") as archive:
            for name, data in marked(noun_files).items():
                archive.writestr(f"wordnet/{name}", data)
    else:
        write_database(corpora / "wordnet", marked(noun_files))
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "absent"), str(tmp_path / "nltk_data")])
    assert load_taxonomy().resolve("dog.n.01").definition.startswith("A MEMBER OF")


def test_nltk_data_of_another_version_or_broken_is_passed_over(noun_files, tmp_path, monkeypatch):
    write_database(tmp_path / "a" / "corpora" / "wordnet", other_version(marked(noun_files)))
    (tmp_path / "b" / "corpora").mkdir(parents=True)
    (tmp_path / "b" / "corpora" / "wordnet.zip").write_bytes(b"PK but no zip")
    (tmp_path / "c" / "corpora" / "wordnet").mkdir(parents=True)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / name) for name in "abc"])
    assert load_taxonomy().resolve("dog.n.01").definition.startswith("a member of")


def test_folders_that_are_no_wordnet_3_0(noun_files, tmp_path):
    nouns, index = noun_files["data.noun"], noun_files["index.noun"]
    cases = {
        "other": (other_version(noun_files), "is WordNet 3.1, and hsae needs 3.0"),
        "headless": ({"data.noun": nouns[1740:], "index.noun": index}, "unknown version"),
        "crlf": ({"data.noun": nouns.replace(b"\n", b"\r\n"), "index.noun": index}, "offsets"),
        "cut": ({"data.noun": nouns[:9_000_000], "index.noun": index}, "offsets"),
        "no-index": ({"data.noun": nouns}, "holds no index.noun"),
        "empty": ({}, "holds no data.noun"),
        "bad-index": ({"data.noun": nouns, "index.noun": b"dog n x\n"}, "no sound WordNet database"),
        "cut-index": ({"data.noun": nouns, "index.noun": b"dog n 7\n"}, "no sound WordNet database"),
    }
    for name, (files, message) in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            load_taxonomy(wordnet=write_database(tmp_path / name, files))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="absent: cannot be read"):
        load_taxonomy(wordnet=tmp_path / "absent")


def test_the_licence_lies_beside_the_shipped_database(noun_files):
    assert set(noun_files) >= {"data.noun", "index.noun", "noun.exc", "lexnames", "cntlist.rev"}
    beside = (resources.files("hsae.taxonomy") / "wordnet" / "LICENSE").read_bytes()
    assert b"WordNet Release 3.0" in beside
    assert noun_files["LICENSE"] == beside
