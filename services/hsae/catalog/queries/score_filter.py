"""Filters of queries about scores. A field says what is wanted; only `conditions` knows the columns."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisFilter:
    """Which analyses; a field that is None allows all.

    Attributes:
        analysis_ids: one of these analyses; an empty tuple fits none.
        layer: the 0-based block whose output was analysed.
        model: name of the backbone.
        dataset: name of the data set.
        sae_kind: kind of the SAE.
    """

    analysis_ids: tuple[int, ...] | None = None
    layer: int | None = None
    model: str | None = None
    dataset: str | None = None
    sae_kind: str | None = None

    def within(self, analysis_ids: Collection[int] | None) -> Self:
        """The same filter, restricted to these analyses; None changes nothing."""
        if analysis_ids is None:
            return self
        kept = [one for one in analysis_ids if self.analysis_ids is None or one in self.analysis_ids]
        return replace(self, analysis_ids=tuple(kept))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFilter(AnalysisFilter):
    """Which rows of scores at nodes of the taxonomy; a field that is None allows all.

    Attributes:
        basis: `sae` or one of its controls.
        nodes: ids of synsets; the row's node is one of them.
        under: ids of synsets; the row's node is at or below one of them.
        min_f1: the least F1, as it is, not adjusted. Rows with an undefined F1 only fit None.
        limit: the greatest number of rows.
    """

    basis: str | None = None
    nodes: tuple[int, ...] | None = None
    under: tuple[int, ...] | None = None
    min_f1: float | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentFilter(ScoreFilter):
    """Which latents at which nodes; a field that is None allows all.

    Attributes:
        min_f1_adjusted: the least adjusted F1 of the latent at its label; of latents at their labels only.
        max_q: the greatest q-value: of a latent at its label, of a node's test for the best latents of nodes.
        min_coherence: the least coherence excess of the latent in bits; of latents at their labels only.
        min_stability: the least seed stability. Latents without one only fit None.
        used: whether only latents fit that were measured to be used for their label.
        min_effect: the least effect of the latent at its label. Latents without one only fit None.
        mapped: whether only latents fit of which there are relevancy maps; of latents at their labels only.
    """

    min_f1_adjusted: float | None = None
    max_q: float | None = None
    min_coherence: float | None = None
    min_stability: float | None = None
    used: bool = False
    min_effect: float | None = None
    mapped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeFilter(ScoreFilter):
    """Which pairs of a parent and a child latent, with the parent's label as node; a field that is None allows all.

    Attributes:
        source: how the pair was found: `taxonomy` or `activation`.
        parent: index of the parent in the dictionary.
        child: index of the child in the dictionary.
    """

    source: str | None = None
    parent: int | None = None
    child: int | None = None
