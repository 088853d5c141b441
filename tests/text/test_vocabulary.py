"""Vocabularies: nodes with their lemmas, words of a file, and one line for what names nothing."""

import pytest

from hsae.errors import UserError
from hsae.taxonomy import Synset
from hsae.text.config import TEMPLATES, NameSettings
from hsae.text.vocabulary import (
    Entry,
    entry_of,
    known_entries,
    listed_vocabulary,
    nodes_of,
    read_words,
    taxonomy_vocabulary,
)

DOG = Synset("n02084071", "dog.n.01", ("dog", "domestic_dog", "Canis_familiaris"), "a member of the genus Canis")


def test_every_lemma_stands_in_every_template_and_the_gloss_where_there_is_one():
    entry = entry_of(DOG, 7)
    assert (entry.word, entry.node) == ("dog", 7)
    texts = entry.texts(TEMPLATES)
    assert len(texts) == 3 * len(TEMPLATES)
    assert {"dog", "a photo of a domestic dog", "Canis familiaris: a member of the genus Canis"} <= set(texts)
    bare = Entry("striped", ("striped",), "", -1)
    assert len(bare.texts(TEMPLATES)) == len(TEMPLATES) - 1


def test_a_node_of_the_taxonomy_is_an_entry(taxonomy):
    vocabulary = taxonomy_vocabulary(taxonomy)
    assert nodes_of(vocabulary).tolist() == list(range(len(taxonomy.synsets)))
    assert [entry.word for entry in vocabulary] == [synset.name for synset in taxonomy.synsets]


def test_a_listed_word_means_the_one_node_that_has_it(taxonomy):
    found = listed_vocabulary(("Owl", "striped", "fish"), taxonomy)
    names = [taxonomy.synsets[entry.node].name if entry.node >= 0 else None for entry in found]
    assert names == ["owl", None, "fish"]


def test_unknown_words_are_left_out():
    entries = (entry_of(DOG, 0), Entry("qqq", ("qqq",), "", -1), Entry("cat", ("cat",), "", 1))
    found = known_entries(entries, {"domestic dog", "cat"}.__contains__, "MODEL")
    assert [(entry.word, entry.synonyms) for entry in found] == [
        ("domestic dog", ("domestic dog",)), ("cat", ("cat",)),
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"MODEL knows no word of the vocabulary \(dog, qqq, cat\.\.\.\): give words"):
        known_entries(entries, lambda word: False, "MODEL")
    with pytest.raises(UserError, match="MODEL knows one word of the vocabulary, cat: give at least two"):
        known_entries(entries, "cat".__eq__, "MODEL")


def test_words_of_a_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("# colours\nred\n\n  light   blue \nred\n", encoding="utf-8")
    assert read_words(path) == ("red", "light blue")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is empty: write at least two words, a word a line"),
        (b"# only a comment\n", "is empty"),
        (b"dog\n", "has one word alone, dog"),
        (b"\xff\xfe\x00", "is no text in UTF-8"),
        (None, r"cannot be read \(No such file or directory\)"),
    ],
)
def test_a_file_without_words_is_one_line(tmp_path, content, line):
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=line):
        read_words(path)


@pytest.mark.parametrize("templates", [(), ("a photo",), ("{} and {}",), ("{}: {gloss}",)])
def test_templates_have_a_place_for_the_word(templates):
    with pytest.raises(ValueError, match=r"template|least 1 item"):
        NameSettings(by="m", templates=templates)
