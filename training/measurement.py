"""Accuracy of the saved model on drawings that it was trained on and on a style that it never saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from pictograms import LabelledImages
from PIL import Image
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModel

PROBE_L2 = 1e-3


@torch.no_grad()
def class_token_layers(out: Path, data: LabelledImages) -> Tensor:
    """Class tokens of the saved model as a reader loads it: float32[n_layers + 1, n, d_model].

    Rows 0 .. n_layers - 1 are the residual stream after each block; the last row is after the final norm.
    """
    model = AutoModel.from_pretrained(out, dtype=torch.float32, use_safetensors=True, trust_remote_code=False).eval()
    processor = AutoImageProcessor.from_pretrained(out, trust_remote_code=False)
    parts = []
    for start in range(0, len(data), 128):
        pictures = [Image.open(path) for path in data.paths[start : start + 128]]
        pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]
        output = model(pixel_values=pixels, output_hidden_states=True)
        layers = [hidden[:, 0] for hidden in output.hidden_states[1:]]
        parts.append(torch.stack([*layers, output.last_hidden_state[:, 0]]))
    return torch.cat(parts, dim=1)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(dim=1) == labels).float().mean())


def probe_accuracy(train_tokens: Tensor, labels: Tensor, test_tokens: Tensor, test_labels: Tensor) -> float:
    """Test accuracy of multinomial logistic regression on standardised tokens, L2 penalty PROBE_L2."""
    mean, std = train_tokens.mean(dim=0), train_tokens.std(dim=0).clamp_min(1e-6)
    rows, test_rows = (train_tokens - mean) / std, (test_tokens - mean) / std
    n_classes = int(max(labels.max(), test_labels.max())) + 1
    weight = torch.zeros(rows.shape[1], n_classes, requires_grad=True)
    bias = torch.zeros(n_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(rows @ weight + bias, labels) + PROBE_L2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return accuracy(test_rows @ weight.detach() + bias.detach(), test_labels)


@dataclass(frozen=True)
class Scores:
    """Accuracies (0..1) of the saved, half precision model."""

    head_train: float
    head_held_out: float
    probes_held_out: list[float]
    """Per block, first to last: a linear probe of the class token, fitted on the training styles."""


def measure(out: Path, head: nn.Linear, train_data: LabelledImages, held_out_data: LabelledImages) -> Scores:
    train_layers, held_out_layers = (class_token_layers(out, data) for data in (train_data, held_out_data))
    with torch.no_grad():
        head_train = accuracy(head(train_layers[-1]), train_data.labels)
        head_held_out = accuracy(head(held_out_layers[-1]), held_out_data.labels)
    probes = [
        probe_accuracy(train_tokens, train_data.labels, held_out_tokens, held_out_data.labels)
        for train_tokens, held_out_tokens in zip(train_layers[:-1], held_out_layers[:-1], strict=True)
    ]
    return Scores(head_train, head_held_out, probes)
