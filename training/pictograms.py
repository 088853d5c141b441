"""The demo's images as tensors, one drawing style apart."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from augmentation import drawing_mask
from PIL import Image
from torch import Tensor

DEMO_DIR = Path(__file__).resolve().parents[1] / "services" / "hsae" / "demo"


@dataclass(frozen=True)
class LabelledImages:
    """Images of one or more styles: uint8[n, 3, side, side], uint8[n, 1, side, side] and int64[n]."""

    images: Tensor
    masks: Tensor
    labels: Tensor
    paths: list[Path]
    styles: list[str]
    """The distinct drawing styles, sorted."""

    def __len__(self) -> int:
        return len(self.paths)


def read_images(demo_dir: Path, held_out: str, side_px: int) -> tuple[LabelledImages, LabelledImages, list[str]]:
    """Read what images.csv lists: the training styles, the held-out style, and the wnids in label order.

    Raises click.ClickException when the table is missing or has no image of the style to hold out.
    """
    table = demo_dir / "images.csv"
    if not table.is_file():
        raise click.ClickException(f"{table} is missing: make it with training/build_demo_images.py.")
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    styles = sorted({row["group"] for row in rows})
    if held_out not in styles:
        raise click.ClickException(f"No images of style {held_out!r} to hold out; {table} has {', '.join(styles)}.")
    wnids = sorted({row["label"] for row in rows})
    label_of = {wnid: label for label, wnid in enumerate(wnids)}

    def load(chosen: list[dict[str, str]]) -> LabelledImages:
        images, masks, paths = [], [], []
        for row in chosen:
            paths.append(demo_dir / row["path"])
            with Image.open(paths[-1]) as file:
                image = file.convert("RGB")
            size = (side_px, side_px)
            images.append(np.asarray(image.resize(size, Image.Resampling.BICUBIC)))
            masks.append(np.asarray(drawing_mask(image).resize(size, Image.Resampling.BOX)))
        return LabelledImages(
            images=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
            masks=torch.from_numpy(np.stack(masks)).unsqueeze(1),
            labels=torch.tensor([label_of[row["label"]] for row in chosen]),
            paths=paths,
            styles=sorted({row["group"] for row in chosen}),
        )

    train = load([row for row in rows if row["group"] != held_out])
    return train, load([row for row in rows if row["group"] == held_out]), wnids
