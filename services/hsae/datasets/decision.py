"""How one label of a data set was resolved."""

from dataclasses import dataclass

from hsae.taxonomy import Interpretation, Rule


@dataclass(frozen=True, slots=True)
class LabelDecision:
    """How one label was resolved.

    Attributes:
        label: the label.
        text: what was resolved: the label itself, or the mapping's entry for it.
        where: where the text stands, for messages.
        meaning: the synset and the rule that gave it, or the candidates.
        is_mapped: whether a mapping has the label.
    """

    label: str
    text: str
    where: str
    meaning: Interpretation
    is_mapped: bool

    @property
    def is_by_rule(self) -> bool:
        """Whether a rule chose the synset, so that a person should check it."""
        return self.meaning.rule not in {None, Rule.NAME}
