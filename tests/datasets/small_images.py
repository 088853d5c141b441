"""Small image folders and CSVs that list them."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from hsae.datasets import scan
from hsae.errors import UserError

DOG, CAT, CRANE_BIRD = "n02084071", "n02121620", "n02012849"


def add_image(path: Path, grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)
    return path


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def paths_of(dataset) -> list[str]:
    return dataset.listing["path"].to_pylist()


def fails(path, taxonomy, message, **options):
    with pytest.raises(UserError, match=message) as caught:
        scan(path, taxonomy, **options)
    assert "\n" not in str(caught.value)


def listing_of(folder: Path, rows, header=("path", "label")) -> Path:
    path = folder / "images.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([header, *rows])
    return path
