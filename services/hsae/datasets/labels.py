"""What the labels of a data set stand for, all of them at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hsae.datasets.decision import LabelDecision
from hsae.datasets.mapping import MAPPING_COLUMNS, read_mapping
from hsae.datasets.sources.similar_names import told_apart
from hsae.errors import UserError
from hsae.taxonomy import SenseChoice, Synset, Taxonomy
from hsae.taxonomy.taxonomy import candidate_lines

_HINTS = 10  # words close to an unknown label are looked for so often: each time takes a tenth of a second
_NAMED = 40


class UnresolvedLabelsError(UserError):
    """Labels that name no synset. The message has one with its candidates, or the names of several; details has all."""

    def __init__(self, unresolved: Sequence[LabelDecision], of_all: str, advice: str) -> None:
        """`of_all`: what they are some of, such as "29 labels of /data/images"."""
        self.unresolved = tuple(unresolved)
        if len(unresolved) == 1:
            (only,) = unresolved
            super().__init__(f"{only.where}: {only.meaning.message}; {advice}")
            return
        names = told_apart([decision.label for decision in unresolved], plain=repr)
        shown = ", ".join(names[:_NAMED])
        more = f" and {len(unresolved) - _NAMED} more" if len(unresolved) > _NAMED else ""
        details = []
        for decision, name in zip(unresolved, names, strict=True):
            place = f"{decision.where}: " if decision.is_mapped else ""
            problem = decision.meaning.problem.replace(repr(decision.label), name)
            details += [f"{place}{problem}", *candidate_lines(decision.meaning.candidates)]
        super().__init__(f"{len(unresolved)} of {of_all} do not name one synset: {shown}{more}; {advice}")
        self.details = tuple(details)


def decide(
    where_of: Mapping[str, str], taxonomy: Taxonomy, mapping: Path | None, senses: SenseChoice | None
) -> tuple[LabelDecision, ...]:
    """What each label stands for. `where_of`: where it stands, by label.

    Raises:
        UserError: for a mapping that cannot be used; not for a label without a synset.
    """
    rows = {} if mapping is None else read_mapping(mapping, where_of)
    decisions = []
    n_unknown = 0
    for label, where in where_of.items():
        row = rows.get(label)
        text = label if row is None else row.values[1]
        meaning = taxonomy.interpret(text, senses=senses, hint=n_unknown < _HINTS)
        n_unknown += meaning.synset is None and not meaning.candidates
        place = where if row is None else f"{mapping}, line {row.line}"
        decisions.append(LabelDecision(label, text, place, meaning, row is not None))
    return tuple(decisions)


def synsets_of(
    decisions: Sequence[LabelDecision], taxonomy: Taxonomy, source: str, *, remedy: str, hint: str = ""
) -> dict[str, Synset]:
    """The synset of every label.

    remedy: what to do about one label of the data set at `source`, such as "rename the folder".
    hint: what else may be wrong.

    Raises:
        UnresolvedLabelsError: for all labels that have none.
    """
    unresolved = [decision for decision in decisions if decision.meaning.synset is None]
    if unresolved:
        advice = "; ".join([*_advice(unresolved, taxonomy, remedy), *([hint] if hint else [])])
        raise UnresolvedLabelsError(unresolved, f"{len(decisions)} labels of {source}", advice)
    return {decision.label: decision.meaning.synset for decision in decisions if decision.meaning.synset is not None}


def _advice(unresolved: Sequence[LabelDecision], taxonomy: Taxonomy, remedy: str) -> list[str]:
    n_own = sum(not decision.is_mapped for decision in unresolved)
    advice = ["correct the mapping"] if n_own < len(unresolved) else []
    if n_own:
        advice.append(f"{remedy}, or map it to a synset" if n_own == 1 else f"{remedy}s, or map them to synsets")
        advice[-1] += (
            f" with a CSV of {','.join(MAPPING_COLUMNS)} (`hsae-admin dataset add NAME PATH --write-mapping labels.csv`"
            " writes one to fill in)"
        )
    ambiguous = [decision.text for decision in unresolved if len(decision.meaning.candidates) > 1]
    if taxonomy.has_senses:
        n_decided = sum(taxonomy.interpret(text, senses="imagenet").synset is not None for text in ambiguous)
        if n_decided:
            advice.append(f"--senses imagenet would decide {'it' if len(unresolved) == 1 else n_decided}")
    return advice
