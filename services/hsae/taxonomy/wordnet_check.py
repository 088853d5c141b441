"""Is the WordNet database that hsae would load sound? Answered without NLTK, whose import takes seconds."""

import os
import re
import sys
from pathlib import Path

from hsae.errors import UserError
from hsae.taxonomy.wordnet_database import REQUIRED_VERSION, load_noun_database

# `lemma n synset_cnt p_cnt [ptr_symbol...] sense_cnt tagsense_cnt synset_offset...`, the most frequent sense first
# (wndb(5WN) of WordNet 3.0). Lines that begin with a blank are the licence.
_INDEX_LINE = re.compile(rb"^(\S+) n \d+ \d+ (?:\D\S* )*\d+ \d+((?: \d{8})+) *$", re.MULTILINE)
_ANY_LINE = re.compile(rb"^[^ \n]", re.MULTILINE)
_SYNSET = re.compile(rb"^(\d{8}) ", re.MULTILINE)


def check_wordnet(folder: Path | None, word: str = "dog") -> str:
    """Read the database that `load_taxonomy` would load, and look a word up in it.

    Args:
        folder: HSAE_WORDNET, or None.
        word: a lower-case noun.

    Returns:
        What was found: `wordnet-3.0: dog.n.01 is n02084071`.

    Raises:
        UserError: the folder holds no WordNet 3.0, or its index is damaged or names a synset that is not there.
    """
    database = load_noun_database(folder, nltk_data_path())
    index, nouns = database.files["index.noun"], database.files["data.noun"]
    senses = {match[1]: match[2].split() for match in _INDEX_LINE.finditer(index)}
    synsets = {match[1] for match in _SYNSET.finditer(nouns) if int(match[1]) == match.start()}
    n_damaged = len(_ANY_LINE.findall(index)) - len(senses)
    n_missing = len({offset for offsets in senses.values() for offset in offsets} - synsets)
    is_there = "there" if word.encode() in senses else "not there"
    if n_damaged or n_missing or is_there != "there":
        raise UserError(
            f"{database.origin}: is no sound WordNet database: in index.noun {n_damaged} lines are damaged,"
            f" {n_missing} synsets are not in data.noun, and {word!r} is {is_there}"
        )
    return f"wordnet-{REQUIRED_VERSION}: {word}.n.01 is n{senses[word.encode()][0].decode()}"


def nltk_data_path() -> list[str]:
    """The folders in which NLTK looks for its data: `nltk.data.path` after its import (but on Windows)."""
    home = Path("~/nltk_data")
    named = [Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    below = [Path(sys.prefix, *parts) for parts in (("nltk_data",), ("share", "nltk_data"), ("lib", "nltk_data"))]
    shared = [
        Path("/usr", *parts, "nltk_data") for parts in (("share",), ("local", "share"), ("lib",), ("local", "lib"))
    ]
    return [str(folder.expanduser()) for folder in (*named, home, *below, *shared)]
