"""What interventions cost: a pass that restarts at a block beside a whole one, and many latents in one job.

On the demo's backbone and images. The pass that restarts goes on from the streams after block k and reads no pixels.
The job takes latents away one by one, as `label_effects` does: images are decoded and run once, all latents of an SAE
are computed once, and every latent has the rest of the pass and a probe of the last layer for itself. The SAE and the
probe are random: the time does not depend on what they say. Queue, store and database are left out.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import numpy as np
import torch
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
from hsae.taxonomy import InducedTaxonomy, Taxonomy, induce, load_taxonomy

SPEED_GOAL = 2.0
"""A pass from a block behind the half of the model, beside a whole one."""
JOB_GOAL = 120.0
"""Seconds for 100 latents and 1,000 images on two cores."""
BATCH = 32


def pictures(n_images: int) -> tuple[list[Path], list[str]]:
    """Paths of so many bundled images, of all classes in turns, and their classes."""
    folders = [sorted(folder.glob("*.webp")) for folder in sorted(images_folder().iterdir())]
    longest = max(len(paths) for paths in folders)
    chosen = [paths[at] for at in range(longest) for paths in folders if at < len(paths)][:n_images]
    return chosen, [path.parent.name for path in chosen]


def pixels(backbone: Backbone, paths: Sequence[Path]) -> torch.Tensor:
    """The preprocessed images."""
    found = []
    for path in paths:
        with path.open("rb") as stream, ImageFile(stream, path.name, max_pixels=10**8) as file:
            found.append(backbone.pixel_values([file.decode()]))
    return torch.cat(found)


@cache
def wordnet() -> Taxonomy:
    """It takes seconds to load, and a job reads a small part that is stored."""
    return load_taxonomy(None)


def induced(classes: Sequence[str]) -> InducedTaxonomy:
    """The part of WordNet above the classes."""
    return induce(wordnet(), sorted(set(classes)))


def job(backbone: Backbone, layer: int, paths: Sequence[Path], classes: Sequence[str], n_latents: int) -> Measured:
    """Take latents away one by one on all images; from the images to the readings."""
    device, spec = backbone.device, backbone.spec
    taxonomy = induced(classes)
    position = {taxonomy.synsets[node].id: place for place, node in enumerate(taxonomy.classes.tolist())}
    labels = np.array([position[name] for name in classes])
    tree = Tree.of(taxonomy)
    torch.manual_seed(0)
    sae = SparseAutoencoder(SaeConfig(kind="topk", k=16, expansion=4), spec.d_model).requires_grad_(False).to(device)
    torch.nn.init.normal_(sae.encoder_weight)
    torch.nn.init.normal_(sae.decoder_weight, std=spec.d_model**-0.5)
    rows = ReadRows(spec.n_prefix_tokens, spec.has_class_token)
    weight = torch.randn(spec.d_model, len(position), dtype=torch.float64, device=device)
    probe = LinearReadout(rows, weight, torch.zeros(len(position), dtype=torch.float64, device=device))
    places = TokenPlaces.of("own", "cls", spec)
    nodes = np.flatnonzero(tree.has_outside)
    planned = [
        Planned(
            Intervention(
                (LayerEdit(layer, places, LatentEdit(sae, torch.tensor([at], device=device), "scale", torch.zeros(1))),)
            ),
            None,
            also=(int(nodes[at % len(nodes)]),),
        )
        for at in range(n_latents)
    ]

    def batches() -> Iterator[ScoredBatch]:
        for start in range(0, len(paths), BATCH):
            recorded = backbone.recorded(pixels(backbone, paths[start : start + BATCH]))
            yield ScoredBatch(recorded, recorded.streams[layer], labels[start : start + BATCH])

    return measure(batches(), planned, Reader(layer, spec.n_layers - 1, rows, (probe,), tree))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=int, default=100, help="taken away one by one (default: %(default)s)")
    parser.add_argument("--images", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=9, help="turns of the passes (default: %(default)s)")
    add_device(parser)
    arguments = parser.parse_args()
    where, what = machine(), versions()
    spec = inspect_backbone(str(backbone_folder()))
    layers = list(range(spec.n_layers // 2, spec.n_layers))
    backbone = Backbone.load(spec, layers=layers, device=torch.device(arguments.device))
    print_header(
        f"interventions: the demo's backbone, {spec.n_layers} blocks, d_model {spec.d_model}, batches of {BATCH}",
        where,
        what,
    )
    paths, classes = pictures(arguments.images)
    batch = pixels(backbone, paths[:BATCH])
    recorded, last = backbone.recorded(batch), spec.n_layers - 1
    contenders: dict[str, Callable[[], object]] = {"whole": lambda: backbone.recorded(batch)}
    for layer in layers[:-1]:
        contenders[f"from block {layer}"] = _restarted(recorded, layer, last)
    with torch.no_grad():
        seconds = seconds_in_turns(contenders, arguments.repeats)
    whole = seconds.pop("whole")
    rows = [Row("a whole pass of a batch", whole, "s")]
    rows += [at_least(f"whole pass / pass {name}", whole / value, "x", SPEED_GOAL) for name, value in seconds.items()]
    induced(classes)
    start = time.perf_counter()
    measured = job(backbone, layers[0], paths, classes, arguments.latents)
    taken = time.perf_counter() - start
    name = (
        f"{arguments.latents} latents x {len(measured.labels):,} images from block {layers[0]}, from files to readings"
    )
    is_full = arguments.latents >= 100 and len(measured.labels) >= 1000
    rows.append(at_most(name, taken, "s", JOB_GOAL) if is_full else Row(name, taken, "s"))
    not_measured = ["stored activations of all tokens, which save the first pass; readouts by nearest neighbours"]
    if arguments.device == "cpu":
        not_measured.append("CUDA")
    print_report(rows, where, what, not_measured)


def _restarted(recorded: RecordedPass, layer: int, last: int) -> Callable[[], object]:
    return lambda: recorded.resume(recorded.streams[layer], layer, last)


if __name__ == "__main__":
    main()
