"""The bundled backbone and images: without the latents of birds, birds are lost, and little else."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import hsae
from hsae.demo import backbone_folder, images_folder
from hsae.interventions.choice import LatentUse, best_latents
from hsae.interventions.controls import random_latents
from hsae.interventions.edits import LatentEdit, TokenPlaces
from hsae.interventions.effects import Tree, distances_from
from hsae.interventions.figures import Target, figures
from hsae.interventions.measure import Planned, Reader, ScoredBatch, measure
from hsae.interventions.passes import Intervention, LayerEdit
from hsae.interventions.readouts import LabelledRows, ReadRows, train_probe
from hsae.sae.config import SaeConfig
from hsae.taxonomy import induce, load_taxonomy

LAYER, N_LATENTS = 5, 64


class NoLaterBlocks:
    def resume(self, stream, start, stop):
        return stream


@pytest.mark.slow
def test_birds_are_lost_and_random_latents_lose_nothing():
    paths = [path for folder in sorted(images_folder().iterdir())[:130] for path in sorted(folder.iterdir())]
    part = np.array([sorted(path.parent.iterdir()).index(path) % 4 for path in paths])
    x = hsae.extract(paths, model=backbone_folder(), layers=[LAYER], batch_size=64, device="cpu")[LAYER]
    taxonomy = induce(load_taxonomy(None), {path.parent.name for path in paths})
    position = {taxonomy.synsets[node].id: place for place, node in enumerate(taxonomy.classes)}
    labels = np.array([position[path.parent.name] for path in paths])
    tree, rows = Tree.of(taxonomy), ReadRows(1, True)
    train, select, score = part < 2, part == 2, part == 3
    sae = hsae.train(x[train], SaeConfig(kind="topk", k=16, expansion=4, n_steps=300)).sae.requires_grad_(False)
    readout = train_probe(
        LabelledRows(x[train], labels[train]), LabelledRows(x[select], labels[select]), len(tree.inside), rows,
        torch.device("cpu"),
    )  # fmt: skip
    bird = next(node for node, synset in enumerate(taxonomy.synsets) if synset.name == "bird.n.01")
    inside = tree.inside[:, bird] > 0
    use = LatentUse.of(sp.csr_array(sae.encode(torch.from_numpy(x[select])).numpy()), inside[labels[select]])
    chosen = best_latents(use.selectivity(), use, "bird.n.01", n_latents=N_LATENTS, max_density=0.25)
    drawn = [random_latents(chosen, use, np.ones(len(use.density)), seed) for seed in range(3)]
    edits = [LatentEdit(sae, torch.from_numpy(latents), "scale", torch.zeros(1)) for latents in (chosen, *drawn)]
    places = TokenPlaces((0,))
    planned = [Planned(Intervention((LayerEdit(LAYER, places, edit),)), bird) for edit in edits]
    batch = ScoredBatch(NoLaterBlocks(), torch.from_numpy(x[score])[:, None], labels[score])
    found = measure([batch], planned, Reader(LAYER, LAYER, rows, (readout,), tree))
    target = Target(bird, distances_from(taxonomy, bird)[taxonomy.classes], found.labels)
    own, *random = [
        figures(found.before.readings[0], one.readings[0], target, tree, n_shuffles=199, seed=0) for one in found.after
    ]
    assert own.inside[1] < own.inside[0]
    assert own.specificity.value > 0.1
    assert own.specificity_log_odds.low > 0
    assert own.retention > 0.9
    assert all(own.curve[0].log_odds.value > 2 * point.log_odds.value for point in own.curve[1:])
    assert all(one.specificity_log_odds.low <= 0 <= one.specificity_log_odds.high for one in random)
    assert all(one.specificity.value < own.specificity.value / 2 for one in random)
