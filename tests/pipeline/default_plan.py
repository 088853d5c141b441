"""Which jobs a request has, from the descriptors: one more kind that every request asks for changes no other test."""

from hsae.pipeline.kinds.extract import EXTRACT
from hsae.pipeline.kinds.registry import stages
from hsae.pipeline.kinds.stage import Scope
from hsae.sae.config import SaeConfig
from hsae.sae.variants import DEFAULT_KIND

_SAE = SaeConfig(kind=DEFAULT_KIND)


def kinds_per(scope: Scope) -> list[str]:
    """The kinds of a request without settings of single stages, each after those that it needs."""
    return [stage.kind for stage in stages() if stage.per == scope and stage.is_wanted({}) and stage.is_for(_SAE)]


def default_kinds(n_layers: int = 1, n_saes: int = 1, n_splits: int = 1) -> list[str]:
    """The kinds of the jobs in the order of a plan: one extraction, then layer by layer, then those of the study."""
    of_layer = [*kinds_per("layer"), *kinds_per("sae") * n_saes] * n_splits
    return [EXTRACT.kind, *of_layer * n_layers, *kinds_per("study")]
