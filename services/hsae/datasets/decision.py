"""What one label of a data set was taken for."""

from dataclasses import dataclass

from hsae.taxonomy import Interpretation, Rule


@dataclass(frozen=True, slots=True)
class LabelDecision:
    """What one label stands for.

    text: what was read: the label itself, or what the mapping has for it.
    where: where the text stands, for messages.
    """

    label: str
    text: str
    where: str
    meaning: Interpretation
    is_mapped: bool

    @property
    def is_by_rule(self) -> bool:
        """Whether its synset was decided on, so that a person should look at it."""
        return self.meaning.rule not in {None, Rule.NAME}
