"""Describe a backbone without loading its weights."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsae.backbones.architectures import ARCHITECTURES, LANGUAGE_MODELS, TOWERS, vision_type
from hsae.backbones.hooks.names import RESIDUAL
from hsae.backbones.names import library_of
from hsae.backbones.random_init import as_random
from hsae.backbones.sources import find, read_json
from hsae.backbones.spec import BackboneSize, BackboneSpec

if TYPE_CHECKING:
    from hsae.backbones.loading.described import Described


def inspect_backbone(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    random_seed: int | None = None,
    accept: Callable[[BackboneSize], object] = lambda size: None,
    hook: str = RESIDUAL,
) -> BackboneSpec:
    """Describe a model. Weights are not loaded; only the checksum of a local folder reads them.

    Args:
        name: hub id or folder; behind a prefix (timm:, open_clip:) a model of another library.
        revision: commit, branch or tag on the hub; None: the main branch.
        cache_dir: cache of hub downloads; None: the hub's own.
        random_seed: the model with weights drawn from this seed, of which only configuration and preprocessor must be
            there; None: with its own weights.
        accept: called with the size, where config.json tells it, before torch is loaded (seconds); may raise.
        hook: the hook point that `shapes` of the result are of, by its canonical name.

    Raises:
        ServiceError: the hub cannot be reached, and its cache lacks the model.
        UserError: there is no such model or revision; its type is not supported; its preprocessor cannot be used; it
            has no such hook point; or a folder lacks the configuration or safetensors weights.
    """
    described = describe(name, revision=revision, cache_dir=cache_dir, random_seed=random_seed, accept=accept)
    return described.at(hook)


def describe(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    random_seed: int | None = None,
    accept: Callable[[BackboneSize], object] = lambda size: None,
) -> "Described":
    """What `inspect_backbone` knows of a model, with its modules to look at. Arguments and errors are the same."""
    if library_of(name) is not None:
        # torch comes with it, and the library.
        from hsae.backbones.loading.libraries import describe_library_model

        return describe_library_model(name, revision=revision, cache_dir=cache_dir, random_seed=random_seed)

    def accept_config(path: Path) -> None:
        config = read_json(path)
        vision_type(config, name)
        size = _size(config, name)
        if size is not None:
            accept(size)

    source = find(name, revision=revision, cache_dir=cache_dir, accept=accept_config, weights=random_seed is None)
    random = None
    if random_seed is not None:
        source, random = as_random(source, random_seed)
    # torch and transformers come with it: a wrong name fails before they are loaded.
    from hsae.backbones.loading.transformers_models import describe_model

    return describe_model(source, random)


def _size(config: dict[str, Any], name: str) -> BackboneSize | None:
    """The size of the vision tower; None where transformers' default counts, or a value is no good."""
    model_type = config.get("model_type")
    tower = config.get("vision_config") if model_type in {*TOWERS, *LANGUAGE_MODELS} else config
    if not isinstance(tower, dict) or ARCHITECTURES[vision_type(config, name)].is_staged:
        return None
    n_layers, d_model = tower.get("num_hidden_layers"), tower.get("hidden_size")
    if type(n_layers) is not int or type(d_model) is not int or min(n_layers, d_model) < 1:
        return None
    return BackboneSize(name, n_layers, d_model)
