"""Describe a backbone without loading its weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hsae.backbones.architectures import ARCHITECTURES, TOWERS, Architecture, vision_type
from hsae.backbones.random_init import as_random
from hsae.backbones.sources import CONFIG_FILE, Source, find, read_json
from hsae.backbones.spec import BackboneSize, BackboneSpec
from hsae.errors import UserError


def inspect_backbone(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    random_seed: int | None = None,
    accept: Callable[[BackboneSize], object] = lambda size: None,
) -> BackboneSpec:
    """Describe a model. Weights are not loaded; only the checksum of a local folder reads them.

    Args:
        name: hub id or folder.
        revision: commit, branch or tag on the hub; None: the main branch.
        cache_dir: cache of hub downloads; None: the hub's own.
        random_seed: the model with weights drawn from this seed, of which only configuration and preprocessor must be
            there; None: with its own weights.
        accept: called with the size, where config.json tells it, before torch is loaded (seconds); may raise.

    Raises:
        ServiceError: the hub cannot be reached, and its cache lacks the model.
        UserError: there is no such model or revision; its type is not supported; its preprocessor cannot be used; or a
            folder lacks the configuration or safetensors weights.
    """

    def accept_config(path: Path) -> None:
        config = read_json(path)
        vision_type(config.get("model_type"), name)
        size = _size(config, name)
        if size is not None:
            accept(size)

    source = find(name, revision=revision, cache_dir=cache_dir, accept=accept_config, weights=random_seed is None)
    random = None
    if random_seed is not None:
        source, random = as_random(source, random_seed)
    from hsae.backbones.preprocessing import Preprocessing  # here, because it loads torch; a wrong name fails before

    model_type = vision_type(read_json(source.folder / CONFIG_FILE).get("model_type"), name)
    architecture = ARCHITECTURES[model_type]
    config = read_config(source, architecture)
    preprocessing = Preprocessing(source.folder, source.name, architecture.processor)
    height, width = preprocessing.image_size
    patch_height, patch_width = pair(config.patch_size)
    n_patches = (height // patch_height) * (width // patch_width)
    if n_patches == 0:
        raise UserError(
            f"{source.name}: its preprocessor gives images of {height}×{width} pixels, less than one patch of "
            f"{patch_height}×{patch_width}: correct the sizes in its preprocessor_config.json"
        )
    n_registers = int(config.num_register_tokens) if architecture.has_registers else 0
    return BackboneSpec(
        name=source.name,
        revision=source.revision,
        model_type=model_type,
        n_layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        n_prefix_tokens=architecture.n_special_tokens + n_registers,
        has_class_token=architecture.has_class_token,
        n_patches=n_patches,
        preprocessing=preprocessing.description,
        random_init=random,
    )


def _size(config: dict[str, Any], name: str) -> BackboneSize | None:
    """The size of the vision tower; None where transformers' default counts, or a value is no good."""
    tower = config.get("vision_config") if config.get("model_type") in TOWERS else config
    if not isinstance(tower, dict):
        return None
    n_layers, d_model = tower.get("num_hidden_layers"), tower.get("hidden_size")
    if type(n_layers) is not int or type(d_model) is not int or min(n_layers, d_model) < 1:
        return None
    return BackboneSize(name, n_layers, d_model)


def read_config(source: Source, architecture: Architecture) -> Any:
    """The transformers configuration of the vision tower.

    Raises:
        UserError: the configuration is invalid.
    """
    import transformers  # here, because the import takes seconds
    from huggingface_hub.errors import StrictDataclassError

    config_class = getattr(transformers, architecture.config_class)
    try:
        config = config_class.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)
    except (StrictDataclassError, TypeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{source.name}: its {CONFIG_FILE} is no good ({reason}): fetch the model again") from error
    if config.num_channels != 3:
        raise UserError(
            f"{source.name} reads {config.num_channels} channels, not red, green and blue: choose another model"
        )
    return config


def pair(size: Any) -> tuple[int, int]:
    """(height, width) of a size in a configuration; one number means a square."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width
