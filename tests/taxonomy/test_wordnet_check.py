"""The check of `doctor`: it finds what NLTK would find, where NLTK would find it, and does without NLTK."""

import os
import subprocess
import sys

import pytest
from tests.taxonomy.test_wordnet import other_version, write_database

from hsae.errors import UserError
from hsae.taxonomy.wordnet_check import check_wordnet, nltk_data_path


@pytest.mark.slow
def test_it_answers_as_the_taxonomy_does_for_every_kind_of_noun(wordnet):
    for word in ("dog", "entity", "paris", ".22", "domestic_dog", "zymosis"):
        assert check_wordnet(None, word) == f"wordnet-3.0: {word}.n.01 is {wordnet.named(word, 1).id}"


@pytest.mark.slow
def test_it_loads_no_nltk_and_looks_where_nltk_looks():
    code = (
        "import sys; from hsae.taxonomy.wordnet_check import *; check_wordnet(None); found = nltk_data_path();"
        " assert 'nltk' not in sys.modules; import nltk.data; print(found == nltk.data.path, len(found))"
    )
    for variable in ("", "/somewhere:~/else"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "HOME": "/of/somebody", "NLTK_DATA": variable},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.split()[0] == "True", done.stdout


def test_a_folder_of_nltk_that_is_named_is_read(noun_files, tmp_path, monkeypatch):
    write_database(tmp_path / "corpora" / "wordnet", noun_files | {"index.noun": b"dog n 1 0 1 1 00001740\n"})
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    assert nltk_data_path()[0] == str(tmp_path)
    assert check_wordnet(None).endswith("dog.n.01 is n00001740")


def test_folders_that_are_no_wordnet_3_0(noun_files, tmp_path):
    nouns, index = noun_files["data.noun"], noun_files["index.noun"]
    cases = {
        "other": (other_version(noun_files), "is WordNet 3.1, and hsae needs 3.0"),
        "cut": ({"data.noun": nouns[:9_000_000], "index.noun": index}, "offsets"),
        "bad-index": ({"data.noun": nouns, "index.noun": b"dog n x\n"}, "1 lines are damaged, .*'dog' is not there"),
        "cut-index": ({"data.noun": nouns, "index.noun": b"dog n 7\n"}, "1 lines are damaged"),
        "half": ({"data.noun": nouns, "index.noun": index[:1_000_000]}, "'dog' is not there"),
        "astray": ({"data.noun": nouns, "index.noun": b"dog n 1 0 1 1 02084072\n"}, "1 synsets are not in data.noun"),
    }
    for name, (files, message) in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            check_wordnet(write_database(tmp_path / name, files))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="absent: cannot be read"):
        check_wordnet(tmp_path / "absent")
