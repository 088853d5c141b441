"""Train the demo's vision transformer on the demo's images, with plain class labels.

    python training/train_demo_backbone.py --out services/hsae/demo/dinov2-emoji

The model is a small `transformers` Dinov2Model; a linear head on its class token is trained with it and
thrown away. The loss sees the classes as an unordered list: nothing of the taxonomy that the service later
measures is planted. One drawing style is held out completely and only measured. OUT receives the half
precision weights, the image processor's settings and, at the end, the model card; it is usable from the first
`--save-every` on.
"""

from __future__ import annotations

import math
import string
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from augmentation import ViewSettings, random_views
from measurement import Scores, measure
from pictograms import DEMO_DIR, LabelledImages, read_images
from small_dinov2 import (
    CHANNEL_MEAN,
    CHANNEL_STD,
    IMAGE_SIDE_PX,
    new_backbone,
    place_positions,
    save_backbone,
)
from torch import Tensor, nn
from transformers import AutoModel, Dinov2Model

CARD_TEMPLATE = Path(__file__).resolve().parent / "model_card.md"


@dataclass(frozen=True)
class Recipe:
    """What decides the result; the defaults are the shipped model's."""

    seed: int
    held_out: str
    n_epochs: int
    batch_size: int
    learning_rate: float
    """Peak rate of Muon, for the matrices of the blocks; its updates are scaled to the size of AdamW's."""
    adamw_learning_rate: float
    """Peak rate of AdamW, for everything else."""
    n_threads: int
    weight_decay: float = 0.05
    warmup: float = 0.05
    """Share of the steps in which the learning rates rise."""
    stages: tuple[tuple[float, int], ...] = ((0.6, 32), (0.25, 48), (0.15, 64))
    """(share of the epochs, side of the images in px): small images first, because they cost far less. The
    model interpolates its position embeddings to them."""
    gradient_norm: float = 1.0


def learning_rate_factor(step: int, n_steps: int, warmup: float) -> float:
    """Linear rise over the first `warmup` share of the steps, then half a cosine down to zero."""
    n_warmup = max(1, round(warmup * n_steps))
    if step < n_warmup:
        return (step + 1) / n_warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup)))


def new_optimizers(backbone: Dinov2Model, head: nn.Linear, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the blocks' matrices, AdamW for the rest; AdamW alone learns more slowly.

    Only matrices decay; biases, norms, layer scales, tokens and positions are left alone.
    """
    matrices = [p for p in backbone.encoder.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for module in (backbone, head) for p in module.parameters() if id(p) not in chosen]
    projections = [backbone.embeddings.patch_embeddings.projection.weight, head.weight]
    decayed = {id(p) for p in projections}
    return [
        torch.optim.Muon(
            matrices,
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [
                {"params": projections, "weight_decay": recipe.weight_decay},
                {"params": [p for p in rest if id(p) not in decayed], "weight_decay": 0.0},
            ],
            lr=recipe.adamw_learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        ),
    ]


def stage_sides(recipe: Recipe) -> list[int]:
    """Side of the images in px, one entry an epoch."""
    sides: list[int] = []
    covered = 0.0
    for share, side in recipe.stages:
        covered += share
        sides += [side] * (round(covered * recipe.n_epochs) - len(sides))
    return sides


def batches(n_rows: int, batch_size: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Row numbers of one epoch in random order, whole batches only."""
    order = torch.randperm(n_rows, generator=rng)
    yield from order[: n_rows - n_rows % batch_size].split(batch_size)


def train(data: LabelledImages, n_classes: int, recipe: Recipe, out: Path, save_every: int) -> nn.Linear:
    """Train backbone and head; leave the backbone in `out` and return the head."""
    torch.manual_seed(recipe.seed)
    rng = torch.Generator().manual_seed(recipe.seed)
    backbone = new_backbone()
    place_positions(backbone)
    head = nn.Linear(backbone.config.hidden_size, n_classes)
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizers = new_optimizers(backbone, head, recipe)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    mean, std = torch.tensor(CHANNEL_MEAN).view(3, 1, 1), torch.tensor(CHANNEL_STD).view(3, 1, 1)
    views = ViewSettings()
    batch_size = min(recipe.batch_size, len(data))
    n_steps = recipe.n_epochs * (len(data) // batch_size)
    step, started = 0, time.monotonic()
    backbone.train()
    for epoch, side in enumerate(stage_sides(recipe), start=1):
        images, masks = (
            nn.functional.interpolate(whole / 255.0, size=side, mode="area") for whole in (data.images, data.masks)
        )
        total_loss, n_right, n_seen = 0.0, 0, 0
        for rows in batches(len(data), batch_size, rng):
            factor = learning_rate_factor(step, n_steps, recipe.warmup)
            for optimizer, rates in zip(optimizers, peaks, strict=True):
                for group, peak in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = peak * factor
                optimizer.zero_grad(set_to_none=True)
            pixels = (random_views(images[rows], masks[rows], views, rng) - mean) / std
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = head(backbone(pixel_values=pixels).pooler_output).float()
            loss = nn.functional.cross_entropy(logits, data.labels[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, recipe.gradient_norm)
            for optimizer in optimizers:
                optimizer.step()
            step += 1
            total_loss += loss.item() * len(rows)
            n_right += int((logits.argmax(dim=1) == data.labels[rows]).sum())
            n_seen += len(rows)
        click.echo(
            f"epoch {epoch}/{recipe.n_epochs}  {side} px  {time.monotonic() - started:.0f} s  "
            f"loss {total_loss / n_seen:.3f}  accuracy on views {n_right / n_seen:.3f}"
        )
        if epoch % save_every == 0 or epoch == recipe.n_epochs:
            save_backbone(backbone, out)
    return head.eval()


def write_card(
    out: Path,
    recipe: Recipe,
    train_data: LabelledImages,
    held_out_data: LabelledImages,
    scores: Scores,
    minutes: float,
) -> None:
    """Write the model card, OUT/README.md, from training/model_card.md and what was measured."""
    model = AutoModel.from_pretrained(out, use_safetensors=True, trust_remote_code=False)
    config = model.config
    n_classes = len(train_data.labels.unique())
    blocks = range(1, len(scores.probes_held_out) + 1)
    card = string.Template(CARD_TEMPLATE.read_text(encoding="utf-8")).substitute(
        n_layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        n_heads=config.num_attention_heads,
        patch_size=config.patch_size,
        image_size=config.image_size,
        n_parameters=f"{model.num_parameters() / 1e6:.1f}",
        n_train=f"{len(train_data):,}",
        n_classes=n_classes,
        styles=", ".join(f"`{style}`" for style in train_data.styles),
        held_out=recipe.held_out,
        n_held_out=len(held_out_data),
        n_held_out_classes=len(held_out_data.labels.unique()),
        weight_decay=recipe.weight_decay,
        learning_rate=recipe.learning_rate,
        adamw_learning_rate=recipe.adamw_learning_rate,
        warmup=f"{100 * recipe.warmup:.0f}",
        batch_size=recipe.batch_size,
        n_epochs=recipe.n_epochs,
        stages=", ".join(f"{100 * share:.0f} % at {side} px" for share, side in recipe.stages),
        seed=recipe.seed,
        minutes=f"{minutes:.0f}",
        n_threads=recipe.n_threads,
        chance=f"{100 / n_classes:.2f}",
        head_train=f"{100 * scores.head_train:.1f}",
        head_held_out=f"{100 * scores.head_held_out:.1f}",
        block_names=" | ".join(str(block) for block in blocks) + " |",
        block_rule="---|" * len(blocks),
        block_scores=" | ".join(f"{100 * score:.1f} %" for score in scores.probes_held_out) + " |",
    )
    (out / "README.md").write_text(card, encoding="utf-8")


@click.command(help=__doc__)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the model.")
@click.option(
    "--demo-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=DEMO_DIR,
    help="Folder with images/ and images.csv. Default: the demo folder of this checkout.",
)
@click.option("--held-out", default="fxemoji", show_default=True, help="Style that training never sees.")
@click.option("--epochs", type=click.IntRange(min=1), default=120, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=3e-3,
    show_default=True,
    help="Peak rate of Muon, for the blocks' matrices.",
)
@click.option(
    "--adamw-learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=2e-3,
    show_default=True,
    help="Peak rate of AdamW, for everything else.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="CPU threads.")
@click.option("--save-every", type=click.IntRange(min=1), default=10, show_default=True, help="In epochs.")
def main(
    out: Path,
    demo_dir: Path,
    held_out: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    adamw_learning_rate: float,
    seed: int,
    threads: int,
    save_every: int,
) -> None:
    torch.set_num_threads(threads)
    recipe = Recipe(
        seed=seed,
        held_out=held_out,
        n_epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        adamw_learning_rate=adamw_learning_rate,
        n_threads=threads,
    )
    train_data, held_out_data, wnids = read_images(demo_dir, held_out, IMAGE_SIDE_PX)
    click.echo(f"{len(train_data)} training images, {len(held_out_data)} of {held_out}, {len(wnids)} classes")
    started = time.monotonic()
    head = train(train_data, len(wnids), recipe, out, save_every)
    minutes = (time.monotonic() - started) / 60.0
    scores = measure(out, head, train_data, held_out_data)
    write_card(out, recipe, train_data, held_out_data, scores, minutes)
    probes = ", ".join(f"{score:.3f}" for score in scores.probes_held_out)
    click.echo(
        f"{minutes:.1f} minutes; accuracy of the head: {scores.head_train:.3f}, "
        f"of {held_out}: {scores.head_held_out:.3f}"
    )
    click.echo(f"linear probe of {held_out} after each block: {probes}")


if __name__ == "__main__":
    main()
