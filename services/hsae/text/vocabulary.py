"""Words that name latents: the nodes of a taxonomy, or a list in a file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from hsae.errors import UserError
from hsae.taxonomy import InducedTaxonomy, Synset
from hsae.text.config import MAX_WORDS

_MAX_LEMMAS = 8
"""Of a node; some have dozens of names that nobody uses."""
_COMMENT = "#"


@dataclass(frozen=True, slots=True)
class Entry:
    """One possible name.

    Attributes:
        word: what a latent is called.
        synonyms: words that mean the same, `word` among them; the entry's embedding is the mean of theirs.
        gloss: a definition; empty: none.
        node: the taxonomy's node that it names; -1: none, or several.
    """

    word: str
    synonyms: tuple[str, ...]
    gloss: str
    node: int

    def texts(self, templates: Sequence[str]) -> list[str]:
        """Every synonym in every template; those with a gloss only where there is one."""
        return [
            template.replace("{}", synonym).replace("{gloss}", self.gloss)
            for synonym in self.synonyms
            for template in templates
            if self.gloss or "{gloss}" not in template
        ]


Vocabulary = tuple[Entry, ...]


def nodes_of(vocabulary: Vocabulary) -> Int64[np.ndarray, "n"]:
    """The node of every entry; -1: none."""
    return np.array([entry.node for entry in vocabulary], np.int64)


def taxonomy_vocabulary(taxonomy: InducedTaxonomy) -> Vocabulary:
    """An entry for every node: its lemmas with its gloss, called by the first of them."""
    return tuple(entry_of(synset, node) for node, synset in enumerate(taxonomy.synsets))


def entry_of(synset: Synset, node: int) -> Entry:
    """The entry of a node."""
    lemmas = tuple(dict.fromkeys(_plain(lemma) for lemma in synset.lemmas[:_MAX_LEMMAS])) or (_plain(synset.name),)
    return Entry(lemmas[0], lemmas, synset.definition, node)


def listed_vocabulary(words: Sequence[str], taxonomy: InducedTaxonomy) -> Vocabulary:
    """An entry for every word of a list; it names a node whose id, name or only lemma it is."""
    owners: dict[str, set[int]] = {}
    for node, synset in enumerate(taxonomy.synsets):
        for name in (synset.id, synset.name, *synset.lemmas):
            owners.setdefault(_plain(name).casefold(), set()).add(node)
    found = []
    for word in words:
        meant = owners.get(_plain(word).casefold(), set())
        found.append(Entry(word, (_plain(word),), "", next(iter(meant)) if len(meant) == 1 else -1))
    return tuple(found)


def known_entries(vocabulary: Vocabulary, knows: Callable[[str], bool], model: str) -> Vocabulary:
    """The entries of which the tokenizer knows a word, without the synonyms that it does not know.

    Raises:
        UserError: fewer than two are left: nothing would be the runner-up.
    """
    found = []
    for entry in vocabulary:
        synonyms = tuple(synonym for synonym in entry.synonyms if knows(synonym))
        if synonyms:
            word = entry.word if _plain(entry.word) in synonyms else synonyms[0]
            found.append(Entry(word, synonyms, entry.gloss, entry.node))
    if not found:
        shown = ", ".join(entry.word for entry in vocabulary[:3])
        raise UserError(
            f"{model} knows no word of the vocabulary ({shown}...): give words in the language of the model"
        )
    if len(found) < 2:
        raise UserError(f"{model} knows one word of the vocabulary, {found[0].word}: give at least two to choose from")
    return tuple(found)


def read_words(path: Path) -> tuple[str, ...]:
    """The words of a text file, a word a line, each once; empty lines and those that begin with # are left out.

    Raises:
        UserError: the file cannot be read, is no text, or has fewer than two words or too many.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(
            f"the vocabulary {path} cannot be read ({error.strerror}): give wordnet or a text file"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"the vocabulary {path} is no text in UTF-8: give a file with a word a line") from error
    words = dict.fromkeys(" ".join(line.split()) for line in lines)
    kept = tuple(word for word in words if word and not word.startswith(_COMMENT))
    if len(kept) < 2:
        problem = "is empty" if not kept else f"has one word alone, {kept[0]}"
        raise UserError(f"the vocabulary {path} {problem}: write at least two words, a word a line")
    if len(kept) > MAX_WORDS:
        raise UserError(f"the vocabulary {path} has {len(kept)} words, more than {MAX_WORDS}: give fewer")
    return kept


def _plain(word: str) -> str:
    return word.replace("_", " ").strip()
