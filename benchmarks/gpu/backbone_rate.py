"""Images a second through a vision transformer, all layers: from memory in each precision, and from JPEGs in bfloat16.

The transformer has the shape of a DINOv2 with random weights. From memory is what an extraction does with a batch that
is decoded already: copy it to the device, one forward pass, fetch the rows of all layers. From JPEGs is `extract_shard`
itself, which decodes and prepares images in threads meanwhile: where it is slower, the cores are what is missing.
Beside them stands the device's rate at a product of large square matrices, in the same run; goal: both reach 60 % of it
in bfloat16.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from benchmarks.extraction.jpegs import SIZE, write_jpegs
from benchmarks.gpu.product_rate import product_teraflop
from benchmarks.measure import Row, at_least, machine, print_header, print_report, versions

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.datasets.sources.registry import source_at
from hsae.demo import backbone_folder
from hsae.devices.numerics import prepare_device, same_bits
from hsae.devices.precision import Precision
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.held_batch import HeldBatch
from hsae.extraction.shards import extract_shard
from hsae.pipeline.estimate import pass_teraflop

MIN_SHARE = 0.6
_JPEG_BATCHES = 4
"""Batches from JPEGs for each one from memory: the first ones have to wait for their images, as in any extraction."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Width, blocks and heads of a transformer, its batch, and whether its MLPs are gated."""

    d_model: int
    n_blocks: int
    n_heads: int
    batch_size: int
    is_gated: bool = False
    product: int = 8_192
    """Size of the square matrices of the product beside it."""


SIZES = {
    "tiny": Shape(32, 2, 2, 4, product=64),
    "base": Shape(768, 12, 12, 64),
    "giant": Shape(1_536, 40, 24, 32, is_gated=True),
}


def folder_of(shape: Shape, root: Path) -> Path:
    """The description of such a transformer for images of 224 x 224 pixels, in Hugging Face layout."""
    source = backbone_folder()
    config = json.loads((source / "config.json").read_text())
    config |= {
        "hidden_size": shape.d_model,
        "num_hidden_layers": shape.n_blocks,
        "num_attention_heads": shape.n_heads,
        "image_size": 224,
        "patch_size": 14,
        "use_swiglu_ffn": shape.is_gated,
    }
    for name in ("out_features", "out_indices", "stage_names"):
        config.pop(name, None)
    (root / "config.json").write_text(json.dumps(config))
    preprocessor = json.loads((source / "preprocessor_config.json").read_text())
    preprocessor |= {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    (root / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return root


def seconds_per_batch(backbone: Backbone, config: ExtractionConfig, n_batches: int) -> float:
    """The median over some batches, after two that warm up."""
    height, width = backbone.preprocessing.image_size
    pixels = torch.randn(config.batch_size, 3, height, width, generator=torch.Generator().manual_seed(0))
    seconds = []
    with same_bits(backbone.device):
        for _ in range(n_batches + 2):
            start = time.perf_counter()
            held = HeldBatch(backbone, config, len(pixels), spare_memory=False)
            held.put(0, backbone.activations(pixels, config.tokens))
            held.to_cpu()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def rate_from_jpegs(backbone: Backbone, config: ExtractionConfig, folder: Path, n_batches: int) -> float:
    """Images a second of `extract_shard`, from files to rows in the CPU's memory, after a batch that warms up."""
    listed = write_jpegs(folder, n_batches * config.batch_size)
    source = source_at(str(folder))
    extract_shard(backbone, source, listed[: config.batch_size], config, on_batch=lambda n_done: None)
    start = time.perf_counter()
    found = extract_shard(backbone, source, listed, config, on_batch=lambda n_done: None)
    seconds = time.perf_counter() - start
    assert len(found.view) == len(listed)
    return len(listed) / seconds


def measured(shape: Shape, device: torch.device, n_batches: int) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        spec = inspect_backbone(str(folder_of(shape, root)), random_seed=0)
        of_image = pass_teraflop(spec, tuple(range(spec.n_layers)), 1)
        for precision in get_args(Precision):
            config = ExtractionConfig(batch_size=shape.batch_size, precision=precision)
            backbone = Backbone.load(spec, layers=range(spec.n_layers), device=device, precision=precision)
            rate = shape.batch_size / seconds_per_batch(backbone, config, n_batches)
            rows.append(Row(f"images per second, {precision}", rate, "1/s"))
            rates = {f"passes / product, {precision}": rate}
            if precision == "bfloat16":
                from_jpegs = rate_from_jpegs(backbone, config, root / "images", _JPEG_BATCHES * n_batches)
                rows.append(Row(f"images per second from JPEGs, {precision}", from_jpegs, "1/s"))
                rates[f"passes from JPEGs / product, {precision}"] = from_jpegs
            del backbone
            product = product_teraflop(device, precision, shape.product)
            rows.append(Row(f"operations of the passes, {precision}", rate * of_image, "TFLOP/s"))
            rows.append(Row(f"a product of matrices, {precision}", product, "TFLOP/s"))
            for name, found in rates.items():
                share = found * of_image / product
                rows.append(at_least(name, share, "x", MIN_SHARE) if precision == "bfloat16" else Row(name, share, "x"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="base", help="shape of the transformer (default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="default: %(default)s")
    parser.add_argument("--batches", type=int, default=10, help="measured batches (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device")
    device, shape = torch.device(arguments.device), SIZES[arguments.size]
    prepare_device(device)
    where, what = machine(), versions()
    title = f"{shape} through {device.type}, class tokens of all layers; JPEGs of {SIZE[0]} x {SIZE[1]} pixels"
    print_header(title, where, what)
    rows = measured(shape, device, arguments.batches)
    print_report(
        rows,
        where,
        what,
        ["a disk that is not in the cache of files", "uploads", "patch tokens, whose rows are 256 times as many"],
    )


if __name__ == "__main__":
    main()
