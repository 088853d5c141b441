"""The choices of an analysis, by name. A request names them without loading what computes them."""

from typing import Literal, get_args

AssociationRule = Literal["topk", "rate", "mass"]
"""How classes are associated with latents."""
ASSOCIATION_RULES: tuple[AssociationRule, ...] = get_args(AssociationRule)

ControlBasis = Literal["neuron", "pca", "random", "untrained"]
"""What is scored beside an SAE."""
CONTROL_BASES: tuple[ControlBasis, ...] = get_args(ControlBasis)
"""In the order in which they are scored."""
