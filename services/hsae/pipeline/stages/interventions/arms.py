"""Which latents stand for each node, and every edit of a job: the latents and their controls, at every dose."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from sqlalchemy import text

from hsae.catalog.queries.conditions import SUREST_FIRST
from hsae.errors import UserError
from hsae.interventions.choice import Attributed, LatentUse, attribution, best_latents, labelled_latents
from hsae.interventions.config import LATENTS, InterveneSettings
from hsae.interventions.controls import projection, random_latents
from hsae.interventions.edits import Ablation, Edit, LatentEdit, ThroughSae, TokenPlaces, check_latents
from hsae.interventions.measure import Planned
from hsae.interventions.passes import Intervention, LayerEdit
from hsae.interventions.readouts import LinearReadout
from hsae.pipeline.stages.activation_reader import read_plain_rows
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.stages.interventions.scene import Scene, SceneLayer, some_images
from hsae.pipeline.stages.interventions.streams import Streams

REPLACEMENTS = ("through", "mean", "zero")
"""What stands in the place of all edited tokens: reconstructions, the mean of the tokens, zeros."""


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """One edit of a job: `planned` is what is run.

    Attributes:
        node: the target.
        arm: `latents` or the control.
        draw: of random latents.
        dose: the factor.
        latents: the edited ones; None of edits of raw activations.
        planned: the intervention.
        further: by layer the latents of the other layers that are edited in the same pass.
    """

    node: int
    arm: str
    draw: int
    dose: float
    latents: Int64[np.ndarray, "n_chosen"] | None
    planned: Planned
    further: Mapping[int, Int64[np.ndarray, "n_chosen"]] = field(default_factory=dict)


class ArmMaker:
    """Chooses latents of one layer and makes the edits in it.

    Attributes:
        layer: the layer.
        z: the latents' activations on the images that select.
    """

    def __init__(
        self,
        settings: InterveneSettings,
        context: StageContext,
        scene: Scene,
        edited: SceneLayer,
        streams: Streams,
        places: TokenPlaces,
    ) -> None:
        """Remember what is acted on, and read the layer's latents; nothing is computed yet."""
        self._settings = settings
        self._context = context
        self._scene = scene
        self._edited = edited
        self.layer = edited.layer
        self._streams = streams
        self._places = places
        selected = np.flatnonzero(scene.wanted(scene.parts.select)[edited.images])
        self.z = edited.read_latents(context).z[selected]
        self._select_labels = scene.labels[edited.images[selected]]

    def arms(self, probe: LinearReadout | None) -> list[Arm]:
        """Every edit, by node, arm, draw and dose.

        Args:
            probe: the readout that attribution differentiates.

        Raises:
            UserError: a node has no latent, a latent is of another SAE, or a control cannot be learnt.
        """
        scene, settings, sae = self._scene, self._settings, self._edited.sae
        uses = [LatentUse.of(self.z, scene.is_inside(node)[self._select_labels]) for node in scene.nodes]
        chosen = self._chosen(uses, probe)
        images, x = np.empty(0, np.int64), np.empty((0, sae.d_model), np.float32)
        if scene.nodes and set(settings.controls) - {"random"}:
            images, x = read_plain_rows(self._context, self._edited.manifest, scene.wanted(scene.parts.train))
        train_labels = scene.labels[images]
        norms = sae.decoder_weight.norm(dim=1).cpu().numpy().astype(np.float64)
        found: list[Arm] = []
        for node, use, latents in zip(scene.nodes, uses, chosen, strict=True):
            found += self._of_latents(node, LATENTS, 0, latents, use)
            for control in settings.controls:
                if control == "random":
                    for draw in range(settings.n_random):
                        seed = int(np.random.SeedSequence([settings.seed, node, draw]).generate_state(1)[0])
                        found += self._of_latents(node, "random", draw, random_latents(latents, use, norms, seed), use)
                    continue
                inside = scene.is_inside(node)[train_labels]
                taken = projection(control, x, inside, len(latents), scene.name(node))
                for dose in settings.doses:
                    edit = taken.edit(dose, self._context.device)
                    found.append(Arm(node, control, 0, dose, None, self._planned(edit, node)))
            self._context.check()
        return found

    def _chosen(self, uses: Sequence[LatentUse], probe: LinearReadout | None) -> list[Int64[np.ndarray, "n_chosen"]]:
        scene, settings = self._scene, self._settings
        if settings.choose == "given":
            check_latents(list(settings.latents), self._edited.sae.n_latents)
            return [np.array(sorted(set(settings.latents)), np.int64)] * len(scene.nodes)
        if settings.choose == "label":
            ranked = self.ranked_labels()
            under = [{descendant for descendant, at in self._pairs() if at == node} for node in scene.nodes]
            return [
                labelled_latents(
                    [(latent, label in nodes) for latent, label in ranked], scene.name(node), settings.n_latents
                )
                for node, nodes in zip(scene.nodes, under, strict=True)
            ]
        scores = [use.selectivity() for use in uses] if settings.choose == "selectivity" else self._attribution(probe)
        return [
            best_latents(score, use, scene.name(node), n_latents=settings.n_latents, max_density=settings.max_density)
            for score, use, node in zip(scores, uses, scene.nodes, strict=True)
        ]

    def ranked_labels(self) -> list[tuple[int, int]]:
        """Every labelled latent and the node of its label, the surest first."""
        query = f"""
            SELECT l.latent, y.wnid FROM latent l JOIN synset y ON y.id = l.label_synset_id
            WHERE l.analysis_id = :analysis AND l.basis = 'sae' AND NOT l.is_dead AND l.label_f1 > 0
            ORDER BY {SUREST_FIRST}
        """  # noqa: S608 -- names of columns, ours
        with self._context.reading() as session:
            rows = session.execute(text(query), {"analysis": self._edited.analysis_id}).all()
        known = {synset.id: node for node, synset in enumerate(self._scene.taxonomy.synsets)}
        return [(row.latent, known[row.wnid]) for row in rows]

    def _pairs(self) -> list[tuple[int, int]]:
        """Every node with each node that it is at or under."""
        return [(int(below), int(above)) for below, above, _ in self._scene.taxonomy.node_closure().tolist()]

    def _attribution(self, probe: LinearReadout | None) -> list[Float64[np.ndarray, "n_latents"]]:
        """Of every node, over its images among those that select."""
        scene = self._scene
        if probe is None:
            raise ValueError("attribution needs the probe")
        sae, layer = self._edited.sae, self._edited.layer
        attributed = Attributed(sae, layer, self._streams.last, self._places, probe, self._streams.precision)
        found = []
        for node in scene.nodes:
            inside = scene.is_inside(node)
            select = scene.parts.select
            of_node = select[inside[scene.labels[select]]]
            images = some_images(of_node, scene.labels, self._settings.n_images, self._settings.seed)
            batches = ((batch.blocks, self._streams.after(batch, layer)) for batch in self._streams.of(images))
            found += attribution(attributed, batches, [inside], self._context.check)
        return found

    def _of_latents(
        self, node: int, arm: str, draw: int, latents: Int64[np.ndarray, "n_chosen"], use: LatentUse
    ) -> list[Arm]:
        unit = self._unit(latents, use)
        device = self._context.device
        sae, kind = self._edited.sae, self._settings.edit
        index = torch.from_numpy(latents).to(device)
        found = []
        for dose in self._settings.doses:
            values = torch.tensor([dose]) if kind == "scale" else torch.from_numpy(unit * np.float32(dose))
            edit = LatentEdit(sae, index, kind, values.to(device, torch.float32))
            found.append(Arm(node, arm, draw, dose, latents, self._planned(edit, node)))
        return found

    def _unit(self, latents: Int64[np.ndarray, "n_chosen"], use: LatentUse) -> Float32[np.ndarray, "n_chosen"]:
        """What a dose is a multiple of, for each latent: 1, a quantile of its activations, or their mean."""
        if self._settings.edit == "add":
            return np.asarray(use.typical[latents], np.float32)
        quantile = self._settings.quantile
        if quantile is None:
            return np.ones(len(latents), np.float32)
        columns = self.z.tocsc()[:, latents]
        fired = [columns.data[columns.indptr[at] : columns.indptr[at + 1]] for at in range(len(latents))]
        return np.array([np.quantile(each, quantile) if len(each) else 0.0 for each in fired], np.float32)

    def _planned(self, edit: Edit, node: int) -> Planned:
        return Planned(Intervention((LayerEdit(self._edited.layer, self._places, edit),)), node)


def arms_of(
    layers: Sequence[SceneLayer], maker_of: Callable[[SceneLayer], ArmMaker], probe: LinearReadout | None
) -> tuple[list[Arm], ArmMaker]:
    """Every edit of a job: in each layer the same arms and doses, all layers in one pass. Also the last layer's maker.

    Memory holds the latents of one layer at a time.

    Args:
        layers: the edited layers, ascending.
        maker_of: makes the edits in a layer.
        probe: as in `ArmMaker.arms`.

    Raises:
        UserError: as `ArmMaker.arms`; of several layers a wrong setting says which.
    """
    of_layers = []
    maker: ArmMaker | None = None
    for edited in layers:
        maker = None  # before the next one reads its latents
        try:
            maker = maker_of(edited)
            of_layers.append(maker.arms(probe))
        except UserError as error:
            # An outage, or an object that is lost, stays what it is: how the job goes on depends on the type.
            if len(layers) == 1 or type(error) is not UserError:
                raise
            raise UserError(f"layer {edited.layer}: {error}") from error
    if maker is None:
        raise ValueError("no layer is edited")
    return [_joined(arms) for arms in zip(*of_layers, strict=True)], maker


def _joined(of_layers: Sequence[Arm]) -> Arm:
    """The same arm in several layers as one; its latents are those of the last."""
    *others, own = of_layers
    edits = tuple(edit for arm in of_layers for edit in arm.planned.intervention.edits)
    further = {arm.planned.intervention.first_layer: arm.latents for arm in others if arm.latents is not None}
    return replace(own, planned=Planned(Intervention(edits), own.node), further=further)


def replacements(
    scene: Scene, places: TokenPlaces, means: Mapping[int, Float64[np.ndarray, "d_model"]]
) -> list[Planned]:
    """The passes in which the edited tokens are replaced as a whole, in the order of `REPLACEMENTS`.

    Args:
        scene: its layers are edited, all in one pass.
        places: the tokens.
        means: by layer of the rows there.
    """
    edits: dict[str, list[LayerEdit]] = {name: [] for name in REPLACEMENTS}
    for edited in scene.layers:
        row = torch.from_numpy(means[edited.layer]).to(edited.sae.decoder_weight.device, torch.float32)
        here = {"through": ThroughSae(edited.sae), "mean": Ablation(row), "zero": Ablation(torch.zeros_like(row))}
        for name, edit in here.items():
            edits[name].append(LayerEdit(edited.layer, places, edit))
    return [Planned(Intervention(tuple(edits[name])), None) for name in REPLACEMENTS]
