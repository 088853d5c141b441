"""Accuracy of the saved CLIP on drawings that it was trained on and on a style that it never saw, and its card."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

import torch
from pictograms import LabelledImages
from PIL import Image
from small_clip import MAX_TOKENS
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, PreTrainedTokenizerFast

from hsae.taxonomy import InducedTaxonomy

CARD_TEMPLATE = Path(__file__).resolve().parent / "clip_card.md"
MEASURED = "a drawing of a {}"
"""Accuracy is that of this template with the first lemma."""


@dataclass(frozen=True)
class Recipe:
    """What decides the result; the defaults are the shipped model's."""

    seed: int
    held_out: str
    n_epochs: int
    batch_size: int
    learning_rate: float
    """Peak rate of the vision tower; the text tower and the projections have five times as much."""
    n_threads: int
    weight_decay: float = 0.05
    warmup: float = 0.05
    glosses: float = 0.2
    """Share of the steps whose texts have glosses."""
    n_whole: int = 18
    """Epochs that are run of both towers, at half the size. The rate falls as if all `n_epochs` were."""
    n_views: int = 2
    """Views of each image at the full size, beside the image itself, from which the second part learns."""
    n_head_epochs: int = 16
    """Epochs of the second part, in batches four times as large."""


def plain(lemma: str) -> str:
    return lemma.replace("_", " ")


class Texts:
    """Embeds texts with a model in training."""

    def __init__(self, model: CLIPModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self._model, self._tokenizer = model, tokenizer

    def __call__(self, texts: list[str]) -> Tensor:
        given = self._tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        output = self._model.get_text_features(
            input_ids=given["input_ids"], attention_mask=given["attention_mask"]
        ).pooler_output
        return nn.functional.normalize(output.float(), dim=1)


@dataclass(frozen=True)
class Scores:
    """Shares of images, 0 to 1: whose class is the nearest text, and among the five nearest."""

    first: float
    among_five: float


@torch.no_grad()
def measure(out: Path, data: LabelledImages, taxonomy: InducedTaxonomy) -> Scores:
    """Zero-shot accuracy of the saved model over all classes, as a reader loads it."""
    model = CLIPModel.from_pretrained(out, dtype=torch.float32, use_safetensors=True, trust_remote_code=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(out, trust_remote_code=False)
    processor = AutoImageProcessor.from_pretrained(out, trust_remote_code=False)
    named = [taxonomy.synsets[node].lemmas[0] for node in taxonomy.classes.tolist()]
    said = Texts(model, tokenizer)([MEASURED.replace("{}", plain(name)) for name in named])
    found = []
    for start in range(0, len(data), 128):
        pictures = [Image.open(path) for path in data.paths[start : start + 128]]
        pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]
        seen = nn.functional.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=1)
        found.append((seen @ said.T).topk(5, dim=1).indices)
    right = torch.cat(found) == data.labels[:, None]
    return Scores(float(right[:, 0].float().mean()), float(right.any(dim=1).float().mean()))


def write_card(
    out: Path, recipe: Recipe, datasets: tuple[LabelledImages, LabelledImages], taxonomy: InducedTaxonomy,
    minutes: float,
) -> tuple[Scores, Scores]:  # fmt: skip
    """Write the model card, OUT/README.md, from training/clip_card.md and what is measured here."""
    train_data, held_out_data = datasets
    seen, unseen = measure(out, train_data, taxonomy), measure(out, held_out_data, taxonomy)
    model = CLIPModel.from_pretrained(out, use_safetensors=True, trust_remote_code=False)
    card = string.Template(CARD_TEMPLATE.read_text(encoding="utf-8")).substitute(
        n_parameters=f"{model.num_parameters() / 1e6:.1f}",
        n_blocks=model.config.vision_config.num_hidden_layers,
        d_model=model.config.vision_config.hidden_size,
        text_width=model.config.text_config.hidden_size,
        projection=model.config.projection_dim,
        n_words=f"{model.config.text_config.vocab_size:,}",
        n_train=f"{len(train_data):,}",
        n_classes=len(taxonomy.classes),
        n_inner=int((taxonomy.leaf_counts > 1).sum()),
        styles=", ".join(f"`{style}`" for style in train_data.styles),
        held_out=recipe.held_out,
        n_held_out=len(held_out_data),
        n_epochs=recipe.n_epochs,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        glosses=f"{100 * recipe.glosses:.0f}",
        n_whole=recipe.n_whole,
        n_views=recipe.n_views,
        n_head_epochs=recipe.n_head_epochs,
        seed=recipe.seed,
        minutes=f"{minutes:.0f}",
        n_threads=recipe.n_threads,
        chance=f"{100 / len(taxonomy.classes):.2f}",
        chance_five=f"{500 / len(taxonomy.classes):.1f}",
        train_first=f"{100 * seen.first:.1f}",
        train_five=f"{100 * seen.among_five:.1f}",
        held_out_first=f"{100 * unseen.first:.1f}",
        held_out_five=f"{100 * unseen.among_five:.1f}",
        template=MEASURED,
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    return seen, unseen
