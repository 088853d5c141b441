"""WordNet's nouns through NLTK, as a `Taxonomy`."""

import io
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any, TextIO

import nltk.data
from nltk.corpus.reader import CorpusReader
from nltk.corpus.reader.wordnet import WordNetCorpusReader, WordNetError
from nltk.corpus.util import LazyCorpusLoader
from nltk.data import PathPointer

from hsae.errors import UserError
from hsae.taxonomy.taxonomy import Synset, Taxonomy, close_matches_hint
from hsae.taxonomy.wordnet_database import REQUIRED_VERSION, NounDatabase, load_noun_database

_WNID = re.compile(r"([nvasr])(\d{8})")
_SYNSET_NAME = re.compile(r"(.+)\.([nvasr])\.(\d{1,3})")
_MAX_CANDIDATES = 12


class _FilesInMemory(PathPointer):  # type: ignore[misc]  # NLTK carries no types
    """A corpus root whose files are byte strings; a file that is not there reads as empty.

    NLTK's reader opens the files of all four parts of speech; empty ones do for those that are not nouns.
    """

    def __init__(self, files: Mapping[str, bytes], name: str = "") -> None:
        self._files = files
        self._name = name

    def open(self, encoding: str | None = None) -> TextIO:
        # newline="\n": offsets count bytes, so no line end may be translated.
        data = io.BytesIO(self._files.get(self._name, b""))
        return io.TextIOWrapper(data, encoding=encoding or "utf-8", newline="\n")

    def file_size(self) -> int:
        return len(self._files.get(self._name, b""))

    def join(self, fileid: str) -> "_FilesInMemory":
        return _FilesInMemory(self._files, fileid)


class _NounReader(WordNetCorpusReader):  # type: ignore[misc]  # NLTK carries no types
    """NLTK's WordNet reader over a `NounDatabase`."""

    def __init__(self, database: NounDatabase) -> None:
        self._files = _FilesInMemory(database.files)
        # What NLTK itself passes: loaded at the first look-up in another language, so never here.
        multilingual = LazyCorpusLoader("omw-2.0", CorpusReader, r".*/wn-data-.*\.tab", encoding="utf8")
        super().__init__(self._files, multilingual)

    def open(self, file: str) -> TextIO:
        # NLTK's own method checks a path on disk against its sandbox first; here is none to check.
        return self._files.join(file).open(self._ENCODING)

    def map_wn(self, version: str = "wordnet") -> None:
        # Serves the multilingual data only, and would need every part of speech and index.sense.
        return None

    def get_version(self) -> str:
        # NLTK's method reads it off the adjectives.
        return REQUIRED_VERSION


class WordNetNouns(Taxonomy):
    """The 82,115 noun synsets of WordNet 3.0, under entity.n.01.

    May be used from several threads: NLTK's reader seeks in one shared stream, hence the lock.
    """

    def __init__(self, database: NounDatabase) -> None:
        """`UserError` where NLTK cannot parse the database."""
        self._lock = threading.RLock()
        self._nouns = database.files["data.noun"]
        try:
            self._reader = _NounReader(database)
        except (WordNetError, ValueError, IndexError, StopIteration, AssertionError) as error:
            raise UserError(f"{database.origin}: is no sound WordNet database ({error})") from error

    @classmethod
    def load(cls, folder: Path | None) -> "WordNetNouns":
        """Load the database of `folder`, or the best one at hand (see `load_noun_database`)."""
        return cls(load_noun_database(folder, list(nltk.data.path)))

    @property
    def name(self) -> str:
        return f"wordnet-{REQUIRED_VERSION}"

    def resolve(self, label: str) -> Synset:
        label = label.strip()
        if match := _WNID.fullmatch(label):
            _check_noun(label, match[1])
            return self.synset(label)
        if match := _SYNSET_NAME.fullmatch(label.replace(" ", "_").lower()):
            _check_noun(label, match[2])
            return self._resolve_name(label, lemma=match[1], sense=int(match[3]))
        raise UserError(self._candidates_message(label, label, "does not say which synset is meant"))

    def synset(self, synset_id: str) -> Synset:
        with self._lock:
            return _as_synset(self._noun(synset_id))

    def hypernyms(self, synset_id: str) -> tuple[str, ...]:
        with self._lock:
            noun = self._noun(synset_id)
            return tuple(sorted(_wnid(other) for other in noun.hypernyms() + noun.instance_hypernyms()))

    def hyponyms(self, synset_id: str) -> tuple[str, ...]:
        with self._lock:
            noun = self._noun(synset_id)
            return tuple(sorted(_wnid(other) for other in noun.hyponyms() + noun.instance_hyponyms()))

    def _noun(self, wnid: str) -> Any:
        match = _WNID.fullmatch(wnid)
        offset = int(match[2]) if match and match[1] == "n" else 0
        # Asked here, as NLTK answers an offset that starts no line with a warning and None.
        if not offset or not self._nouns.startswith(b"%08d " % offset, offset) or self._nouns[offset - 1] != 0x0A:
            raise UserError(
                f"WordNet {REQUIRED_VERSION} has no noun synset {wnid!r}: a wnid is 'n' and the synset's byte"
                " offset in the 3.0 files, so one taken from WordNet 3.1, 2.1 or elsewhere does not fit;"
                " give a 3.0 wnid or a name such as dog.n.01"
            )
        return self._reader.synset_from_pos_and_offset("n", offset)

    def _resolve_name(self, label: str, lemma: str, sense: int) -> Synset:
        with self._lock:
            if sense > 0:  # NLTK takes .00 for the last sense
                try:
                    return _as_synset(self._reader.synset(f"{lemma}.n.{sense:02d}"))
                except WordNetError:
                    pass
        problem = f"is no synset of WordNet {REQUIRED_VERSION}"
        raise UserError(self._candidates_message(label, lemma, problem))

    def _candidates_message(self, label: str, lemma: str, problem: str) -> str:
        """`label` and its problem, the noun senses of `lemma`, or the words close to it where it has none."""
        lemma = lemma.replace(" ", "_").lower()
        with self._lock:
            senses = self._reader.synsets(lemma, pos="n") if lemma else []
            if not senses:
                hint = close_matches_hint(lemma, self._reader.all_lemma_names("n"))
                return f"{label!r} is no wnid, synset name or noun of WordNet {REQUIRED_VERSION}{hint}"
            shown = ", ".join(
                f"{noun.name()} ({_wnid(noun)}: {shorten(noun.definition(), 60, placeholder=' ...')})"
                for noun in senses[:_MAX_CANDIDATES]
            )
        more = f" and {len(senses) - _MAX_CANDIDATES} more" if len(senses) > _MAX_CANDIDATES else ""
        return f"{label!r} {problem}; candidates: {shown}{more}"


def _check_noun(label: str, part_of_speech: str) -> None:
    if part_of_speech != "n":
        raise UserError(f"{label!r} is not a noun; only WordNet's nouns can label images")


def _wnid(noun: Any) -> str:
    return f"n{noun.offset():08d}"


def _as_synset(noun: Any) -> Synset:
    return Synset(id=_wnid(noun), name=noun.name(), lemmas=tuple(noun.lemma_names()), definition=noun.definition())
