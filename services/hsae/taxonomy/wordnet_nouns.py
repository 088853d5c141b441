"""WordNet's nouns through NLTK, as a `Taxonomy`."""

import io
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import nltk.data
from nltk.corpus.reader import CorpusReader
from nltk.corpus.reader.wordnet import WordNetCorpusReader, WordNetError
from nltk.corpus.util import LazyCorpusLoader
from nltk.data import PathPointer

from hsae.errors import UserError
from hsae.taxonomy.imagenet import imagenet_nodes
from hsae.taxonomy.taxonomy import Interpretation, SenseChoice, Synset, Taxonomy
from hsae.taxonomy.wordnet_database import REQUIRED_VERSION, NounDatabase, load_noun_database
from hsae.taxonomy.wordnet_labels import WNID, read_label, read_name


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

    @property
    def has_senses(self) -> bool:
        return True

    def resolve(self, label: str) -> Synset:
        found = read_name(self, label)
        if found.synset is None:
            raise UserError(found.message)
        return found.synset

    def interpret(self, label: str, *, senses: SenseChoice | None = None, hint: bool = True) -> Interpretation:
        return read_label(self, label, senses, hint=hint)

    def named(self, lemma: str, sense: int) -> Synset | None:
        """The synset called `lemma.n.sense`, by whichever of its lemmas."""
        if sense < 1:  # NLTK takes .00 for the last sense
            return None
        with self._lock:
            try:
                return _as_synset(self._reader.synset(f"{lemma}.n.{sense:02d}"))
            except WordNetError:
                return None

    def senses(self, word: str) -> tuple[Synset, ...]:
        """The senses of a word in lower case, its parts joined as in WordNet; of a plural also its singular's."""
        with self._lock:
            return tuple(_as_synset(noun) for noun in self._reader.synsets(word, pos="n"))

    def lemmas(self) -> Iterator[str]:
        """Every word, in lower case."""
        with self._lock:
            yield from self._reader.all_lemma_names("n")

    @cached_property
    def imagenet_nodes(self) -> frozenset[str]:
        """The wnids of ImageNet-1k's classes and of all their hypernyms."""
        return imagenet_nodes(self)

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
        match = WNID.fullmatch(wnid)
        offset = int(match[2]) if match and match[1] == "n" else 0
        # Asked here, as NLTK answers an offset that starts no line with a warning and None.
        if not offset or not self._nouns.startswith(b"%08d " % offset, offset) or self._nouns[offset - 1] != 0x0A:
            raise UserError(
                f"WordNet {REQUIRED_VERSION} has no noun synset {wnid!r}: a wnid is 'n' and the synset's byte"
                " offset in the 3.0 files, so one taken from WordNet 3.1, 2.1 or elsewhere does not fit;"
                " give a 3.0 wnid or a name such as dog.n.01"
            )
        return self._reader.synset_from_pos_and_offset("n", offset)


def _wnid(noun: Any) -> str:
    return f"n{noun.offset():08d}"


def _as_synset(noun: Any) -> Synset:
    return Synset(id=_wnid(noun), name=noun.name(), lemmas=tuple(noun.lemma_names()), definition=noun.definition())
