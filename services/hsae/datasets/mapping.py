"""The CSV folder,synset that says what labels stand for: read from the user, or written for the user to edit."""

import csv
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hsae.datasets.decision import LabelDecision
from hsae.errors import UserError
from hsae.taxonomy.csv_rows import CsvRow, read_csv_rows
from hsae.taxonomy.taxonomy import candidates_text

MAPPING_COLUMNS = ("folder", "synset")
_COLUMNS_TO_READ = ("rule", "definition", "candidates")  # ignored when the file is read again
_LISTED = 8


def read_mapping(mapping: Path, labels: Iterable[str]) -> Mapping[str, CsvRow]:
    """The row (folder and synset) of each of `labels` that the mapping lists.

    Rows for other labels are allowed in a mapping that covers all of `labels`, such as one for a larger data set.

    Raises:
        UserError: the mapping cannot be read; or a label is not covered while a row is for an unknown label, which may
            be a misspelling of it.
    """
    labels = tuple(labels)
    present = {_key(label): label for label in labels}
    rows = read_csv_rows(mapping, MAPPING_COLUMNS)
    first: dict[str, CsvRow] = {}
    contradictions = []
    for row in rows:
        written = _key(row.written[0])
        label = written if written in present else _key(row.values[0])
        earlier = first.setdefault(label, row)
        if earlier.values[1] != row.values[1]:
            contradictions.append(f"line {row.line}: {label!r} is already mapped to {earlier.values[1]!r}")
    if contradictions:
        raise UserError(f"{mapping}, {'; '.join(contradictions)}")
    unmapped = [label for key, label in present.items() if key not in first]
    unused = [row for key, row in first.items() if key not in present]
    if unmapped and unused:
        others = f", nor {_names(unmapped[1:])}" if unmapped[1:] else ""
        raise UserError(
            f"{mapping}, line {unused[0].line}: the data set has no {_names([row.values[0] for row in unused])}, and "
            f"{unmapped[0]!r} is not mapped{others}; correct the row or delete it"
        )
    return {label: first[_key(label)] for label in labels if _key(label) in first}  # two may differ in form alone


def write_mapping(mapping: Path, decisions: Sequence[LabelDecision]) -> None:
    """Write the CSV with the synsets that are known.

    Rows that need to be completed come first, then those of words with several senses, each with its candidates.

    Raises:
        UserError: the file exists, as it may have been edited, or cannot be written.
    """
    try:
        with mapping.open("x", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow((*MAPPING_COLUMNS, *_COLUMNS_TO_READ))
            for decision in sorted(decisions, key=_certainty):
                meaning, synset = decision.meaning, decision.meaning.synset
                found = candidates_text(meaning.candidates, " | ")
                if synset is None:
                    writer.writerow((decision.label, "", "", "", found or meaning.problem))
                else:
                    writer.writerow((decision.label, synset.name, meaning.rule, synset.definition, found))
    except FileExistsError as error:
        raise UserError(f"{mapping}: exists; edit it and give it as --mapping, or choose another name") from error
    except OSError as error:
        raise UserError(f"{mapping}: cannot be written ({error.strerror})") from error


def _certainty(decision: LabelDecision) -> int:
    """0: a person must decide; 1: a rule decided among several senses; 2: there was nothing to decide."""
    return 0 if decision.meaning.synset is None else 1 if decision.meaning.candidates else 2


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(repr, names[:_LISTED])) + more


def _key(label: str) -> str:
    """One form for equal labels: file systems and spreadsheets encode accents differently."""
    return unicodedata.normalize("NFC", label)
