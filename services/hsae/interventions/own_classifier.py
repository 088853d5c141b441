"""The model's own classifier as a readout, where its files have one: the part of the model behind its blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from jaxtyping import Float, Int64
from safetensors import SafetensorError
from torch import Tensor, nn

from hsae.backbones.architectures import ARCHITECTURES
from hsae.backbones.inputs import pair
from hsae.backbones.passes.given_stream import giving_stream
from hsae.backbones.sources import CONFIG_FILE, read_json, with_weights
from hsae.backbones.spec import BackboneSpec
from hsae.errors import UserError
from hsae.interventions.readouts import Reading, Readout
from hsae.taxonomy import Synset
from hsae.vocabulary.readouts import ReadoutName

_SUFFIX = "ForImageClassification"
_LEAVE_OUT = "leave the readout classifier out"


@dataclass(frozen=True, eq=False)
class OwnClassifier(Readout):
    """The classifier that a model was published with.

    Attributes:
        model: the whole model.
        blocks: its blocks.
        image_size: (height, width) of its input.
        options: arguments of its forward.
        outputs: for each class of the taxonomy the classifier's output, -1 where it has none.
    """

    model: nn.Module
    blocks: nn.ModuleList
    image_size: tuple[int, int]
    options: dict[str, Any]
    outputs: Int64[np.ndarray, "n_classes"]
    name: ReadoutName = "classifier"

    def read(self, stream: Float[Tensor, "batch n_all d_model"]) -> Reading:
        """The classes of a batch, among those that the classifier knows."""
        device = next(self.model.parameters()).device
        blank = torch.zeros(len(stream), 3, *self.image_size, device=device)
        with torch.no_grad(), giving_stream(self.blocks, stream):
            given = self.model(pixel_values=blank, **self.options).logits.double().cpu().numpy()
        logits = np.where(self.outputs >= 0, given[:, np.maximum(self.outputs, 0)], -np.inf)
        return Reading(logits.argmax(1), logits)


def load_classifier(
    spec: BackboneSpec, classes: Sequence[Synset], device: torch.device, cache_dir: Path | None = None
) -> OwnClassifier:
    """Load a model with its classifier.

    An output belongs to a class if its label is the class' id or name, or if a part of the label between commas is a
    word of this class alone. Other outputs are left out.

    Args:
        spec: the backbone.
        classes: of the taxonomy, in its order.
        device: where it computes.
        cache_dir: cache of hub downloads; None: the hub's own.

    Raises:
        UserError: the model has no classifier, or it knows fewer than two of the classes.
    """
    architecture = ARCHITECTURES.get(spec.model_type)
    found: list[str] = []
    if spec.random_init is None and architecture is not None:
        folder = with_weights(spec.name, spec.revision, cache_dir=cache_dir)
        named = read_json(folder / CONFIG_FILE).get("architectures") or ()
        found = [name for name in named if isinstance(name, str) and name.endswith(_SUFFIX)]
    if architecture is None or not found or not hasattr(transformers, found[0]):
        raise UserError(f"{spec.name} has no classifier of its own: {_LEAVE_OUT}")
    try:
        model = getattr(transformers, found[0]).from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa", use_safetensors=True, trust_remote_code=False,
            local_files_only=True,
        )  # fmt: skip
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the classifier of {spec.name} cannot be loaded ({reason}): {_LEAVE_OUT}") from error
    labels = {int(number): str(label) for number, label in model.config.id2label.items()}
    outputs = matched_outputs(labels, classes)
    if (outputs >= 0).sum() < 2:
        raise UserError(
            f"the classifier of {spec.name} knows {int((outputs >= 0).sum())} of the data set's {len(outputs)} classes:"
            f" {_LEAVE_OUT}"
        )
    rule = spec.preprocessing["image_size"]
    options: dict[str, Any] = {}
    if architecture.interpolation_flag:
        options["interpolate_pos_encoding"] = pair(model.config.image_size) != tuple(rule)
    lists = [each for each in model.modules() if isinstance(each, nn.ModuleList) and len(each) == spec.n_layers]
    if len(lists) != 1:
        raise RuntimeError(f"{type(model).__name__} has {len(lists)} lists of {spec.n_layers} modules instead of one")
    return OwnClassifier(model.eval().requires_grad_(False).to(device), lists[0], (rule[0], rule[1]), options, outputs)


def matched_outputs(labels: dict[int, str], classes: Sequence[Synset]) -> Int64[np.ndarray, "n_classes"]:
    """For each class the output that is labelled with it, -1 where there is none or there are several."""
    owners: dict[str, set[int]] = {}
    for position, synset in enumerate(classes):
        for word in (synset.id, synset.name, *synset.lemmas):
            owners.setdefault(_plain(word), set()).add(position)
    found: list[list[int]] = [[] for _ in classes]
    for output, label in labels.items():
        words = [label, *label.split(",")]
        meant = {position for word in words for position in _one(owners.get(_plain(word), set()))}
        for position in _one(meant):
            found[position].append(output)
    return np.array([outputs[0] if len(outputs) == 1 else -1 for outputs in found], np.int64)


def _one(positions: set[int]) -> set[int]:
    return positions if len(positions) == 1 else set()


def _plain(word: str) -> str:
    return word.strip().replace("_", " ").casefold()
