"""A user's own taxonomy: a CSV with the columns child,parent."""

import graphlib
import hashlib
import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from hsae.errors import UserError
from hsae.taxonomy.csv_rows import read_csv_rows
from hsae.taxonomy.taxonomy import Interpretation, Rule, SenseChoice, Synset, Taxonomy, close_matches_hint


class CustomTree(Taxonomy):
    """A tree or DAG of named nodes; the id of a node is its name."""

    def __init__(self, name: str, edges: Iterable[tuple[str, str]]) -> None:
        """Make a taxonomy of (child, parent) names.

        Raises:
            UserError: the edges have a cycle, or not exactly one root.
        """
        self._name = name
        parents: dict[str, set[str]] = {}
        children: dict[str, set[str]] = {}
        for child, parent in edges:
            for names in (parents, children):
                names.setdefault(child, set())
                names.setdefault(parent, set())
            parents[child].add(parent)
            children[parent].add(child)
        _check_one_root(name, parents)
        self._hypernyms = {node: tuple(sorted(above)) for node, above in parents.items()}
        self._hyponyms = {node: tuple(sorted(below)) for node, below in children.items()}

    @classmethod
    def from_csv(cls, path: Path) -> "CustomTree":
        """Read a CSV with the header child,parent; the tree is named after the file."""
        rows = read_csv_rows(path, ("child", "parent"))
        return cls(path.stem, ((normalised(row.values[0]), normalised(row.values[1])) for row in rows))

    @property
    def name(self) -> str:
        """See `Taxonomy`."""
        return self._name

    @property
    def namespace(self) -> str:
        """See `Taxonomy`."""
        edges = json.dumps(sorted(self._hypernyms.items()), ensure_ascii=False)
        return f"{self._name}-{hashlib.sha256(edges.encode()).hexdigest()[:12]}"

    def resolve(self, label: str) -> Synset:
        """See `Taxonomy`."""
        found = self.interpret(label)
        if found.synset is None:
            raise UserError(found.message)
        return found.synset

    def interpret(self, label: str, *, senses: SenseChoice | None = None, hint: bool = True) -> Interpretation:
        """See `Taxonomy`."""
        if senses is not None:
            raise UserError(f"the names of the taxonomy {self._name} have no senses to choose from; WordNet's have")
        return self._read(normalised(label.strip()), hint=hint)

    def _read(self, label: str, *, hint: bool) -> Interpretation:
        if label in self._hypernyms:
            return Interpretation(self.synset(label), Rule.NAME)
        return Interpretation(None, problem=self._unknown(label, self._hypernyms if hint else ()))

    def _unknown(self, label: str, close_to: Iterable[str]) -> str:
        hint = close_matches_hint(label, sorted(close_to))
        return f"{label!r} is no node of the taxonomy {self._name}{hint}"

    def synset(self, synset_id: str) -> Synset:
        """See `Taxonomy`."""
        if synset_id not in self._hypernyms:
            raise UserError(self._unknown(synset_id, self._hypernyms))
        return Synset(id=synset_id, name=synset_id, lemmas=(synset_id,), definition="")

    def hypernyms(self, synset_id: str) -> tuple[str, ...]:
        """See `Taxonomy`."""
        return self._hypernyms[self.synset(synset_id).id]

    def hyponyms(self, synset_id: str) -> tuple[str, ...]:
        """See `Taxonomy`."""
        return self._hyponyms[self.synset(synset_id).id]


def normalised(name: str) -> str:
    """Unicode NFC form of a name: file systems and spreadsheets encode accents in different ways."""
    return unicodedata.normalize("NFC", name)


def _check_one_root(name: str, parents: dict[str, set[str]]) -> None:
    try:
        # Sorted, so that the message always names the same cycle.
        graphlib.TopologicalSorter({node: sorted(parents[node]) for node in sorted(parents)}).prepare()
    except graphlib.CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise UserError(f"taxonomy {name}: the nodes form a cycle ({cycle}); remove one of its rows") from error
    roots = sorted(node for node, above in parents.items() if not above)
    if len(roots) != 1:
        shown = ", ".join(roots[:8]) + (", ..." if len(roots) > 8 else "")
        raise UserError(
            f"taxonomy {name}: {len(roots)} nodes have no parent ({shown}) and one root is needed; "
            "add rows that put them under a common parent"
        )
