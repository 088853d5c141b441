"""Memory and images per second of an extraction from photographs: hsae against a plain loop over transformers.

Each contender runs in processes of its own, in turns, over the same generated JPEGs of 12 megapixels, some of them
stored on their side as telephones do. Then hsae alone takes the largest photographs that it accepts.
"""

import argparse
import hashlib
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import numpy as np
import torch
from benchmarks.extraction.extraction import MAX_PIXELS, largest_difference, with_hsae, with_transformers
from benchmarks.measure import Row, at_least, at_most, machine, print_header, print_report, versions
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.datasets.sources.registry import source_at
from hsae.demo import backbone_folder
from hsae.extraction.listed import ListedImage
from hsae.pipeline.execution.freed_memory import keep_freed_memory

BATCH_SIZE = 32
GOAL_GB = 1.5
PHOTOGRAPH = (4000, 3000)
LARGEST = (15_400, 11_600)  # 178.6 of the 179.0 megapixels allowed
_N_DISTINCT = 4
_ORIENTATION, _ON_ITS_SIDE = 0x0112, 6


def write_photographs(folder: Path, n_photographs: int, size: tuple[int, int]) -> None:
    """Soft colours at several scales and noise; every fourth on its side. Four are made, the others are copies."""
    folder.mkdir()
    width, height = size
    for number in range(n_photographs):
        path = folder / f"{number:04}.jpg"
        if number >= _N_DISTINCT:
            path.write_bytes((folder / f"{number % _N_DISTINCT:04}.jpg").read_bytes())
            continue
        rng = np.random.default_rng(number)
        picture = Image.new("RGB", size, "grey")
        for n_cells in (4, 40, 400):
            cells = rng.integers(0, 256, (n_cells * 3 // 4, n_cells, 3), dtype=np.uint8)
            picture = Image.blend(picture, Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC), 0.4)
        grain = Image.fromarray(rng.integers(0, 256, (512, 512, 3), dtype=np.uint8))
        for left in range(0, width, 512):
            for top in range(0, height, 512):
                box = (left, top, min(width, left + 512), min(height, top + 512))
                part = grain.crop((0, 0, box[2] - left, box[3] - top))
                picture.paste(Image.blend(picture.crop(box), part, 0.04), box)
        exif = Image.Exif()
        exif[_ORIENTATION] = _ON_ITS_SIDE if number % 4 == 0 else 1
        picture.save(path, exif=exif, quality=88)


def run(contender: str, model: Path, photographs: Path) -> tuple[float, float, np.ndarray]:
    """For a process of its own: seconds, peak of its memory in GB, and the class tokens."""
    keep_freed_memory()
    paths = sorted(photographs.iterdir())
    listed = [
        ListedImage(number, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        for number, path in enumerate(paths)
    ]
    spec = inspect_backbone(str(model))
    if contender == "hsae":
        backbone = Backbone.load(spec, layers=range(spec.n_layers), device=torch.device("cpu"))
        start = time.perf_counter()
        result = with_hsae(backbone, source_at(str(photographs)), listed, BATCH_SIZE)
    else:
        whole = AutoModel.from_pretrained(
            model, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
        ).eval()
        processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            model, backend="pil", local_files_only=True, trust_remote_code=False
        )
        start = time.perf_counter()
        result = with_transformers(whole, processor, photographs, listed, BATCH_SIZE)
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()
    return seconds, int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9, result.numpy()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=backbone_folder(), help="folder (default: the bundled backbone)")
    parser.add_argument("--images", type=int, default=132, help="photographs (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each contender (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.images < 1 or arguments.repeats < 1:
        parser.error("--images and --repeats must be at least 1")
    where, what = machine(), versions()
    width, height = PHOTOGRAPH
    title = (
        f"{arguments.images} photographs of {width} x {height} through {arguments.model.name}, batches of {BATCH_SIZE}"
    )
    print_header(title, where, what)
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    found: dict[str, list[tuple[float, float]]] = {"hsae": [], "transformers loop": []}
    tokens: dict[str, torch.Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        usual, largest = Path(folder) / "usual", Path(folder) / "largest"
        write_photographs(usual, arguments.images, PHOTOGRAPH)
        write_photographs(largest, 4, LARGEST)

        def run_apart(contender: str, photographs: Path) -> tuple[float, float, np.ndarray]:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                return pool.submit(run, contender, arguments.model, photographs).result()

        for _ in range(arguments.repeats):
            for contender, values in found.items():
                seconds, peak, result = run_apart(contender, usual)
                print(f"  {contender}: {seconds:.2f} s, peak {peak:.2f} GB")
                values.append((seconds, peak))
                tokens[contender] = torch.from_numpy(result)
        difference = largest_difference(*tokens.values())
        _, largest_peak, _ = run_apart("hsae", largest)
    hsae, loop = (statistics.median(seconds for seconds, _ in values) for values in found.values())
    peaks = [max(peak for _, peak in values) for values in found.values()]
    print_report(
        [
            Row("hsae", arguments.images / hsae, "images/s"),
            Row("transformers loop", arguments.images / loop, "images/s"),
            at_least("hsae / transformers loop", loop / hsae, "x", 1.0),
            at_most("peak memory, hsae", peaks[0], "GB", GOAL_GB),
            Row("peak memory, transformers loop", peaks[1], "GB"),
            at_most(f"peak memory, hsae, photographs of {LARGEST[0]} x {LARGEST[1]}", largest_peak, "GB", GOAL_GB),
            Row("largest difference between the activations", difference, ""),
        ],
        where,
        what,
        ["CUDA", "a cold disk", "progressive JPEGs, WebP and TIFF, whose decoders need more (docs/operations.md)"],
    )


if __name__ == "__main__":
    main()
