"""A backbone at the hook point of its embedding, which it has in common with texts."""

from pathlib import Path

import torch

from hsae.backbones.backbone import Backbone
from hsae.backbones.hooks.names import EMBEDDING
from hsae.backbones.inspection import inspect_backbone
from hsae.devices.precision import Precision


def load_embedding(
    name: str, revision: str, device: torch.device, cache_dir: Path | None, precision: Precision = "float32"
) -> Backbone:
    """Load a model with what follows its blocks. Raises as `Backbone.load`, and where it has no embedding."""
    spec = inspect_backbone(name, revision=revision, cache_dir=cache_dir, hook=EMBEDDING)
    return Backbone.load(
        spec,
        layers=(spec.n_layers - 1,),
        device=device,
        cache_dir=cache_dir,
        precision=precision,
        hook=EMBEDDING,
    )
