"""Interface of a taxonomy: synsets under one root, connected by direct hypernyms."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from textwrap import shorten
from typing import Literal

SenseChoice = Literal["imagenet"]
"""How to choose among several senses of a word: take the one in the hierarchy of ImageNet-1k's classes."""

_MAX_CANDIDATES = 12
_DEFINITION_WIDTH = 60


@dataclass(frozen=True, slots=True)
class Synset:
    """One node of a taxonomy.

    Attributes:
        id: wnid ("n02084071") of a WordNet noun, or the name of a custom node.
        name: name for people ("dog.n.01").
        lemmas: its words, in WordNet's order.
        definition: gloss; empty for custom nodes.
    """

    id: str
    name: str
    lemmas: tuple[str, ...]
    definition: str


class Rule(StrEnum):
    """The rule by which a label was read as a synset; `NAME` is an exact name."""

    NAME = "name"
    WNID_AND_NAME = "wnid and name"
    ONE_SENSE = "one sense"
    COMMON_SENSE = "sense of all words"
    IMAGENET = "ImageNet's sense"


@dataclass(frozen=True, slots=True)
class Interpretation:
    """The meaning of a label: its synset and the rule, or else the problem.

    `candidates` are the synsets that a label without one may mean, and the senses among which ImageNet's was taken.
    """

    synset: Synset | None
    rule: Rule | None = None
    problem: str = ""
    candidates: tuple[Synset, ...] = ()

    @property
    def message(self) -> str:
        """The problem and the candidates in one line."""
        shown = candidates_text(self.candidates, ", ")
        return f"{self.problem}; candidates: {shown}" if shown else self.problem


class Taxonomy(ABC):
    """A rooted directed acyclic graph of synsets; a synset may have several direct hypernyms, and all count."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the taxonomy: "wordnet-3.0", or the stem of a custom tree's CSV."""

    @property
    def namespace(self) -> str:
        """Name under which the catalog stores its nodes; taxonomies with different edges have different namespaces."""
        return self.name

    @property
    def has_senses(self) -> bool:
        """Whether words may have several senses, so that `interpret` accepts `senses`."""
        return False

    @abstractmethod
    def resolve(self, label: str) -> Synset:
        """The synset with an exact name.

        Args:
            label: a wnid ("n02084071"), a synset name ("dog.n.01"), or the name of a node of a custom tree.

        Raises:
            UserError: the label is unknown, or a bare lemma ("crane"); the message lists candidates or similar names.
        """

    @abstractmethod
    def interpret(self, label: str, *, senses: SenseChoice | None = None, hint: bool = True) -> Interpretation:
        """The meaning of the label of a class. Accepts more forms than `resolve`, and reports problems as a value.

        Args:
            label: the label.
            senses: how to choose among several senses of a word.
            hint: whether the problem of an unknown label names similar words; the search takes a tenth of a second.

        Raises:
            UserError: `senses` is given and the names of the taxonomy have no senses.
        """

    @abstractmethod
    def synset(self, synset_id: str) -> Synset:
        """The synset with this id.

        Raises:
            UserError: there is none.
        """

    @abstractmethod
    def hypernyms(self, synset_id: str) -> tuple[str, ...]:
        """Ids of the direct hypernyms, instance hypernyms included, sorted."""

    @abstractmethod
    def hyponyms(self, synset_id: str) -> tuple[str, ...]:
        """Ids of the direct hyponyms, instance hyponyms included, sorted."""


def candidates_text(candidates: tuple[Synset, ...], separator: str) -> str:
    """The first candidates (for WordNet with id and the start of the definition) and the number of further ones."""
    shown = separator.join(
        f"{synset.name} ({synset.id}: {short_definition(synset)})" if synset.definition else synset.name
        for synset in candidates[:_MAX_CANDIDATES]
    )
    more = len(candidates) - _MAX_CANDIDATES
    return f"{shown} and {more} more" if more > 0 else shown


def candidate_lines(candidates: tuple[Synset, ...]) -> list[str]:
    """One line for each of the first candidates, and one with the number of further ones."""
    lines = [
        f"    {synset.name} {synset.id}: {short_definition(synset)}" if synset.definition else f"    {synset.name}"
        for synset in candidates[:_MAX_CANDIDATES]
    ]
    more = len(candidates) - _MAX_CANDIDATES
    return [*lines, f"    and {more} more"] if more > 0 else lines


def short_definition(synset: Synset) -> str:
    """The start of a synset's definition."""
    return shorten(synset.definition, _DEFINITION_WIDTH, placeholder=" ...")


def close_matches_hint(label: str, names: Iterable[str], first: Callable[[str], str] | None = None) -> str:
    """The end of an error message: "; did you mean dog, doggie?", or "" if no name is close.

    Args:
        label: what the user wrote.
        names: what would have been right.
        first: gives what is added to the closest name.
    """
    same_initial = [name for name in names if name[:1] == label[:1]]  # a typo is rarely in the first letter
    matches = difflib.get_close_matches(label, same_initial, n=4, cutoff=0.75)
    if matches and first is not None:
        matches[0] += first(matches[0])
    return f"; did you mean {', '.join(matches)}?" if matches else ""
