"""Which scores a query is asked for. A field says what is wanted; `conditions` alone knows the columns."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisFilter:
    """Which analyses; None asks nothing.

    Attributes:
        analysis_ids: One of these analyses; an empty tuple fits none.
        layer: The 0-based block whose output was analysed.
        model: Name of the backbone.
        dataset: Name of the data set.
        sae_kind: Kind of the SAE.
    """

    analysis_ids: tuple[int, ...] | None = None
    layer: int | None = None
    model: str | None = None
    dataset: str | None = None
    sae_kind: str | None = None

    def within(self, analysis_ids: Collection[int] | None) -> Self:
        """The same filter, of these analyses alone; None keeps it as it is."""
        if analysis_ids is None:
            return self
        kept = [one for one in analysis_ids if self.analysis_ids is None or one in self.analysis_ids]
        return replace(self, analysis_ids=tuple(kept))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFilter(AnalysisFilter):
    """Which rows of scores at nodes of the taxonomy; None asks nothing.

    Attributes:
        basis: `sae` or one of its controls.
        nodes: Ids of synsets, of which one is the row's node.
        under: Ids of synsets; the row's node is at or below one of them.
        min_f1: The least F1. Rows whose F1 is undefined fit only None.
        limit: The greatest number of rows.
    """

    basis: str | None = None
    nodes: tuple[int, ...] | None = None
    under: tuple[int, ...] | None = None
    min_f1: float | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentFilter(ScoreFilter):
    """Which latents at which nodes; None asks nothing.

    Attributes:
        max_q: The greatest q-value of the latent at the node.
    """

    max_q: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeFilter(ScoreFilter):
    """Which pairs of a parent and a child latent, whose node is the parent's label; None asks nothing.

    Attributes:
        source: How the pair was found: `taxonomy` or `activation`.
        parent: Index of the parent in the dictionary.
        child: Index of the child in the dictionary.
    """

    source: str | None = None
    parent: int | None = None
    child: int | None = None
