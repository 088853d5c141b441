"""The vision tower inside a built model of transformers: its blocks, and which of them the rest of the model reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from hsae.backbones.architectures import ARCHITECTURES, is_traceable
from hsae.backbones.hooks.places import block_paths
from hsae.backbones.inputs import pair
from hsae.backbones.spec import BackboneSpec
from hsae.errors import UserError


@dataclass(frozen=True, slots=True, eq=False)
class VisionTower:
    """A vision transformer in a model, which may be the model itself.

    Attributes:
        spec: its shape, under the model's name. Revision and preprocessing are not known, and empty.
        blocks: its blocks.
        last_read: the last block whose output the model uses; -1 where it reads the embeddings alone.
        reads_class_token: whether the class token after that block is used, too.
    """

    spec: BackboneSpec
    blocks: tuple[nn.Module, ...]
    last_read: int
    reads_class_token: bool


def vision_tower(model: Any) -> VisionTower:
    """The vision tower of a model that transformers built, such as a `LlavaForConditionalGeneration`.

    Raises:
        UserError: it is no torch module, has no tower or several, or one whose blocks do not pass on the residual
            stream.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"the model is a {type(model).__name__}: give the torch module that transformers loads")
    config = getattr(model, "config", None)
    name = str(getattr(config, "_name_or_path", "") or type(model).__name__)
    towers = _towers(model)
    if not towers:
        usable = ", ".join(sorted(filter(is_traceable, ARCHITECTURES)))
        raise UserError(f"{name} has no vision tower that is supported: give a model with one of type {usable}")
    if len(towers) > 1:
        raise UserError(f"{name} has the vision towers {', '.join(towers)}: give the module of one of them")
    (tower,) = towers.values()
    kind = tower.config.model_type
    if not is_traceable(kind):
        raise UserError(
            f"the vision tower of {name} is of type {kind}, whose blocks do not pass on the residual stream as tokens:"
            " give another model"
        )
    spec = _spec(tower.config, name)
    blocks = tuple(tower.get_submodule(path) for path in block_paths(tower, ARCHITECTURES[kind]))
    if len(blocks) != spec.n_layers:
        raise UserError(
            f"the vision tower of {name} has {len(blocks)} blocks at {ARCHITECTURES[kind].blocks}, and by its"
            f" configuration {spec.n_layers}: load the whole model with transformers"
        )
    layers = _layers_read(config)
    last_read = max(layer - 1 if layer >= 0 else spec.n_layers + layer for layer in layers)
    return VisionTower(spec, blocks, last_read, spec.has_class_token and _reads_class_token(config))


def _towers(model: nn.Module) -> dict[str, Any]:
    """By path the modules that are whole vision models; none lies inside another.

    Their classes are known by name: to import all of them would take seconds.
    """
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        known = ARCHITECTURES.get(str(getattr(getattr(module, "config", None), "model_type", "")))
        is_tower = known is not None and known.model_class in {each.__name__ for each in type(module).__mro__}
        if is_tower and not any(path.startswith(f"{outer}." if outer else "") for outer in found):
            found[path] = module
    return found


def _spec(config: Any, name: str) -> BackboneSpec:
    architecture = ARCHITECTURES[config.model_type]
    n_registers = architecture.n_registers(config)
    (height, width), (patch_height, patch_width) = pair(config.image_size), pair(config.patch_size)
    return BackboneSpec(
        name=name,
        revision="",
        model_type=config.model_type,
        n_layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        n_prefix_tokens=architecture.n_special_tokens + n_registers,
        has_class_token=architecture.has_class_token,
        n_patches=(height // patch_height) * (width // patch_width),
        preprocessing={},
        n_registers=n_registers,
    )


def _layers_read(config: Any) -> Sequence[int]:
    """The hidden states that a language model reads, as its configuration counts them: 0 is the embeddings' output."""
    for setting in ("vision_feature_layer", "vision_feature_layers"):
        given = getattr(config, setting, None)
        if given is not None:
            return [given] if isinstance(given, int) else list(given)
    return [-1]


def _reads_class_token(config: Any) -> bool:
    strategy = getattr(config, "vision_feature_select_strategy", None)
    return strategy != "default" and getattr(config, "model_type", "") != "vipllava"
