"""Adam's learning rate 1e-3 against one that falls with the width: which gives the better SAE at equal held-out L0.

The other rate is 2e-4 / sqrt(n_latents / 2^14). Each SAE is trained with both, from the same seeds on the same class
tokens: TopK, and ReLU whose L1 coefficient adapts to the same held-out L0. The lower held-out FVU wins; the share of
dead latents stands beside it.
"""

import argparse
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import torch
from benchmarks.measure import Row, machine, print_header, print_report, versions
from jaxtyping import Float
from torch import Tensor

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.datasets import scan
from hsae.demo import backbone_folder, images_folder
from hsae.errors import UserError
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.listed import ListedImage
from hsae.extraction.shards import extract_shard
from hsae.pipeline.execution.freed_memory import keep_freed_memory
from hsae.sae.config import SaeConfig
from hsae.sae.evaluation.metrics import SaeMetrics
from hsae.sae.rows.source import TrainingRows
from hsae.sae.training.trainer import train
from hsae.taxonomy import load_taxonomy

L0 = 16
REFERENCE_RATE, REFERENCE_LATENTS = 2e-4, 2**14
FIXED_RATE = 1e-3
KINDS: Mapping[str, Mapping[str, object]] = {"topk": {"k": L0}, "relu": {"target_l0": L0}}


@dataclass(frozen=True, slots=True)
class Layer:
    """Class tokens of one block."""

    name: str
    activations: Float[Tensor, "n_images d_model"]


@dataclass(frozen=True, slots=True)
class Case:
    """What is trained with either rate."""

    layer: Layer
    kind: str
    expansion: int
    n_seeds: int

    @property
    def name(self) -> str:
        """As the report calls it."""
        return f"{self.layer.name}, {self.kind}, {self.expansion * self.layer.activations.shape[1]:,} latents"

    @property
    def rates(self) -> dict[str, float]:
        """The two learning rates by name."""
        n_latents = self.expansion * self.layer.activations.shape[1]
        return {"fixed": FIXED_RATE, "by width": REFERENCE_RATE / (n_latents / REFERENCE_LATENTS) ** 0.5}


def class_tokens(name: str, model: Path, images: Path, blocks: Sequence[int]) -> Iterator[Layer]:
    """The class tokens of some blocks over a folder of images."""
    dataset = scan(images, load_taxonomy())
    spec = inspect_backbone(str(model))
    blocks = sorted({min(block, spec.n_layers - 1) for block in blocks})
    backbone = Backbone.load(spec, layers=blocks, device=torch.device("cpu"))
    listed = [ListedImage(**row) for row in dataset.listing.select(["image", "path", "sha256"]).to_pylist()]
    found = extract_shard(backbone, dataset.source, listed, ExtractionConfig(), on_batch=lambda n_done: None)
    for block in blocks:
        yield Layer(f"{name} block {block}", found.activations[block])


def trained(case: Case, rate: float, seed: int, n_steps: int | None) -> SaeMetrics:
    """The metrics of one training."""
    config = SaeConfig(
        kind=case.kind, expansion=case.expansion, learning_rate=rate, seed=seed, n_steps=n_steps, **KINDS[case.kind]
    )
    activations = case.layer.activations
    image = torch.arange(activations.shape[0])
    rows = TrainingRows(activations, image, torch.zeros_like(image))
    return train(config, rows, device=torch.device("cpu")).metrics


def compared(case: Case, n_steps: int | None) -> Iterator[Row]:
    """Means over the seeds for either rate, and how often the fixed one wins."""
    runs = {
        name: [trained(case, rate, seed, n_steps) for seed in range(1, case.n_seeds + 1)]
        for name, rate in case.rates.items()
    }
    for name, of_rate in runs.items():
        title = f"{case.name}, {name} ({case.rates[name]:.2g})"
        fvu = [metrics.fvu for metrics in of_rate if metrics.fvu is not None]
        yield Row(f"{title}: held-out FVU", statistics.fmean(fvu), "")
        yield Row(f"{title}: held-out L0", statistics.fmean(metrics.l0 or 0.0 for metrics in of_rate), "")
        yield Row(f"{title}: dead share", statistics.fmean(metrics.dead_share for metrics in of_rate), "")
        print(f"  {title}: FVU {', '.join(f'{value:.4f}' for value in fvu)}", flush=True)
    wins = sum(
        (fixed.fvu or 0.0) < (by_width.fvu or 0.0)
        for fixed, by_width in zip(runs["fixed"], runs["by width"], strict=True)
    )
    yield Row(f"{case.name}: seeds of {case.n_seeds} in which the fixed rate has the lower FVU", wins, "")


def main() -> None:
    keep_freed_memory()  # as in a job
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--other", nargs=3, metavar=("NAME", "MODEL", "IMAGES"), help="a second backbone and its folder of images"
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each case and rate (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of each training (default: from the number of rows)")
    parser.add_argument("--wide", type=int, default=32, help="expansion of the wider TopK SAE (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    where, what = machine(), versions()
    print_header("learning rates: 1e-3 against 2e-4 / sqrt(n_latents / 2^14)", where, what)
    try:
        early, late = class_tokens("demo", backbone_folder(), images_folder(), (1, 5))
        layers = [early, late]
        if arguments.other is not None:
            name, model, images = arguments.other
            layers += class_tokens(name, Path(model), Path(images), (5,))
        cases = [Case(layer, kind, 8, arguments.seeds) for layer in layers for kind in KINDS]
        cases.append(Case(late, "topk", arguments.wide, arguments.seeds))
        rows = [row for case in cases for row in compared(case, arguments.steps)]
    except UserError as error:
        raise SystemExit(str(error)) from error
    print_report(rows, where, what, ["more than 2,000 rows, other batch sizes, backbones of other widths"])


if __name__ == "__main__":
    main()
