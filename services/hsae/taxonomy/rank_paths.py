"""A taxonomy of rank paths, such as kingdom to species: a CSV of ranks, or class folders named by their path."""

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hsae.errors import UserError
from hsae.system_files import is_system_folder
from hsae.taxonomy.csv_rows import iterate_csv
from hsae.taxonomy.custom_tree import CustomTree, normalised
from hsae.taxonomy.taxonomy import Interpretation, Rule, Synset, close_matches_hint

ROOT = "root"
"""Name of the root that is added if the coarsest rank has more than one name."""

CSV_HEADERS = "child,parent, or ranks from coarse to fine such as kingdom,family,species"

_OTHER_CSVS = ({"path", "label"}, {"folder", "synset"})  # the images of a data set, and the mapping of their labels
_NUMBER = re.compile(r"^\d+_")
_EXAMPLE_FOLDER = "00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris"


class RankPaths(CustomTree):
    """A tree whose nodes are paths: the same name under two parents makes two nodes.

    The id of a node joins the names from the coarsest rank down to it with "/": `Animalia/Chordata/Aves`.
    """

    def __init__(self, name: str, paths: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        """Make a taxonomy of rank paths.

        Args:
            name: name of the taxonomy.
            paths: for each row, its location (for error messages) and its names by rank, from coarse to fine. A blank
                name is a missing rank and skipped; at least one name of a row is not blank.

        Raises:
            UserError: a name contains "/", a path has two ranks, a top name equals `ROOT` although a root is added, or
                there is no edge.
        """
        self._rows: set[str] = set()
        rank_of: dict[str, int] = {}
        edges: list[tuple[str, str]] = []
        for where, names in paths:
            node = ""
            for rank, part in enumerate(map(normalised, names), start=1):
                if not part:
                    continue
                if "/" in part:
                    raise UserError(
                        f"{where}: {part!r} holds a /, which separates the names of a path; write it otherwise"
                    )
                above, node = node, f"{node}/{part}" if node else part
                if rank_of.setdefault(node, rank) != rank:
                    raise UserError(
                        f"{where}: {node} is of rank {rank} here and of rank {rank_of[node]} in an earlier row; "
                        "put the name in one column"
                    )
                if above:
                    edges.append((node, above))
            self._rows.add(node)
        tops = [node for node in rank_of if "/" not in node]
        if len(tops) > 1:
            if ROOT in tops:
                raise UserError(f"taxonomy {name}: {ROOT!r} is kept for the node above all; rename the one of your own")
            edges += [(top, ROOT) for top in tops]
        if not edges:
            raise UserError(f"taxonomy {name}: holds {tops[0]} and no other node; give two names or more")
        super().__init__(name, edges)
        self._by_end: dict[str, list[str]] = {}
        for node in sorted({ROOT, *rank_of} if len(tops) > 1 else rank_of):
            parts = node.split("/")
            for first in range(len(parts)):
                self._by_end.setdefault(_key("_".join(parts[first:])), []).append(node)

    @classmethod
    def from_csv(cls, path: Path) -> "RankPaths":
        """Read a CSV whose columns are ranks from coarse to fine; the taxonomy is named after the file."""
        table = iterate_csv(path, CSV_HEADERS)
        header = next(table).values
        _check_header(path, header)
        rows = [(f"{path}, line {row.line}", row.values) for row in table]
        if not rows:
            raise UserError(f"{path}: holds a header and no rows")
        for where, names in rows:
            for column in header:
                if column in names:
                    raise UserError(
                        f"{where}: {column!r} is the name of a column as well; the first line must be a header, "
                        f"{CSV_HEADERS}"
                    )
        return cls(path.stem, rows)

    @classmethod
    def from_folder(cls, folder: Path) -> "RankPaths":
        """Read paths from names of class folders, as in iNaturalist 2021; the taxonomy is named after the folder."""
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir() and not is_system_folder(entry.name))
        except OSError as error:
            raise UserError(f"{folder}: cannot be read ({error.strerror})") from error
        if not names:
            raise UserError(f"{folder}: holds no class folders named like {_EXAMPLE_FOLDER}")
        paths = [(f"class folder {name!r} of {folder}", tuple(_NUMBER.sub("", name).split("_"))) for name in names]
        for name, (where, path) in zip(names, paths, strict=True):
            if not _NUMBER.match(name) or sum(map(bool, path)) < 2:
                raise UserError(
                    f"{where}: its name carries no path of ranks such as {_EXAMPLE_FOLDER}; give a CSV as the taxonomy "
                    f"instead ({CSV_HEADERS})"
                )
        return cls(folder.resolve().name, paths)

    def _read(self, label: str, *, hint: bool) -> Interpretation:
        """The node whose path ends with `label`: its last name, or its last names joined by "/", "_" or a space.

        A leading number, as in iNaturalist's folders, is ignored. If several nodes match, a node that is a row of the
        CSV is preferred, then a node whose whole path matches.
        """
        for end in (label, _NUMBER.sub("", label)):
            key = _key(end)
            nodes = self._by_end.get(key, [])
            for is_meant in (self._rows.__contains__, lambda node, key=key: _key(node) == key, end.__eq__):
                nodes = list(filter(is_meant, nodes)) or nodes
            if len(nodes) == 1:
                return Interpretation(self.synset(nodes[0]), Rule.NAME)
            if nodes:
                problem = f"{label!r} does not say which node of the taxonomy {self.name} is meant"
                return Interpretation(None, problem=problem, candidates=tuple(map(self.synset, nodes)))
        close = close_matches_hint(key, sorted(self._by_end)) if hint else ""
        return Interpretation(None, problem=f"{label!r} is no node of the taxonomy {self.name}{close}")

    def synset(self, synset_id: str) -> Synset:
        """See `Taxonomy`."""
        return replace(super().synset(synset_id), lemmas=(synset_id.rpartition("/")[2],))


def _key(end: str) -> str:
    """Canonical form of the end of a path."""
    return re.sub(r"[ _/]+", "_", end).strip("_")


def _check_header(path: Path, header: tuple[str, ...]) -> None:
    if len(header) < 2:
        problem = "names one column"
    elif not all(header):
        problem = "leaves a column without a name"
    elif len(set(header)) < len(header):
        problem = "names a column twice"
    elif {name.lower() for name in header} in _OTHER_CSVS:
        problem = "is that of a data set's labels"
    else:
        return
    raise UserError(
        f"{path}: is no taxonomy, since its header {problem} (found: {', '.join(header)}); it needs {CSV_HEADERS}, "
        "separated by commas"
    )
