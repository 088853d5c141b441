"""Latents one by one at their own labels: which are taken away, beside which random ones, and the rows of that."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64

from hsae.interventions.alone.label_effects import chances, is_used, label_effect, q_values, specificity
from hsae.interventions.choice import LatentUse
from hsae.interventions.config import InterveneSettings
from hsae.interventions.controls import random_latents
from hsae.interventions.edits import LatentEdit, TokenPlaces
from hsae.interventions.effects import distances_from
from hsae.interventions.figures import Target
from hsae.interventions.measure import Measured, Outcome, Planned
from hsae.interventions.passes import Intervention, LayerEdit
from hsae.pipeline.stages.interventions.arms import ArmMaker
from hsae.pipeline.stages.interventions.rows import Row
from hsae.pipeline.stages.interventions.scene import Scene, SceneLayer


@dataclass(frozen=True, slots=True)
class Tested:
    """A latent, the node of its label, and the random latents beside it."""

    latent: int
    node: int
    draws: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LabelEdits:
    """The ablations of a job: each latent once, whoever asks for it.

    Attributes:
        tested: the latents with their labels.
        latents: every latent that is taken away, ascending: the tested ones and those that were drawn.
        planned: the intervention of each.
    """

    tested: tuple[Tested, ...]
    latents: tuple[int, ...]
    planned: tuple[Planned, ...]


def label_edits(settings: InterveneSettings, scene: Scene, maker: ArmMaker, places: TokenPlaces) -> LabelEdits:
    """The surest labelled latents whose label has scored images inside and outside, and random ones beside them.

    A latent has `n_random` draws of another one that fires about as often and adds about as much (`random_latents`); a
    draw that comes again counts once.
    """
    scored = scene.tree.inside[scene.labels[scene.parts.score]].sum(axis=0)
    is_possible = (scored > 0) & (scored < len(scene.parts.score))
    wanted = [(latent, node) for latent, node in maker.ranked_labels() if is_possible[node]][: settings.label_effects]
    use = LatentUse.of(maker.z, np.zeros(maker.z.shape[0], np.bool_))
    norms = scene.own.sae.decoder_weight.norm(dim=1).cpu().numpy().astype(np.float64)
    tested, looked_at = [], dict[int, set[int]]()
    for latent, node in wanted:
        draws = set()
        for draw in range(settings.n_random):
            seed = int(np.random.SeedSequence([settings.seed, latent, draw, 1]).generate_state(1)[0])
            draws |= set(random_latents(np.array([latent]), use, norms, seed).tolist())
        tested.append(Tested(latent, node, tuple(sorted(draws))))
        for each in (latent, *draws):
            looked_at.setdefault(each, set()).add(node)
    latents = tuple(sorted(looked_at))
    planned = [
        Planned(_without(latent, scene.own, places), None, also=tuple(sorted(looked_at[latent]))) for latent in latents
    ]
    return LabelEdits(tuple(tested), latents, tuple(planned))


def effect_rows(
    edits: LabelEdits,
    outcomes: Sequence[Outcome],
    measured: Measured,
    scene: Scene,
    settings: InterveneSettings,
    synset_ids: Int64[np.ndarray, "n_nodes"],
) -> list[Row]:
    """Rows of latent_effect.

    Args:
        edits: what was taken away.
        outcomes: of `edits.planned`.
        measured: the unedited images.
        scene: what was acted on.
        settings: of the job.
        synset_ids: the catalog's id of every node.
    """
    place = {latent: at for at, latent in enumerate(edits.latents)}
    targets = {
        node: Target(node, distances_from(scene.taxonomy, node)[scene.taxonomy.classes], measured.labels)
        for node in {each.node for each in edits.tested}
    }
    found: list[Row] = []
    for at, readout in enumerate(settings.readouts):
        before = measured.before.readings[at]

        after = [outcome.readings[at] for outcome in outcomes]
        effects = [
            label_effect(
                before, after[place[each.latent]], targets[each.node], scene.tree,
                n_flips=settings.n_shuffles, seed=settings.seed,
            )
            for each in edits.tested
        ]  # fmt: skip
        drawn = [
            [
                specificity(before, after[place[latent]], targets[each.node], scene.tree)[0].value
                for latent in each.draws
            ]
            for each in edits.tested
        ]
        q = q_values([one.p for one in effects])
        for each, one, q_value, chance in zip(edits.tested, effects, q.tolist(), chances(drawn), strict=True):
            found.append(
                {
                    "readout": readout,
                    "latent": each.latent,
                    "synset_id": int(synset_ids[each.node]),
                    "n_images": one.n_images,
                    "unit": "log_odds" if one.in_log_odds else "accuracy",
                    "effect": one.effect.value,
                    "effect_low": one.effect.low,
                    "effect_high": one.effect.high,
                    "accuracy_effect": one.accuracy.value,
                    "p": one.p,
                    "q": q_value,
                    "chance": chance.own,
                    "chance_low": chance.low,
                    "chance_high": chance.high,
                    "n_draws": chance.n_draws,
                    "is_used": is_used(one.effect.value, q_value, chance),
                }
            )
    return found


def _without(latent: int, edited: SceneLayer, places: TokenPlaces) -> Intervention:
    device = edited.sae.decoder_weight.device
    edit = LatentEdit(edited.sae, torch.tensor([latent], device=device), "scale", torch.zeros(1, device=device))
    return Intervention((LayerEdit(edited.layer, places, edit),), only_changed=True)
