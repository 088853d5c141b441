"""Extraction beside the bare model, beside a plain loop, and to a part of its depth; registration; stored bytes.

Everything is measured in one run, in turns. `bare` is the model's forward pass over tensors that are in memory already;
hsae reads JPEGs, checks their sha256 sums, decodes, preprocesses, computes in the same precision, and checks every
activation. The plain loop decodes with the stock processor and keeps all hidden states, in float32.

On a processor hsae measures at the 32nd full batch in how many parts it computes one. Before the turns it runs beyond
that, so that all turns divide their batches as the rest of a long extraction does.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import torch
from benchmarks.extraction.default_model import default_model
from benchmarks.extraction.jpegs import SIZE, write_jpegs
from benchmarks.extraction.registration import registration_rows, registrations
from benchmarks.measure import Row, at_least, at_most, machine, print_header, print_report, versions
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel
from transformers.utils import logging as transformers_logging

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.backbones.passes.measured_parts import MEASURED_AT
from hsae.datasets.sources.registry import source_at
from hsae.devices.bfloat16 import processor_has_bfloat16
from hsae.devices.precision import Precision
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.listed import ListedImage
from hsae.extraction.shards import ShardResult, extract_shard
from hsae.pipeline.execution.freed_memory import keep_freed_memory
from hsae.store.activations import SHARD_FORMAT
from hsae.store.tensors import serialise

GOAL_OF_BARE, GOAL_OF_LOOP, GOAL_OF_PART, GOAL_OF_BYTES = 0.95, 2.5, 2.5, 0.01
FULL_IMAGES, FULL_FILES = 2_000, 100_000
MIN_COSINE = 0.999
_IN_MEMORY = 128
_NO_BFLOAT16 = "bfloat16: the processor has no instructions for it, so what is said of it does not count here"


@dataclass
class Contender:
    """Something that takes images from a start to an end, and what it took so far."""

    run: Callable[[int, int], object]
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def take(self, first: int, end: int) -> object:
        """Run it over images `first` to `end` and note the time."""
        start, cpu = time.perf_counter(), time.process_time()
        result = self.run(first, end)
        self.seconds.append(time.perf_counter() - start)
        self.cpu_seconds.append(time.process_time() - cpu)
        return result


class Setting:
    """Model, images and precision of one run."""

    def __init__(self, model: Path, folder: Path, n_images: int, batch_size: int, precision: Precision) -> None:
        """Make the images and load the models."""
        self.n_images = n_images
        self.precision = precision
        self.folder = folder / "images"
        self.listed: Sequence[ListedImage] = write_jpegs(self.folder, n_images)
        self.extraction = ExtractionConfig(batch_size=batch_size, precision=precision)
        self.spec = inspect_backbone(str(model))
        self.part_layers = range(max(1, self.spec.n_layers // 3))
        self.whole = self._backbone(range(self.spec.n_layers))
        self.part = self._backbone(self.part_layers)
        self.stock = AutoModel.from_pretrained(
            model, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
        ).eval()
        self.processor: Any = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            model, backend="pil", local_files_only=True, trust_remote_code=False
        )
        self.pixels = self.prepared(min(_IN_MEMORY, n_images))

    def prepared(self, n_images: int) -> Float[Tensor, "n_images 3 height width"]:
        """The first images by the stock processor."""
        parts = []
        for entry in self.listed[:n_images]:
            with Image.open(self.folder / entry.path) as image:
                parts.append(self.processor(images=[image.convert("RGB")], return_tensors="pt")["pixel_values"])
        return torch.cat(parts)

    def _backbone(self, layers: Sequence[int]) -> Backbone:
        return Backbone.load(self.spec, layers=layers, device=torch.device("cpu"), precision=self.precision)

    def hsae(self, backbone: Backbone, first: int, end: int) -> ShardResult:
        """From JPEGs to class tokens of the backbone's layers."""
        listed = self.listed[first:end]
        return extract_shard(
            backbone, source_at(str(self.folder)), listed, self.extraction, on_batch=lambda n_done: None
        )

    @torch.no_grad()
    def bare(self, first: int, end: int) -> None:
        """The forward pass alone, over as many images from memory."""
        size = self.extraction.batch_size
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            for start in range(first, end, size):
                place = start % max(1, len(self.pixels) - size + 1)
                self.stock(pixel_values=self.pixels[place : place + min(size, end - start)])

    @torch.no_grad()
    def loop(self, first: int, end: int) -> Float[Tensor, "n_layers n_images d_model"]:
        """What one writes by hand, in float32."""
        parts = []
        for start in range(first, end, self.extraction.batch_size):
            images = []
            for entry in self.listed[start : min(end, start + self.extraction.batch_size)]:
                with Image.open(self.folder / entry.path) as image:
                    images.append(image.convert("RGB"))
            pixel_values = self.processor(images=images, return_tensors="pt")["pixel_values"]
            hidden_states = self.stock(pixel_values=pixel_values, output_hidden_states=True).hidden_states
            parts.append(torch.stack([hidden[:, 0] for hidden in hidden_states[1:]]))
        return torch.cat(parts, dim=1)


def lowest_cosine(setting: Setting) -> float:
    """Of hsae's class tokens and those of the loop, the least of all layers and images; ends the program where low."""
    n_images = min(setting.n_images, setting.extraction.batch_size)
    ours = setting.hsae(setting.whole, 0, n_images).activations
    theirs = setting.loop(0, n_images)
    found = min(float(torch.cosine_similarity(ours[layer].float(), theirs[layer], dim=-1).min()) for layer in ours)
    if not found >= MIN_COSINE:
        raise SystemExit(f"the activations have a cosine of {found:.5f} with the loop's; nothing was timed")
    return found


def bytes_over_raw(result: ShardResult) -> float:
    """By what share a stored shard of the usual size is larger than its activations; its rows are those of `result`."""
    n_rows = ExtractionConfig().shard_images
    rows = torch.arange(n_rows) % len(result.view)
    metadata = {"format": SHARD_FORMAT, "version": "1", "first_image": "0", "end_image": str(n_rows)}
    stored = raw = 0
    for of_layer in result.activations.values():
        values = of_layer[rows]
        tensors = {"activations": values, "image_index": result.image_index[rows], "view": result.view[rows]}
        stored += len(serialise(tensors, metadata))
        raw += values.nbytes
    return stored / raw - 1


def warm_up(contender: Contender, setting: Setting, n_batches: int) -> None:
    """Run a contender over so many full batches, from the first images again and again; over all images if fewer."""
    size = setting.extraction.batch_size
    n_at_once = max(1, min(n_batches, setting.n_images // size))
    for done in range(0, n_batches, n_at_once):
        contender.run(0, min(setting.n_images, min(n_at_once, n_batches - done) * size))


def measured(setting: Setting, n_turns: int, n_warm_up: int) -> tuple[list[Row], float]:
    """Rates and ratios of all contenders, and the share of stored bytes beyond the raw ones."""
    contenders = {
        "hsae, all layers": Contender(lambda first, end: setting.hsae(setting.whole, first, end)),
        "bare model": Contender(setting.bare),
        f"hsae, layers 0 to {setting.part_layers[-1]}": Contender(
            lambda first, end: setting.hsae(setting.part, first, end)
        ),
        "plain float32 loop": Contender(setting.loop),
    }
    for name, contender in contenders.items():
        warm_up(contender, setting, n_warm_up if name.startswith("hsae") else 1)
    bounds = [setting.n_images * turn // n_turns for turn in range(n_turns + 1)]
    result: object = None
    for first, end in pairwise(bounds):
        for name, contender in contenders.items():
            found = contender.take(first, end)
            result = found if name == "hsae, all layers" else result
            rate = (end - first) / contender.seconds[-1]
            print(
                f"  {name}: {rate:.2f} images/s, {contender.cpu_seconds[-1] / (end - first) * 1e3:.1f} ms of processors"
            )
    assert isinstance(result, ShardResult)
    return ratio_rows(list(contenders.items()), setting), bytes_over_raw(result)


def ratio_rows(contenders: Sequence[tuple[str, Contender]], setting: Setting) -> list[Row]:
    """Rates by wall time; ratios by wall time with their goals, and by the processors' time beside them."""
    (_, whole), (_, bare), (_, part), (_, loop) = contenders
    has_goal = setting.n_images >= FULL_IMAGES
    rows = [Row(name, setting.n_images / sum(each.seconds), "images/s") for name, each in contenders]
    compared = [
        ("hsae / bare model", bare, whole, GOAL_OF_BARE if has_goal else None),
        ("hsae / plain float32 loop", loop, whole, GOAL_OF_LOOP if has_goal and processor_has_bfloat16() else None),
        (f"hsae, layers 0 to {setting.part_layers[-1]} / all layers", whole, part, GOAL_OF_PART if has_goal else None),
    ]
    for name, slow, fast, goal in compared:
        ratio = sum(slow.seconds) / sum(fast.seconds)
        rows.append(Row(name, ratio, "x") if goal is None else at_least(name, ratio, "x", goal))
        rows.append(Row(f"{name}, by processors' time", sum(slow.cpu_seconds) / sum(fast.cpu_seconds), "x"))
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = default_model()
    parser.add_argument("--model", type=Path, default=model, help="folder of a DINOv2 or ViT (default: %(default)s)")
    parser.add_argument("--images", type=int, default=256, help=f"JPEGs (default: %(default)s; full: {FULL_IMAGES})")
    parser.add_argument("--files", type=int, default=10_000, help=f"to register; 0: none (full: {FULL_FILES})")
    parser.add_argument("--batch-size", type=int, default=32, help="images per forward pass (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=4, help="turns of each contender (default: %(default)s)")
    parser.add_argument(
        "--warm-up", type=int, default=MEASURED_AT + 1, help="full batches of hsae before (default: %(default)s)"
    )
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="of hsae and bare")
    arguments = parser.parse_args()
    least_one = min(arguments.batch_size, arguments.turns, arguments.warm_up)
    if least_one < 1 or arguments.images < arguments.turns or arguments.files < 0:
        parser.error(
            "--batch-size, --turns and --warm-up must be at least 1, --images at least --turns, --files at least 0"
        )
    return arguments


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    keep_freed_memory()  # as in a job, and for every contender
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    has_bfloat16 = processor_has_bfloat16()
    chosen: Precision = "bfloat16" if has_bfloat16 else "float32"
    precision = chosen if arguments.precision == "auto" else arguments.precision
    where, what = machine(), versions()
    title = (
        f"class tokens of all layers of {arguments.model.name} over {arguments.images} JPEGs of {SIZE[0]} x {SIZE[1]},"
        f" {precision}, batches of {arguments.batch_size}, {torch.get_num_threads()} threads in torch"
    )
    print_header(title, where, what)
    with TemporaryDirectory() as folder:
        setting = Setting(arguments.model, Path(folder), arguments.images, arguments.batch_size, precision)
        cosine = lowest_cosine(setting)
        rows, over_raw = measured(setting, arguments.turns, arguments.warm_up)
    rows.append(at_least("lowest cosine with the float32 loop, of all layers", cosine, "", MIN_COSINE))
    rows.append(at_most("stored bytes beyond the raw activations", over_raw, "", GOAL_OF_BYTES))
    if arguments.files:
        rows += registration_rows(*registrations(arguments.files), FULL_FILES)
    not_measured = [
        *([] if has_bfloat16 else [_NO_BFLOAT16]),
        *([] if arguments.images >= FULL_IMAGES else [f"{FULL_IMAGES} images, for which the goals of the rates hold"]),
        "CUDA; storing the activations; a cold disk; a plain loop with a DataLoader of several processes; saev",
    ]
    table = {"model": arguments.model.name, "images": arguments.images, "precision": precision}
    print_report(rows, where, what, not_measured, table)


if __name__ == "__main__":
    main()
