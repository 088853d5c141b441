"""What a taxonomy is: synsets under one root, every one reachable through its direct hypernyms."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass


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

    @abstractmethod
    def resolve(self, label: str) -> Synset:
        """The synset that a label names.

        A label is a wnid ("n02084071") or a synset name ("dog.n.01"), or a node's name in a custom tree. A
        bare lemma ("crane") does not say which sense is meant: the `UserError` lists the candidates. So does
        the one for an unknown label, where any name is close to it.
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


def close_matches_hint(label: str, names: Iterable[str]) -> str:
    """The end of an error message: "; did you mean dog, doggie?", or nothing where no name is close."""
    alike = [name for name in names if name[:1] == label[:1]]  # who mistypes gets the first letter right
    matches = difflib.get_close_matches(label, alike, n=4, cutoff=0.75)
    return f"; did you mean {', '.join(matches)}?" if matches else ""
