"""Do relevancy maps point at what a latent is about? A pointing game with known truth, and deletion and insertion.

TopK SAEs are trained on some images. On others every latent gets its label: the node of the taxonomy at which its
adjusted F1 is best. A third part makes the game. Collages of 2 x 2 of its images have one under the label, on which the
latent fires, and three of other classes, on which it does not. The truth is known where the latent fires on the
collage, falls silent when the right quarter is exchanged, and not when another one is: does the map peak in the right
quarter? And on single images: how fast does the latent fall silent as patches are taken away in the order of the map,
how soon does it fire as they are brought in? Every method beside its controls. No measurement of time.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import numpy as np
import torch
from benchmarks.findings.real_layers import RealData, RealLayers
from benchmarks.measure import Row, machine, print_header, print_report, versions
from benchmarks.relevancy.pointing_truth import Collage, Labelled, collages, labelled_latents, pasted, with_known_truth
from PIL import Image

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.demo import backbone_folder, images_folder
from hsae.errors import UserError
from hsae.relevancy.config import MAP_METHODS
from hsae.relevancy.faithfulness import curves
from hsae.relevancy.objective import LatentObjective
from hsae.relevancy.relevance import relevance_maps
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.split_config import NamedGroups, SplitConfig

N_RESAMPLES = 2000
BATCH = 16
N_STEPS = 8
CHANCE = 0.25


def play(
    backbone: Backbone, sae: SparseAutoencoder, games: Sequence[Collage], paths: Sequence[Path], side: int
) -> dict[str, np.ndarray]:
    """By method for every collage the share of the map's greatest patches in the right quarter: 1 or 0 without ties."""
    hits: dict[str, list[float]] = {method: [] for method in MAP_METHODS}
    for start in range(0, len(games), BATCH):
        part = games[start : start + BATCH]
        pixels = backbone.pixel_values([pasted(game, paths, side) for game in part])
        objective = LatentObjective(sae, torch.tensor([game.labelled.latent for game in part]), "cls")
        seeds = [game.seed for game in part]
        found = relevance_maps(backbone, backbone.layers[-1], objective, pixels, MAP_METHODS, seeds=seeds)
        for method, maps in found.maps.items():
            hits[method] += [hit_of(one.numpy(), game.quarter) for one, game in zip(maps, part, strict=True)]
    return {method: np.array(values) for method, values in hits.items()}


def hit_of(values: np.ndarray, quarter: int) -> float:
    """Of the patches with the greatest value the share in the quarter; a middle row or column lies in none."""
    n_rows, n_cols = values.shape
    best = np.argwhere(values == values.max())
    row, col = divmod(quarter, 2)
    rows = best[:, 0] < n_rows // 2 if row == 0 else best[:, 0] >= n_rows - n_rows // 2
    cols = best[:, 1] < n_cols // 2 if col == 0 else best[:, 1] >= n_cols - n_cols // 2
    return float((rows & cols).mean())


def areas(
    backbone: Backbone, sae: SparseAutoencoder, pairs: Sequence[tuple[Labelled, int]], paths: Sequence[Path]
) -> dict[str, dict[str, np.ndarray]]:
    """By curve and method the area under it for every pair of a latent and an image on which it fires."""
    found: dict[str, dict[str, list[float]]] = {
        curve: {method: [] for method in MAP_METHODS} for curve in ("deletion", "insertion")
    }
    for start in range(0, len(pairs), BATCH):
        part = pairs[start : start + BATCH]
        pixels = backbone.pixel_values([Image.open(paths[image]).convert("RGB") for _, image in part])
        objective = LatentObjective(sae, torch.tensor([one.latent for one, _ in part]), "cls")
        seeds = [start + place for place in range(len(part))]
        made = relevance_maps(backbone, backbone.layers[-1], objective, pixels, MAP_METHODS, seeds=seeds)
        for method, maps in made.maps.items():
            deletion, insertion = curves(backbone, objective, pixels, maps, n_steps=N_STEPS).areas()
            found["deletion"][method] += deletion.tolist()
            found["insertion"][method] += insertion.tolist()
    return {curve: {name: np.array(values) for name, values in by.items()} for curve, by in found.items()}


def interval(values: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """The mean, and its 95 % interval by a bootstrap over labels: images of one label have the same latent."""
    names = np.unique(classes)
    sums = np.array([values[classes == name].sum() for name in names])
    counts = np.array([(classes == name).sum() for name in names])
    drawn = np.random.default_rng(0).integers(0, len(names), (N_RESAMPLES, len(names)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": round(float(values.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def table(values: Mapping[str, np.ndarray], classes: np.ndarray) -> dict[str, Any]:
    """By method the mean with its interval, and the difference of chefer and that method, paired by image."""
    return {
        method: interval(one, classes) | {"chefer_less_it": interval(values["chefer"] - one, classes)}
        for method, one in values.items()
    }


def some_classes(images: Path, n_classes: int, links: Path) -> Path:
    """A folder of links to some of the classes."""
    folders = sorted(images.resolve().glob("n*"))
    for i in np.unique(np.linspace(0, len(folders) - 1, n_classes).round().astype(int)).tolist():
        (links / folders[i].name).symlink_to(folders[i], target_is_directory=True)
    return links


def of_layer(layers: RealLayers, data: RealData, layer: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, choose, play and measure on one layer."""
    config = SaeConfig(kind="topk", k=arguments.k, expansion=8, n_steps=arguments.steps)
    sae = layers.train(layer, config).sae.requires_grad_(False)
    paths = sorted(data.images.glob("n*/*"), key=lambda path: path.relative_to(data.images).as_posix())
    chosen = labelled_latents(layers, layer, sae, min_f1=arguments.min_f1)
    backbone = Backbone.load(inspect_backbone(str(data.backbone)), layers=[layer], device=torch.device("cpu"))
    candidates = collages(chosen, arguments.candidates, seed=0)
    truth = with_known_truth(candidates, backbone, sae, paths, arguments.side, arguments.collages)
    games = truth.games
    print(
        f"  block {layer}: {len(chosen)} labelled latents; {truth.firing_share:.4f} of the collages fire them, without"
        f" the class {truth.firing_share_without:.4f}; {len(games)} have a known truth",
        flush=True,
    )
    if not games:
        raise SystemExit(
            f"block {layer}: no collage has a known truth: try another block, more --candidates, or a lower --min-f1"
        )
    rng = np.random.default_rng(1)
    pairs = [
        (one, int(image))
        for one in chosen
        for image in rng.choice(one.inside, min(arguments.per_latent, len(one.inside)), replace=False)
    ]
    pairs = [pairs[i] for i in sorted(rng.permutation(len(pairs))[: arguments.images_measured])]
    hits = play(backbone, sae, games, paths, arguments.side)
    print(f"  block {layer}: played", flush=True)
    by_curve = areas(backbone, sae, pairs, paths)
    of_pairs = np.array([one.node for one, _ in pairs])
    return {
        "layer": layer,
        "n_labelled": len(chosen),
        "n_candidates": len(candidates),
        "n_firing": truth.n_firing,
        "firing_share": round(truth.firing_share, 5),
        "firing_share_without": round(truth.firing_share_without, 5),
        "n_collages": len(games),
        "n_labels": len({game.labelled.node for game in games}),
        "pointing": table(hits, np.array([game.labelled.node for game in games])),
        "n_images": len(pairs),
        **{curve: table(values, of_pairs) for curve, values in by_curve.items()},
        "labels": [
            {"latent": one.latent, "label": one.name, "f1_adjusted": round(one.f1_adjusted, 3)} for one in chosen
        ],
    }


def markdown(layers: Sequence[Mapping[str, Any]]) -> str:
    """The tables for people."""
    lines = ["| block | measure | n | " + " | ".join(MAP_METHODS) + " |", "|---" * (3 + len(MAP_METHODS)) + "|"]
    for one in layers:
        for name, count in (
            ("pointing", "n_collages"), ("deletion", "n_images"), ("insertion", "n_images"),
        ):  # fmt: skip
            cells = [f"{v['mean']:.3f} ({v['low']:.3f} to {v['high']:.3f})" for v in one[name].values()]
            lines.append(f"| {one['layer']} | {name} | {one[count]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="?", help="folders of images by wnid (default: the demo's)")
    parser.add_argument("backbone", type=Path, nargs="?", help="folder of the backbone (default: the demo's)")
    parser.add_argument("--blocks", type=int, nargs="+", required=True, metavar="N", help="blocks, from 0")
    parser.add_argument(
        "--groups", nargs=2, metavar=("SELECT", "SCORE"),
        help="label and play on these groups, train on all others; a file's group is the second part of its name"
        " (default: shares of each class)",
    )  # fmt: skip
    parser.add_argument("--classes", type=int, metavar="N", help="only N of the classes, evenly spread (default: all)")
    parser.add_argument("--steps", type=int, default=1000, help="of each training (default: %(default)s)")
    parser.add_argument("--k", type=int, default=16, help="of the TopK SAE (default: %(default)s)")
    parser.add_argument("--min-f1", type=float, default=0.5, help="adjusted, of a label (default: %(default)s)")
    parser.add_argument("--candidates", type=int, default=24, help="collages tried per label (default: %(default)s)")
    parser.add_argument("--collages", type=int, default=4, help="and kept, with a known truth (default: %(default)s)")
    parser.add_argument("--side", type=int, default=128, help="pixels of a quarter's side (default: %(default)s)")
    parser.add_argument("--per-latent", type=int, default=2, help="images for the curves (default: %(default)s)")
    parser.add_argument("--images-measured", type=int, default=96, help="at most, in all (default: %(default)s)")
    arguments = parser.parse_args()
    images, backbone = arguments.images or images_folder(), arguments.backbone or backbone_folder()
    torch.set_num_threads(1)
    where, what = machine(), versions()
    name = f"{images.resolve().name}, {backbone.resolve().name}"
    print_header(f"pointing game: {name}", where, what)
    split = SplitConfig()
    if arguments.groups is not None:
        select, score = arguments.groups
        split = SplitConfig(groups=NamedGroups(select=(select,), score=(score,)))
    with TemporaryDirectory() as links:
        chosen = images if arguments.classes is None else some_classes(images, arguments.classes, Path(links))
        data = RealData(name, chosen, backbone, split)
        try:
            layers = RealLayers.of(data, tuple(arguments.blocks))
            found = [of_layer(layers, data, layer, arguments) for layer in arguments.blocks]
        except UserError as error:
            raise SystemExit(str(error)) from error
    print(markdown(found))
    rows = [
        Row(f"block {one['layer']}, pointing, {method}", one["pointing"][method]["mean"], "share")
        for one in found
        for method in MAP_METHODS
    ]
    settings = {key: value for key, value in vars(arguments).items() if key not in ("images", "backbone")}
    not_measured = [
        "photographs with several objects; patch tokens and means of patches; other SAE kinds and seeds",
        "how long maps take",
    ]
    print_report(
        rows,
        where,
        what,
        not_measured,
        table={"data": name, "split": split.label, "settings": settings, "chance": CHANCE, "layers": found},
    )


if __name__ == "__main__":
    main()
