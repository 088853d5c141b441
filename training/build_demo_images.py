"""Write the demo's images (services/hsae/demo/images) from a folder of labelled pictograms.

SOURCE holds `listing.csv` (path, wnid, synset, style, source, licence) and the RGB images it names, one
folder a synset. Every image becomes a square WebP of the same stem; the table goes to `images.csv` beside
the images folder, so that the folder holds one subfolder a synset and nothing else. There the wnid is the
column `label`, the style `group`, and paths begin with `images/`: the demo registers this file. The same
SOURCE gives the same bytes with the same version of Pillow.
"""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import click
from PIL import Image

DEMO_DIR = Path(__file__).resolve().parents[1] / "services" / "hsae" / "demo"
COLUMNS = ("path", "wnid", "synset", "style", "source", "licence")
DEMO_COLUMNS = ("path", "label", "synset", "group", "source", "licence")
SIDE_PX = 96
WEBP_QUALITY = 90
# FxEmojis' repository puts its drawings under CC BY 4.0; only its code has the licence that the npm package
# declares for everything.
DESIGN_LICENCE = {"fxemoji": "CC-BY-4.0"}


@dataclass(frozen=True)
class ListedImage:
    """One row of the table; `path` is relative to the images folder and uses forward slashes."""

    path: str
    wnid: str
    synset: str
    style: str
    source: str
    licence: str


def read_listing(source: Path) -> list[ListedImage]:
    """Read SOURCE/listing.csv in order of path.

    Raises click.ClickException when the table or an image that it names is missing.
    """
    listing = source / "listing.csv"
    if not listing.is_file():
        raise click.ClickException(f"{listing} is missing: SOURCE must hold listing.csv and the images it names.")
    with listing.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise click.ClickException(f"{listing} must have the columns {', '.join(COLUMNS)}, in this order.")
        rows = sorted(
            (ListedImage(**{**row, "licence": DESIGN_LICENCE.get(row["style"], row["licence"])}) for row in reader),
            key=lambda row: row.path,
        )
    for row in rows:
        path = PurePosixPath(row.path)
        if len(path.parts) != 2 or path.parts[0] != row.wnid:
            raise click.ClickException(f"{listing}: {row.path} must be <wnid>/<file>, with the wnid of its row.")
        if not (source / row.path).is_file():
            raise click.ClickException(f"{listing} names {row.path}, which is not in {source}.")
    return rows


def webp_path(row: ListedImage) -> str:
    """`n02084071/dog.noto.png` -> `n02084071/dog.noto.webp`: stems carry dots."""
    return str(PurePosixPath(row.path).with_suffix(".webp"))


def write_webp(source: Path, target: Path) -> None:
    """Resize one image to SIDE_PX squared and write it as lossy WebP."""
    with Image.open(source) as image:
        small = image.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    small.save(target, "WEBP", quality=WEBP_QUALITY, method=6)


@click.command(help=__doc__)
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEMO_DIR,
    help="Folder that receives images/ (replaced) and images.csv. Default: the demo folder of this checkout.",
)
def main(source: Path, out: Path) -> None:
    rows = read_listing(source)
    images = out / "images"
    if images.exists():
        shutil.rmtree(images)
    with click.progressbar(rows, label="images") as bar:
        for row in bar:
            write_webp(source / row.path, images / webp_path(row))
    with (out / "images.csv").open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(DEMO_COLUMNS)
        writer.writerows(
            (f"images/{webp_path(row)}", row.wnid, row.synset, row.style, row.source, row.licence) for row in rows
        )
    n_bytes = sum(path.stat().st_size for path in images.rglob("*.webp"))
    n_synsets = len({row.wnid for row in rows})
    click.echo(f"{len(rows)} images of {n_synsets} synsets, {n_bytes / 1e6:.2f} MB, in {images}")


if __name__ == "__main__":
    main()
