"""JPEGs of the usual size of a photograph in ImageNet, made for the benchmarks."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from hsae.demo import images_folder
from hsae.extraction.listed import ListedImage

SIZE = (500, 375)
_QUALITY = 90
_GRAIN = 0.04  # without it a JPEG of a drawing is much smaller than that of a photograph
_N_DISTINCT = 64


def write_jpegs(folder: Path, n_images: int) -> list[ListedImage]:
    """Bundled images, enlarged, with grain; 64 are made, the others are copies. Returns them as a listing has them."""
    folder.mkdir(parents=True)
    sources = sorted(images_folder().glob("*/*.webp"))
    contents: list[bytes] = []
    listed = []
    for number in range(n_images):
        path = folder / f"{number:05}.jpg"
        if number < _N_DISTINCT:
            _write_jpeg(path, sources[number * len(sources) // _N_DISTINCT], number)
            contents.append(path.read_bytes())
        else:
            path.write_bytes(contents[number % _N_DISTINCT])
        content = contents[number % _N_DISTINCT]
        listed.append(ListedImage(number, path.name, hashlib.sha256(content).hexdigest()))
    return listed


def _write_jpeg(path: Path, source: Path, seed: int) -> None:
    with Image.open(source) as opened:
        picture = opened.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC)
    width, height = SIZE
    grain = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
    Image.blend(picture, grain, _GRAIN).save(path, quality=_QUALITY)
