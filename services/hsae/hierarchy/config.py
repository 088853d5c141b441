"""The choices of an analysis, by name. A request names them without loading what computes them."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, field_validator

from hsae.frozen_model import FrozenModel
from hsae.vocabulary.bases import BASELINES, CONTROL_BASES, Basis, ControlBasis

AssociationRule = Literal["topk", "rate", "mass"]
"""How classes are associated with latents."""
ASSOCIATION_RULES: tuple[AssociationRule, ...] = get_args(AssociationRule)

EdgeSource = Literal["activation", "taxonomy"]
"""What names a pair of parent and child latents."""
EDGE_SOURCES: tuple[EdgeSource, ...] = get_args(EdgeSource)

_BASELINES = tuple(basis for basis in CONTROL_BASES if basis in BASELINES)
"""In the order of a key."""
ABSORPTION_BASES: tuple[Basis, ...] = ("sae", "shuffled_taxonomy")
"""For which absorption is measured."""
MIN_INNER_CLASSES = 3
"""A node with at least this many classes counts as an inner node: it is neither a class nor a pair."""
MIN_PURE_CLASSES = 100
"""Classes that carry purity, without which its mean has no interval.

A class does if some latent has two of its images among its strongest. With few such classes the mean rests on a few
lucky pairs of images, and where luck is absent, so are the value and the spread of its replicates. How many classes
have two scored images says too little: in a large data set with few of them, or with similar latents, no latent may
have two of a class. Ours; docs/metrics.md has the measurements.
"""


def _as_text(value: object) -> object:
    """A number as its digits, since YAML reads them so."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class ScoringConfig(FrozenModel):
    """How latents are scored against the taxonomy; every field changes the scores."""

    threshold: float = Field(default=0.0, ge=0, description="a latent fires where its activation exceeds this")
    association: AssociationRule = Field(default="topk", description="rule that associates classes with latents")
    seed: int = Field(
        default=0,
        ge=0,
        le=32_000,  # with the shuffles added it is a smallint of the catalog
        description="seed of the shuffles, the random directions and clusters",
    )
    n_shuffles: int = Field(default=2, ge=0, le=100, description="shuffles of the labels, and as many of the taxonomy")
    n_replicates: int = Field(
        default=100, ge=0, le=10_000, description="replicates without a fifth of the classes, from which intervals come"
    )
    n_tree_shuffles: int = Field(
        default=99,
        ge=0,
        le=10_000,
        description="permutations of the classes over the tree, the null of headline numbers",
    )
    controls: tuple[ControlBasis, ...] = Field(default=_BASELINES, description="bases that are scored beside the SAE")
    n_random: int = Field(default=5, ge=1, le=100, description="draws of the control random, with one seed each")
    embeddings: Annotated[str, BeforeValidator(_as_text)] = Field(
        default="last",
        min_length=1,
        description="monosemanticity compares images by: the last layer's class token (last), the analysed layer (own)"
        " or an activation set (its number or key)",
    )

    def key_fields(self) -> dict[str, Any]:
        """The fields that a key is made of; one that did not exist before is left out where it changes nothing."""
        left_out = {"embeddings", *(name for name in ("n_replicates", "n_tree_shuffles") if not getattr(self, name))}
        if self.n_random == 1 or "random" not in self.controls:
            left_out.add("n_random")
        return self.model_dump(mode="json", exclude=left_out)

    @field_validator("controls")
    @classmethod
    def _in_one_order(cls, controls: tuple[ControlBasis, ...]) -> tuple[ControlBasis, ...]:
        """The same controls have the same key, however they are listed."""
        return tuple(control for control in CONTROL_BASES if control in controls)


class ComparisonConfig(FrozenModel):
    """How the analyses of a study are compared; every field changes the intervals."""

    confidence: float = Field(
        default=0.95, gt=0, lt=1, description="share of repetitions whose interval holds the value"
    )


class ProbeConfig(FrozenModel):
    """How a layer's raw activations are probed for classes; every field changes the scores."""

    seed: int = Field(
        default=0, ge=0, le=2**31, description="seed of the split of the images and of the shuffled taxonomies"
    )
    n_neighbours: int = Field(
        default=20, ge=1, le=1000, description="nearest training images that vote; at most those of the smallest class"
    )
    n_path_shuffles: int = Field(
        default=99, ge=0, le=10_000, description="shuffled taxonomies beside the correlation with path lengths"
    )
    logistic: bool = Field(
        default=False, description="also train a logistic probe for the classes, which takes far longer than all others"
    )
