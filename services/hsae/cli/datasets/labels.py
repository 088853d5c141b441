"""How the labels of a data set were resolved: the decisions of rules, and the CSV in which a person decides."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hsae.cli.framework.connections import Connections
from hsae.cli.printing.output import print_json
from hsae.datasets import LabelDecision, decide_labels, local_path, resolved, write_mapping
from hsae.taxonomy import Rule, Synset, load_taxonomy
from hsae.taxonomy.taxonomy import short_definition

_NAMED = 12


def draft_mapping(
    connections: Connections,
    name: str,
    location: str,
    draft: Path,
    *,
    as_json: bool,
    taxonomy: Path | None = None,
    **labelling: Any,
) -> None:
    """Write the mapping with all labels that are clear, and print what is left to fill in."""
    loaded = load_taxonomy(taxonomy, wordnet=connections.settings.wordnet)
    decisions = decide_labels(resolved(location), loaded, **labelling)
    write_mapping(draft, decisions)
    if as_json:
        print_json({"mapping": str(draft), "labels": labels_json(decisions)})
        return
    unclear = [decision.label for decision in decisions if decision.meaning.synset is None]
    click.echo(f"Wrote {draft}: {len(decisions) - len(unclear)} of {len(decisions)} labels have their synset.")
    if unclear:
        more = f" and {len(unclear) - _NAMED} more" if len(unclear) > _NAMED else ""
        click.echo(
            f"Fill in the column synset of the others, the first rows ({', '.join(unclear[:_NAMED])}{more}): candidates"
            " stand beside them."
        )
    click.echo("Look over the rest: the column rule says how each was read, definition what it means. Then:")
    command = ["hsae-admin", "dataset", "add", name, str(local_path(location) or location), "--mapping", str(draft)]
    click.echo(f"  {shlex.join(command + ([] if taxonomy is None else ['--taxonomy', str(taxonomy)]))}")


def print_decisions(decisions: Sequence[LabelDecision], *, err: bool = False) -> None:
    """Print a line for each label whose synset a rule chose, so that a wrong sense is seen.

    A label of a wnid and a name that fits its synset cannot be wrong; of these only the number is printed.
    """
    rows = [
        (decision.label, decision.meaning.synset.name, decision.meaning.rule, short_definition(decision.meaning.synset))
        for decision in decisions
        if decision.is_by_rule and decision.meaning.synset and decision.meaning.rule is not Rule.WNID_AND_NAME
    ]
    if rows:
        click.echo("Read by rule (for other synsets: --write-mapping labels.csv, then --mapping labels.csv):", err=err)
        widths = [max(len(str(row[column])) for row in rows) for column in range(3)]
        for row in rows:
            fields = "  ".join(str(field).ljust(width) for field, width in zip(row, widths, strict=False))
            click.echo(f"  {fields}  {row[3]}", err=err)
    n_wnids = sum(decision.meaning.rule is Rule.WNID_AND_NAME for decision in decisions)
    if n_wnids:
        what = (
            "label was read by the wnid in front of its name, and both agree"
            if n_wnids == 1
            else ("labels were read by the wnids in front of their names, and all agree")
        )
        click.echo(f"{n_wnids} {what}.", err=err)


def labels_json(decisions: Sequence[LabelDecision]) -> list[dict[str, Any]]:
    """The synset of every label and the rule that chose it; for a label without a synset its candidates."""
    return [
        {
            "label": decision.label,
            "read": decision.text,
            "mapped": decision.is_mapped,
            "rule": None if decision.meaning.rule is None else str(decision.meaning.rule),
            **_synset_json(decision.meaning.synset),
            "candidates": [_synset_json(synset) for synset in decision.meaning.candidates],
        }
        for decision in decisions
    ]


def _synset_json(synset: Synset | None) -> dict[str, str | None]:
    values = (None, None, None) if synset is None else (synset.id, synset.name, synset.definition)
    return dict(zip(("wnid", "synset", "definition"), values, strict=True))
