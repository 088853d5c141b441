"""Real images through a real backbone, extraction, training and `score_bases`: numbers that must not move.

Every sixth of the emoji's classes (all drawings of 63 synsets, 287 images) through dinov2-small, class tokens after
four blocks, and a short TopK training on each by the very functions that the stages call. The set is small so that the
gate can afford it: 67 s of processor time, two thirds of it extraction. With five drawings a class and 1,536 latents an
SAE memorises, so that its shares lie far above those of a real study. What the values are good for is to see that they
stay.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from tests.hierarchy.scoring import score_all

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.datasets import source_at
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.listed import ListedImage
from hsae.extraction.shards import extract_shard
from hsae.sae.config import SaeConfig
from hsae.sae.rows.source import TrainingRows
from hsae.sae.training.trainer import train
from hsae.taxonomy import induce, load_taxonomy

pytestmark = pytest.mark.slow  # a minute of processor time

BLOCKS = (3, 6, 9, 10)
EVERY = 6
SAE = SaeConfig(kind="topk", k=16, expansion=4, n_steps=200, holdout_share=0)
GOLDEN = Path(__file__).parent / "golden_emoji.json"

# Another processor rounds otherwise. The activations and what hangs on them alone (the neurons) then differ in
# their last digits, and a score moves only where two values nearly tie: one node of 225 is 0.004.
ROUNDED = 0.02
# A training goes another way after some steps, as if it had another seed. Of seeds 0 to 2 the shares (the mean of the
# shuffles' repeats) and mean F1s differ by up to 0.08 in one block, mean heights by up to 1, FVU by 0.001.
TRAINED = {"lch_height_mean": 1.5, "fvu": 0.01}
TRAINED_SHARE = 0.1


def measure(shared_data: Path) -> dict[str, dict[str, dict[str, float]]]:
    """By block, then basis: the numbers of its layer row, the mean of the repeats of a shuffle."""
    root = shared_data / "emoji"
    wnids = sorted(folder.name for folder in root.iterdir() if folder.is_dir())[::EVERY]
    paths = [path.relative_to(root).as_posix() for wnid in wnids for path in sorted((root / wnid).glob("*.png"))]
    listed = [
        ListedImage(image, path, hashlib.sha256((root / path).read_bytes()).hexdigest())
        for image, path in enumerate(paths)
    ]
    backbone = Backbone.load(
        inspect_backbone(str(shared_data / "dinov2-small")), layers=BLOCKS, device=torch.device("cpu")
    )
    extraction = ExtractionConfig(batch_size=32, max_image_pixels=10**6)
    extracted = extract_shard(backbone, source_at(root), listed, extraction, on_batch=lambda n_done: None)
    assert extracted.skipped == ()
    wordnet = load_taxonomy()
    taxonomy = induce(wordnet, wnids)
    position = {taxonomy.synsets[node].id: place for place, node in enumerate(taxonomy.classes.tolist())}
    labels = np.array([position[path.split("/")[0]] for path in paths])
    return {
        str(block): _measure_block(TrainingRows(activations, extracted.image_index, extracted.view), labels, taxonomy)
        for block, activations in extracted.activations.items()
    }


def _measure_block(rows, labels, taxonomy) -> dict[str, dict[str, float]]:
    trained = train(SAE, rows, device=torch.device("cpu"))
    with torch.inference_mode():
        z = scipy.sparse.csr_array(trained.sae.encode(rows.activations).numpy())
    found: dict[str, list[dict[str, float]]] = {}
    for result in score_all(z, labels, taxonomy, rows.activations.numpy()):
        layer = result.layer
        values = {
            name: getattr(layer, name)
            for name in ("f1_node_share", "best_f1_mean", "best_f1_inner_mean", "dead_share", "lch_height_mean")
        }
        found.setdefault(result.basis, []).append(values)
    means = {
        basis: {name: float(np.mean([values[name] for values in repeats])) for name in repeats[0]}
        for basis, repeats in found.items()
    }
    means["sae"]["fvu"] = trained.metrics.train_fvu
    means["input"] = {
        "n_images": len(labels),
        "n_nodes": len(taxonomy.synsets),
        "mean_length": float(rows.activations.norm(dim=1).mean()),
        "mean_cosine": float(_unit(rows.activations).mean(dim=0).square().sum()),
    }
    return means


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=1, keepdim=True)


@pytest.fixture(scope="module")
def measured(shared_data):
    return measure(shared_data)


def test_the_activations_are_the_golden_ones(measured):
    for block, golden in json.loads(GOLDEN.read_text()).items():
        assert measured[block]["input"] == pytest.approx(golden["input"], rel=2e-3), f"block {block}"


def test_the_scores_are_the_golden_ones(measured):
    for block, golden in json.loads(GOLDEN.read_text()).items():
        for basis in ("sae", "neuron", "shuffled_labels", "shuffled_taxonomy"):
            for name, value in golden[basis].items():
                allowed = ROUNDED if basis == "neuron" else TRAINED.get(name, TRAINED_SHARE)
                if basis == "neuron" and name == "lch_height_mean":
                    allowed = 0.2
                assert measured[block][basis][name] == pytest.approx(value, abs=allowed), (block, basis, name)


@pytest.mark.parametrize("block", [str(block) for block in BLOCKS])
def test_the_sae_stands_above_its_controls(measured, block):
    """Measured: a latent with F1 >= 0.5 for 74 to 81 % of the nodes with distinct images; a raw neuron that fires as
    often for 49 to 61 %, a latent under shuffled labels for 6 to 13 %. Mean best F1 is 0.12 to 0.18 above that of
    neurons. The bands keep about half of these distances.
    """
    sae, neuron, labels, tree = (
        measured[block][basis] for basis in ("sae", "neuron", "shuffled_labels", "shuffled_taxonomy")
    )
    assert sae["f1_node_share"] > 0.7
    assert neuron["f1_node_share"] < sae["f1_node_share"] - 0.08
    assert labels["f1_node_share"] < 0.4
    assert sae["best_f1_mean"] > neuron["best_f1_mean"] + 0.06
    assert sae["best_f1_mean"] > labels["best_f1_mean"] + 0.2
    # Hierarchy: measured 0.04 to 0.1 above random unions of as many classes, in every block and with every seed.
    assert sae["best_f1_inner_mean"] > tree["best_f1_inner_mean"] + 0.01
    # Labels that mean nothing cannot be followed: measured 0.16 to 0.2 below.
    assert sae["best_f1_inner_mean"] > labels["best_f1_inner_mean"] + 0.08


def test_what_rises_with_depth(measured):
    """From block 3 to 9 the class token takes up what an image shows. Measured with seeds 0 to 2: mean best F1 rises by
    0.08 to 0.09, the node share by 0.02 to 0.05, and the share of dead latents falls by 0.35 to 0.38 (early class
    tokens hardly differ: few directions are needed). A third of each step is asked for; of the node share, where one
    node is 0.004, only that it does not fall.
    """
    early, late = measured["3"]["sae"], measured["9"]["sae"]
    assert late["best_f1_mean"] > early["best_f1_mean"] + 0.025
    assert late["f1_node_share"] > early["f1_node_share"] - 0.01
    assert late["dead_share"] < early["dead_share"] - 0.12
    cosine = {block: measured[block]["input"]["mean_cosine"] for block in measured}
    assert cosine["3"] == max(cosine.values()), "class tokens are most similar in the first block"
