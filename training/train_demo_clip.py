"""Train the demo's CLIP on the demo's images and the names of their synsets.

    python training/train_demo_clip.py --out services/hsae/demo/clip-emoji

The vision tower starts as the first blocks of the demo's backbone, which has seen the same styles; the text tower is
new. First both are trained; then the vision tower stays as it is, its features of some views are computed once, and the
projections and the text tower are trained on them, which costs next to nothing. Texts are the WordNet lemmas of the
classes and of all nodes above them, in templates, and sometimes their glosses. One drawing style is held out completely
and only measured. OUT receives the half precision weights, the image processor, the tokenizer and, at the end, the
model card; it is usable from the first `--save-every` on.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from augmentation import ViewSettings, random_views
from clip_measurement import Recipe, Texts, plain, write_card
from pictograms import DEMO_DIR, LabelledImages, read_images
from safetensors import safe_open
from small_clip import IMAGE_SIDE_PX, new_clip, new_tokenizer, save_clip
from small_dinov2 import CHANNEL_MEAN, CHANNEL_STD
from torch import Tensor, nn
from transformers import AutoModel

from hsae.taxonomy import InducedTaxonomy, induce, load_taxonomy

TEMPLATES = ("{}", "a {}", "a photo of a {}", "a picture of a {}", "a drawing of a {}", "an emoji of a {}")
MIN_GLOSS_WORDS = 3
"""A word of glosses is known if it stands in so many of them."""


def words_of(taxonomy: InducedTaxonomy) -> list[str]:
    """The words that the tokenizer knows: those of all lemmas and templates, and the common ones of glosses."""
    of_glosses = Counter(word for synset in taxonomy.synsets for word in set(_split(synset.definition)))
    known = {word for synset in taxonomy.synsets for lemma in synset.lemmas for word in _split(plain(lemma))}
    known |= {word for template in TEMPLATES for word in _split(template.replace("{}", ""))}
    known |= {word for word, count in of_glosses.items() if count >= MIN_GLOSS_WORDS}
    return sorted(known | {":"})


def _split(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]+", text.lower())  # as the tokenizer does


def random_texts(taxonomy: InducedTaxonomy, rng: random.Random, *, glosses: bool) -> list[str]:
    """A text of every node: one of its lemmas in one of the templates."""
    texts = []
    for synset in taxonomy.synsets:
        text = rng.choice(TEMPLATES).replace("{}", plain(rng.choice(synset.lemmas)))
        texts.append(f"{text}: {synset.definition}" if glosses else text)
    return texts


class Loss(nn.Module):
    """Cross entropy of images over the texts of all classes, plus binary cross entropy of images and inner nodes."""

    def __init__(self, taxonomy: InducedTaxonomy) -> None:
        super().__init__()
        self._inside = torch.from_numpy(taxonomy.closure.toarray()).float()
        self._classes = torch.tensor(taxonomy.classes.tolist())
        self._inner = torch.tensor([node for node, count in enumerate(taxonomy.leaf_counts.tolist()) if count > 1])
        self.inner_scale = nn.Parameter(torch.tensor([math.log(10.0), -5.0]))

    def forward(self, seen: Tensor, said: Tensor, labels: Tensor, logit_scale: Tensor) -> tuple[Tensor, int]:
        """The loss of unit embeddings of images and of all nodes, and how many classes are right."""
        cosine = seen @ said.T
        logits = cosine[:, self._classes] * logit_scale.exp().clamp(max=100.0)
        of_inner = cosine[:, self._inner] * self.inner_scale[0].exp() + self.inner_scale[1]
        under = nn.functional.binary_cross_entropy_with_logits(of_inner, self._inside[labels][:, self._inner])
        n_right = int((logits.argmax(1) == labels).sum())
        return nn.functional.cross_entropy(logits, labels) + 3.0 * under, n_right


def falling(step: int, n_steps: int, warmup: float) -> float:
    """A factor of the learning rate: a linear rise, then half a cosine down to zero."""
    return min(1.0, (step + 1) / max(1, warmup * n_steps)) * 0.5 * (1 + math.cos(math.pi * step / n_steps))


class Training:
    """A CLIP in training."""

    def __init__(self, taxonomy: InducedTaxonomy, recipe: Recipe, demo_dir: Path) -> None:
        torch.manual_seed(recipe.seed)
        self._rng, self._choice = torch.Generator().manual_seed(recipe.seed), random.Random(recipe.seed)
        self._taxonomy, self._recipe = taxonomy, recipe
        backbone = AutoModel.from_pretrained(
            demo_dir / "dinov2-emoji", dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        self.tokenizer = new_tokenizer(words_of(taxonomy))
        self.model = new_clip(backbone, len(self.tokenizer)).train()
        self._loss = Loss(taxonomy)
        self._views = ViewSettings()
        self._mean, self._std = (torch.tensor(values).view(3, 1, 1) for values in (CHANNEL_MEAN, CHANNEL_STD))

    def whole(self, data: LabelledImages, out: Path, save_every: int) -> None:
        """Train both towers on views of half the size."""
        recipe, model = self._recipe, self.model
        of_tower = {id(parameter) for parameter in model.vision_model.parameters()}
        fast = [parameter for parameter in model.parameters() if id(parameter) not in of_tower]
        optimizer = self._optimizer(
            {"params": list(model.vision_model.parameters()), "lr": recipe.learning_rate},
            {"params": fast, "lr": 5 * recipe.learning_rate},
        )
        n_steps = recipe.n_epochs * (len(data) // recipe.batch_size)
        images, masks = (
            nn.functional.interpolate(whole / 255.0, size=IMAGE_SIDE_PX // 2, mode="area")
            for whole in (data.images, data.masks)
        )
        step = 0
        for epoch in range(1, recipe.n_whole + 1):
            started, total, n_right, n_seen = time.monotonic(), 0.0, 0, 0
            for rows in self._batches(len(data), recipe.batch_size):
                seen = model.get_image_features(
                    pixel_values=self._pixels(images[rows], masks[rows]), interpolate_pos_encoding=True
                ).pooler_output
                loss, right = self._step(optimizer, seen, data.labels[rows], falling(step, n_steps, recipe.warmup))
                step, total = step + 1, total + loss * len(rows)
                n_right, n_seen = n_right + right, n_seen + len(rows)
            click.echo(
                f"epoch {epoch}/{recipe.n_whole}  {time.monotonic() - started:.0f} s  loss {total / n_seen:.3f}  "
                f"accuracy on views {n_right / n_seen:.3f}"
            )
            if epoch % save_every == 0 or epoch == recipe.n_whole:
                self.save(out)

    def head(self, data: LabelledImages, out: Path) -> None:
        """Train the projections and the text tower on features of the vision tower, which stays as it is."""
        recipe, model = self._recipe, self.model
        features, labels = self._features(data)
        model.vision_model.requires_grad_(False)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = self._optimizer({"params": trained, "lr": 5 * recipe.learning_rate})
        size = 4 * recipe.batch_size
        n_steps = recipe.n_head_epochs * (len(labels) // size)
        step, n_right = 0, 0
        for epoch in range(1, recipe.n_head_epochs + 1):
            n_right = 0
            for rows in self._batches(len(labels), size):
                seen = model.visual_projection(features[rows])
                n_right += self._step(optimizer, seen, labels[rows], falling(step, n_steps, recipe.warmup))[1]
                step += 1
            click.echo(
                f"epoch {epoch}/{recipe.n_head_epochs} of the head  accuracy on views {n_right / len(labels):.3f}"
            )
        self.save(out)

    def save(self, out: Path) -> None:
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(100.0))
        save_clip(self.model, self.tokenizer, out)

    @torch.no_grad()
    def _features(self, data: LabelledImages) -> tuple[Tensor, Tensor]:
        """What the projection reads of each image as it is, and of views of it."""
        found, labels = [], []
        self.model.eval()
        for view in range(1 + self._recipe.n_views):
            for rows in torch.arange(len(data)).split(128):
                whole, masks = data.images[rows] / 255.0, data.masks[rows] / 255.0
                pixels = self._pixels(whole, masks) if view else (whole - self._mean) / self._std
                found.append(self.model.vision_model(pixel_values=pixels).pooler_output)
                labels.append(data.labels[rows])
            click.echo(f"features of view {view}")
        self.model.train()
        return torch.cat(found), torch.cat(labels)

    def _batches(self, n_rows: int, size: int) -> Iterator[Tensor]:
        order = torch.randperm(n_rows, generator=self._rng)
        yield from order[: n_rows - n_rows % size].split(size)

    def _pixels(self, images: Tensor, masks: Tensor) -> Tensor:
        return (random_views(images, masks, self._views, self._rng) - self._mean) / self._std

    def _optimizer(self, *groups: dict[str, Any]) -> torch.optim.Optimizer:
        decay = self._recipe.weight_decay
        scale = {"params": [self._loss.inner_scale], "lr": 5 * self._recipe.learning_rate, "weight_decay": 0.0}
        found = torch.optim.AdamW(
            [*({**group, "weight_decay": decay} for group in groups), scale], betas=(0.9, 0.98), fused=True
        )
        for group in found.param_groups:
            group["peak"] = group["lr"]
        return found

    def _step(self, optimizer: torch.optim.Optimizer, seen: Tensor, labels: Tensor, factor: float) -> tuple[float, int]:
        """One step; the loss, and how many images are nearest to the text of their class."""
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        glosses = self._choice.random() < self._recipe.glosses
        said = Texts(self.model, self.tokenizer)(random_texts(self._taxonomy, self._choice, glosses=glosses))
        loss, n_right = self._loss(nn.functional.normalize(seen, dim=1), said, labels, self.model.logit_scale)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach()), n_right


@click.command(help=__doc__)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the model.")
@click.option(
    "--demo-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=DEMO_DIR,
    help="Folder with images/, images.csv and the backbone. Default: the demo folder of this checkout.",
)
@click.option("--held-out", default="fxemoji", show_default=True, help="Style that training never sees.")
@click.option("--epochs", type=click.IntRange(min=1), default=60, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=4e-4, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="CPU threads.")
@click.option(
    "--from",
    "go_on",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Leave the first part out, and go on from what it saved here.",
)
@click.option("--save-every", type=click.IntRange(min=1), default=5, show_default=True, help="In epochs.")
def main(
    out: Path,
    demo_dir: Path,
    held_out: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    threads: int,
    go_on: Path | None,
    save_every: int,
) -> None:
    torch.set_num_threads(threads)
    recipe = Recipe(seed, held_out, epochs, batch_size, learning_rate, threads)
    train_data, held_out_data, wnids = read_images(demo_dir, held_out, IMAGE_SIDE_PX)
    taxonomy = induce(load_taxonomy(), wnids)
    named = [taxonomy.synsets[node].id for node in taxonomy.classes.tolist()]
    if named != wnids:
        raise click.ClickException("the classes of images.csv are not those of the taxonomy")
    started = time.monotonic()
    training = Training(taxonomy, recipe, demo_dir)
    if go_on is None:
        training.whole(train_data, out, save_every)
    else:
        with safe_open(go_on / "model.safetensors", framework="pt") as file:
            training.model.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    training.head(train_data, out)
    minutes = (time.monotonic() - started) / 60.0
    seen, unseen = write_card(out, recipe, (train_data, held_out_data), taxonomy, minutes)
    click.echo(
        f"{minutes:.1f} minutes; zero-shot accuracy: {seen.first:.3f} ({seen.among_five:.3f} among five), "
        f"of {held_out}: {unseen.first:.3f} ({unseen.among_five:.3f})"
    )


if __name__ == "__main__":
    main()
