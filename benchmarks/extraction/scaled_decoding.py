"""Photographs decoded at a smaller scale (`submit --decode scaled`) beside the same ones decoded in full.

What is timed is what an extraction does before the forward pass: reading, checksums, decoding and preprocessing, in its
threads. Then one pass over both says how far pixel values and class tokens are from each other.
"""

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import torch
from benchmarks.extraction.extraction import MAX_PIXELS
from benchmarks.extraction.photographs import PHOTOGRAPH, write_photographs
from benchmarks.measure import Row, at_least, machine, print_header, print_report, seconds_in_turns, versions

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.datasets.sources.registry import source_at
from hsae.demo import backbone_folder
from hsae.extraction.batches import iterate_batches
from hsae.extraction.config import Decode, ExtractionConfig
from hsae.extraction.listed import ListedImage
from hsae.pipeline.execution.freed_memory import keep_freed_memory

_GOAL = 2.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=backbone_folder(), help="folder (default: the bundled backbone)")
    parser.add_argument("--images", type=int, default=20, help="photographs (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each contender (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.images < 1 or arguments.repeats < 1:
        parser.error("--images and --repeats must be at least 1")
    keep_freed_memory()
    where, what = machine(), versions()
    spec = inspect_backbone(str(arguments.model))
    backbone = Backbone.load(spec, layers=range(spec.n_layers), device=torch.device("cpu"))
    width, height = PHOTOGRAPH
    print_header(f"{arguments.images} photographs of {width} x {height} prepared for {spec.name}", where, what)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "photographs"
        write_photographs(root, arguments.images, PHOTOGRAPH)
        paths = sorted(root.iterdir())
        listed = [
            ListedImage(number, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
            for number, path in enumerate(paths)
        ]

        processors: dict[Decode, list[float]] = {"exact": [], "scaled": []}

        def prepared(decode: Decode) -> torch.Tensor:
            start = time.process_time()
            extraction = ExtractionConfig(max_image_pixels=MAX_PIXELS, decode=decode)
            batches = iterate_batches(backbone, source_at(str(root)), listed, extraction)
            pixels = torch.cat([batch.views[0] for batch in batches])
            processors[decode].append(time.process_time() - start)
            return pixels

        seconds = seconds_in_turns(
            {"exact": lambda: prepared("exact"), "scaled": lambda: prepared("scaled")}, arguments.repeats
        )
        exact, scaled = prepared("exact")[:4], prepared("scaled")[:4]  # the others are copies
    tokens = [backbone.activations(pixels, "cls") for pixels in (exact, scaled)]
    cosine = min(
        float(torch.cosine_similarity(tokens[0][layer], tokens[1][layer], dim=-1).min()) for layer in tokens[0]
    )
    print_report(
        [
            Row("exact", arguments.images / seconds["exact"], "images/s"),
            Row("scaled", arguments.images / seconds["scaled"], "images/s"),
            at_least("scaled / exact", seconds["exact"] / seconds["scaled"], "x", _GOAL),
            Row("exact, of the processors' time", statistics.median(processors["exact"]) / arguments.images, "s/image"),
            Row("scaled, the same", statistics.median(processors["scaled"]) / arguments.images, "s/image"),
            Row("mean difference of the pixel values (standard deviations)", float((exact - scaled).abs().mean()), ""),
            Row("lowest cosine of class tokens, of all layers and images", cosine, ""),
        ],
        where,
        what,
        ["a cold disk", "progressive JPEGs, of which all coefficients are read at any scale", "scores of SAEs"],
    )


if __name__ == "__main__":
    main()
