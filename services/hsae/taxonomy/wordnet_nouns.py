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
    """A corpus root whose files are byte strings; a missing file reads as empty.

    NLTK's reader opens the files of all four parts of speech; empty files suffice for those other than nouns.
    """

    def __init__(self, files: Mapping[str, bytes], name: str = "") -> None:
        self._files = files
        self._name = name

    def open(self, encoding: str | None = None) -> TextIO:
        # newline="\n": offsets count bytes, so line ends must not be translated.
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
        # The argument that NLTK itself passes; it is loaded at the first look-up in another language, so never here.
        multilingual = LazyCorpusLoader("omw-2.0", CorpusReader, r".*/wn-data-.*\.tab", encoding="utf8")
        super().__init__(self._files, multilingual)

    def open(self, file: str) -> TextIO:
        # NLTK's own method checks a path on disk against its sandbox; there is no path here.
        return self._files.join(file).open(self._ENCODING)

    def map_wn(self, version: str = "wordnet") -> None:
        # Needed only for multilingual data; it would need all parts of speech and index.sense.
        return None

    def get_version(self) -> str:
        # NLTK's method reads it from the adjectives.
        return REQUIRED_VERSION


class WordNetNouns(Taxonomy):
    """The 82,115 noun synsets of WordNet 3.0, under entity.n.01.

    Safe to use from several threads: NLTK's reader seeks in one shared stream, hence the lock.
    """

    def __init__(self, database: NounDatabase) -> None:
        """Parse the database.

        Raises:
            UserError: NLTK cannot parse it.
        """
        self._lock = threading.RLock()
        self._nouns = database.files["data.noun"]
        try:
            self._reader = _NounReader(database)
        except (WordNetError, ValueError, IndexError, StopIteration, AssertionError) as error:
            raise UserError(f"{database.origin}: is no sound WordNet database ({error})") from error

    @classmethod
    def load(cls, folder: Path | None) -> "WordNetNouns":
        """Load the database of `folder`, or the best available one (see `load_noun_database`)."""
        return cls(load_noun_database(folder, list(nltk.data.path)))

    @property
    def name(self) -> str:
        """See `Taxonomy`."""
        return f"wordnet-{REQUIRED_VERSION}"

    @property
    def has_senses(self) -> bool:
        """See `Taxonomy`."""
        return True

    def resolve(self, label: str) -> Synset:
        """See `Taxonomy`."""
        found = read_name(self, label)
        if found.synset is None:
            raise UserError(found.message)
        return found.synset

    def interpret(self, label: str, *, senses: SenseChoice | None = None, hint: bool = True) -> Interpretation:
        """See `Taxonomy`."""
        return read_label(self, label, senses, hint=hint)

    def named(self, lemma: str, sense: int) -> Synset | None:
        """The synset with the name `lemma.n.sense`, for any of its lemmas; None if there is none."""
        if sense < 1:  # NLTK reads .00 as the last sense
            return None
        with self._lock:
            try:
                return _as_synset(self._reader.synset(f"{lemma}.n.{sense:02d}"))
            except WordNetError:
                return None

    def senses(self, word: str) -> tuple[Synset, ...]:
        """The senses of a lower-case word, its parts joined as in WordNet; for a plural also those of the singular."""
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
        """See `Taxonomy`."""
        with self._lock:
            return _as_synset(self._noun(synset_id))

    def hypernyms(self, synset_id: str) -> tuple[str, ...]:
        """See `Taxonomy`."""
        with self._lock:
            noun = self._noun(synset_id)
            return tuple(sorted(_wnid(other) for other in noun.hypernyms() + noun.instance_hypernyms()))

    def hyponyms(self, synset_id: str) -> tuple[str, ...]:
        """See `Taxonomy`."""
        with self._lock:
            noun = self._noun(synset_id)
            return tuple(sorted(_wnid(other) for other in noun.hyponyms() + noun.instance_hyponyms()))

    def _noun(self, wnid: str) -> Any:
        match = WNID.fullmatch(wnid)
        offset = int(match[2]) if match and match[1] == "n" else 0
        # Checked here, because NLTK returns None with a warning for an offset that starts no line.
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
