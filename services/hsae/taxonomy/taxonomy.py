"""What a taxonomy is: synsets under one root, every one reachable through its direct hypernyms."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from textwrap import shorten
from typing import Literal

SenseChoice = Literal["imagenet"]
"""Which sense of a word with several is meant: the one in the hierarchy of ImageNet-1k's classes."""

_MAX_CANDIDATES = 12
_DEFINITION_WIDTH = 60


@dataclass(frozen=True, slots=True)
class Synset:
    """One node of a taxonomy.

    `id` is the wnid ("n02084071") of a WordNet noun, or a custom node's own name; `name` is what people read
    ("dog.n.01"); `lemmas` are its words, the first one first; `definition` is empty for custom nodes.
    """

    id: str
    name: str
    lemmas: tuple[str, ...]
    definition: str


class Rule(StrEnum):
    """By what a label was taken for its synset; with `NAME` nothing had to be decided."""

    NAME = "name"
    WNID_AND_NAME = "wnid and name"
    ONE_SENSE = "one sense"
    IMAGENET = "ImageNet's sense"


@dataclass(frozen=True, slots=True)
class Interpretation:
    """What a label means: its synset and by which rule, or what the problem is and which synsets may be meant."""

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
    """A rooted directed acyclic graph of synsets: one may have several direct hypernyms, and all count."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the taxonomy is called: "wordnet-3.0", or the stem of a custom tree's CSV."""

    @property
    def namespace(self) -> str:
        """The name under which its nodes are kept; two taxonomies with different edges never share one."""
        return self.name

    @property
    def has_senses(self) -> bool:
        """Whether a word may have several senses, of which `interpret` can be told to take a certain one."""
        return False

    @abstractmethod
    def resolve(self, label: str) -> Synset:
        """The synset that a label names.

        A label is a wnid ("n02084071") or a synset name ("dog.n.01"), or a node's name in a custom tree. A
        bare lemma ("crane") does not say which sense is meant: the `UserError` lists the candidates. So does
        the one for an unknown label, where any name is close to it.
        """

    @abstractmethod
    def interpret(self, label: str, *, senses: SenseChoice | None = None, hint: bool = True) -> Interpretation:
        """What the label of a data set's class means; unlike `resolve` no error, and in WordNet by more rules.

        senses: which sense of a word that has several.
        hint: whether the problem with an unknown label names words close to it, which takes a tenth of a second.

        Raises:
            UserError: `senses` of a taxonomy whose names have no senses.
        """

    @abstractmethod
    def synset(self, synset_id: str) -> Synset:
        """The synset with this id; `UserError` where there is none."""

    @abstractmethod
    def hypernyms(self, synset_id: str) -> tuple[str, ...]:
        """Ids of the direct hypernyms, instance hypernyms included, sorted."""

    @abstractmethod
    def hyponyms(self, synset_id: str) -> tuple[str, ...]:
        """Ids of the direct hyponyms, instance hyponyms included, sorted."""


def candidates_text(candidates: tuple[Synset, ...], separator: str) -> str:
    """The first candidates, of WordNet with id and the start of the definition, and how many more there are."""
    shown = separator.join(
        f"{synset.name} ({synset.id}: {short_definition(synset)})" if synset.definition else synset.name
        for synset in candidates[:_MAX_CANDIDATES]
    )
    more = len(candidates) - _MAX_CANDIDATES
    return f"{shown} and {more} more" if more > 0 else shown


def candidate_lines(candidates: tuple[Synset, ...]) -> list[str]:
    """A line for each of the first candidates, and one for the number of the others."""
    lines = [
        f"    {synset.name} {synset.id}: {short_definition(synset)}" if synset.definition else f"    {synset.name}"
        for synset in candidates[:_MAX_CANDIDATES]
    ]
    more = len(candidates) - _MAX_CANDIDATES
    return [*lines, f"    and {more} more"] if more > 0 else lines


def short_definition(synset: Synset) -> str:
    """The start of a synset's definition."""
    return shorten(synset.definition, _DEFINITION_WIDTH, placeholder=" ...")


def close_matches_hint(label: str, names: Iterable[str]) -> str:
    """The end of an error message: "; did you mean dog, doggie?", or nothing where no name is close."""
    alike = [name for name in names if name[:1] == label[:1]]  # who mistypes gets the first letter right
    matches = difflib.get_close_matches(label, alike, n=4, cutoff=0.75)
    return f"; did you mean {', '.join(matches)}?" if matches else ""
