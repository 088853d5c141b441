"""What interventions cost: a pass that restarts at a block beside a whole one, and many latents in one job.

On the demo's backbone and images. The pass that restarts goes on from the streams after block k and reads no pixels.
The job takes latents of a trained TopK SAE away one by one, as `label_effects` does: images are decoded and run once,
and every latent has the rest of the pass, of the images on which it fires, and a probe of the last layer for itself.
The latents are those that fire most, of at most a quarter of the images. The probe is random: the time does not depend
on what it says. Queue, store and database are left out, and so is the training.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import numpy as np
import torch
from benchmarks.findings.real_layers import RealLayers, known_data
from benchmarks.measure import (
    Row,
    add_device,
    at_least,
    at_most,
    machine,
    print_header,
    print_report,
    seconds_in_turns,
    versions,
)

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.backbones.passes.restarted_pass import RecordedPass
from hsae.datasets import ImageFile
from hsae.demo import backbone_folder, images_folder
from hsae.interventions.edits import LatentEdit, TokenPlaces
from hsae.interventions.effects import Tree
from hsae.interventions.measure import Measured, Planned, Reader, ScoredBatch, measure
from hsae.interventions.passes import Intervention, LayerEdit
from hsae.interventions.readouts import LinearReadout, ReadRows
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder

SPEED_GOAL = 2.0
"""A pass from a block behind the half of the model, beside a whole one."""
JOB_GOAL = 120.0
"""Seconds for 100 latents and 1,000 images on two cores."""
BATCH = 32
MAX_DENSITY = 0.25


def pixels(backbone: Backbone, paths: Sequence[Path]) -> torch.Tensor:
    """The preprocessed images."""
    found = []
    for path in paths:
        with path.open("rb") as stream, ImageFile(stream, path.name, max_pixels=10**8) as file:
            found.append(backbone.pixel_values([file.decode()]))
    return torch.cat(found)


def busy_latents(layers: RealLayers, layer: int, sae: SparseAutoencoder, n_latents: int) -> tuple[list[int], float]:
    """The latents that fire most, on a quarter of the images at most, and on which share of images they fire."""
    fires = (sae.encode(layers.plain(layer)) > 0).double().mean(0).numpy()
    order = np.argsort(-np.where(fires <= MAX_DENSITY, fires, -1.0), kind="stable")[:n_latents]
    return order.tolist(), float(fires[order].mean())


def job(
    backbone: Backbone, layers: RealLayers, sae: SparseAutoencoder, latents: Sequence[int], images: Sequence[int]
) -> Measured:
    """Take latents away one by one on some images; from the files to the readings."""
    device, spec, layer = backbone.device, backbone.spec, backbone.layers[0]
    paths = sorted(images_folder().glob("n*/*"))
    tree, rows = Tree.of(layers.taxonomy), ReadRows(spec.n_prefix_tokens, spec.has_class_token)
    torch.manual_seed(0)
    n_classes = len(layers.taxonomy.classes)
    weight = torch.randn(spec.d_model, n_classes, dtype=torch.float64, device=device)
    probe = LinearReadout(rows, weight, torch.zeros(n_classes, dtype=torch.float64, device=device))
    places, zero = TokenPlaces.of("own", "cls", spec), torch.zeros(1, device=device)
    nodes = np.flatnonzero(tree.has_outside)

    def planned(at: int, latent: int) -> Planned:
        edit = LatentEdit(sae, torch.tensor([latent], device=device), "scale", zero)
        one = Intervention((LayerEdit(layer, places, edit),), only_changed=True)
        return Planned(one, None, also=(int(nodes[at % len(nodes)]),))

    def batches() -> Iterator[ScoredBatch]:
        for start in range(0, len(images), BATCH):
            here = images[start : start + BATCH]
            recorded = backbone.recorded(pixels(backbone, [paths[image] for image in here]))
            yield ScoredBatch(recorded, recorded.streams[layer], layers.labels[here])

    edits = [planned(at, latent) for at, latent in enumerate(latents)]
    return measure(batches(), edits, Reader(layer, spec.n_layers - 1, rows, (probe,), tree))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=int, default=100, help="taken away one by one (default: %(default)s)")
    parser.add_argument("--images", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=9, help="turns of the passes (default: %(default)s)")
    add_device(parser)
    arguments = parser.parse_args()
    where, what = machine(), versions()
    spec = inspect_backbone(str(backbone_folder()))
    half, last = spec.n_layers // 2, spec.n_layers - 1
    backbone = Backbone.load(spec, layers=range(half, spec.n_layers), device=torch.device(arguments.device))
    print_header(
        f"interventions: the demo's backbone, {spec.n_layers} blocks, d_model {spec.d_model}, batches of {BATCH}",
        where,
        what,
    )
    layers = RealLayers.of(known_data(None)[0], (half,))
    images = np.random.default_rng(0).permutation(len(layers.labels))[: arguments.images].tolist()
    batch = pixels(backbone, [sorted(images_folder().glob("n*/*"))[image] for image in images[:BATCH]])
    recorded = backbone.recorded(batch)
    contenders: dict[str, Callable[[], object]] = {"whole": lambda: backbone.recorded(batch)}
    contenders |= {f"from block {layer}": restarted(recorded, layer, last) for layer in range(half, last)}
    with torch.no_grad():
        seconds = seconds_in_turns(contenders, arguments.repeats)
    whole = seconds.pop("whole")
    rows = [Row("a whole pass of a batch", whole, "s")]
    rows += [at_least(f"whole pass / pass {name}", whole / value, "x", SPEED_GOAL) for name, value in seconds.items()]
    sae = layers.train(half, SaeConfig(kind="topk", k=16, n_steps=300)).sae.requires_grad_(False).to(backbone.device)
    latents, density = busy_latents(layers, half, sae.cpu(), arguments.latents)
    start, busy = time.perf_counter(), time.process_time()
    measured = job(backbone, layers, sae.to(backbone.device), latents, images)
    taken, busy = time.perf_counter() - start, time.process_time() - busy
    name = f"{len(latents)} latents x {len(measured.labels):,} images from block {half}, from files to readings"
    is_full = len(latents) >= 100 and len(measured.labels) >= 1000
    rows.append(at_most(name, taken, "s", JOB_GOAL) if is_full else Row(name, taken, "s"))
    rows.append(Row("processor time of the same, which a busy machine changes less", busy, "s"))
    rows.append(Row("mean share of the images on which these latents fire", density, ""))
    not_measured = ["stored activations of all tokens, which save the first pass; readouts by nearest neighbours"]
    if arguments.device == "cpu":
        not_measured.append("CUDA")
    print_report(rows, where, what, not_measured)


def restarted(recorded: RecordedPass, layer: int, last: int) -> Callable[[], object]:
    """The pass that goes on after a block."""
    return lambda: recorded.resume(recorded.streams[layer], layer, last)


if __name__ == "__main__":
    main()
