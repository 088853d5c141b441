"""The baselines of one analysis: their columns, at the SAE's densities, ranked on the images that are scored."""

from collections.abc import Callable
from dataclasses import dataclass

from hsae.errors import UserError
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.controls.bases import BASES
from hsae.hierarchy.controls.bases.inputs import BaselineInputs
from hsae.hierarchy.controls.thresholds import Densities, thresholded
from hsae.hierarchy.kernels.device import Device
from hsae.hierarchy.scored_activations import BasisActivations, ImageParts, LabelledImages, SaeActivations
from hsae.hierarchy.statistics.ranks import RankedActivations, rank_columns
from hsae.vocabulary.bases import CONTROL_BASES, ControlBasis


@dataclass(frozen=True, slots=True, eq=False)
class Baselines:
    """What an SAE is compared with, made one at a time.

    Attributes:
        made_from: activations, labels and images of all baselines.
        densities: how often the SAE's latents fire on the select images.
        parts: what each image is used for; None: in-sample.
        seed: seed of the first draw of what is drawn; the next has `seed + 1`.
    """

    made_from: BaselineInputs
    densities: Densities
    parts: ImageParts | None
    seed: int

    @classmethod
    def of(
        cls,
        sae: SaeActivations,
        selecting: RankedActivations,
        images: LabelledImages,
        scoring: ScoringConfig,
        *,
        device: Device,
        check: Callable[[], None],
    ) -> "Baselines":
        """Those of an SAE.

        Args:
            sae: its activations, and what baselines are made of.
            selecting: its activations on the select images.
            images: labels and parts.
            scoring: the seed.
            device: where columns are projected.
            check: called for every block of work; may raise to stop.

        Raises:
            UserError: there is no train image, or what the SAE was given is unknown.
        """
        parts = images.parts
        if sae.neurons is None:
            raise UserError(
                "baselines are made of the activations that the SAE was given: give those, too, or no controls"
            )
        if parts is not None and not len(parts.train):
            raise UserError(
                "the split of the images leaves none to make baselines from: give more images, no split, or no controls"
            )
        made_from = BaselineInputs(
            sae.neurons,
            images.labels,
            images.taxonomy,
            sae.z.shape[1],
            train=None if parts is None else parts.train,
            select=None if parts is None else parts.select,
            untrained=sae.untrained,
            pooled_neurons=sae.pooled_neurons,
            n_encoded=sae.z.shape[0],
            device=device,
            check=check,
        )
        return cls(made_from, Densities.of(selecting.n_fire), parts, scoring.seed)

    def activations(self, basis: ControlBasis, draw: int) -> BasisActivations | None:
        """One draw of one basis; None if it has no column: no node has some of the train images, but not all.

        Raises:
            UserError: as for `Baseline.columns`.
        """
        columns = BASES[basis].columns(self.made_from, self.seed + draw)
        if not columns.n_columns:
            return None
        parts, given = self.parts, self.made_from
        select, score = (columns, columns) if parts is None else (columns.on(parts.select), columns.on(parts.score))
        n_fire = self.densities.for_columns(columns.n_columns, all_fire=BASES[basis].is_ceiling)
        fired = thresholded(select, score, n_fire, device=given.device, check=given.check)
        scored = rank_columns(fired[1], device=given.device)
        selecting = scored if parts is None else rank_columns(fired[0], device=given.device)
        dense = score if draw == 0 else None
        return BasisActivations(basis, scored, draw, dense, selecting=selecting, is_repeat=draw > 0)


def wanted_baselines(scoring: ScoringConfig, *, has_several_tokens: bool) -> list[tuple[ControlBasis, int]]:
    """Every basis that is scored beside the SAE, with the number of each of its draws.

    Where images have several tokens only bases are scored that are pooled over the tokens as the latents are (ours).
    """
    return [
        (basis, draw)
        for basis in CONTROL_BASES
        if basis in scoring.controls and not (has_several_tokens and BASES[basis].needs_one_token)
        for draw in range(scoring.n_random if BASES[basis].is_repeated else 1)
    ]
