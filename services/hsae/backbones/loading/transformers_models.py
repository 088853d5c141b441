"""Models of transformers: described by their configuration, and built with the weights of their files or drawn ones."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from hsae.backbones.architectures import ARCHITECTURES, LANGUAGE_MODELS, TOWERS, Architecture, vision_type
from hsae.backbones.hooks.family import Family
from hsae.backbones.hooks.names import EMBEDDING
from hsae.backbones.inputs import n_patches_of, preprocessing_of
from hsae.backbones.loading.arguments import arguments_of
from hsae.backbones.loading.described import Described
from hsae.backbones.loading.loaded import Loaded, Wanted, drop_blocks
from hsae.backbones.loading.tower_weights import tower_weights
from hsae.backbones.sources import CONFIG_FILE, Source, read_json
from hsae.backbones.spec import BackboneSpec, RandomInit
from hsae.errors import UserError

# Not needed here, and inconsistent with a lower number of blocks.
_BACKBONE_API = ("out_features", "out_indices", "stage_names")


def describe_model(source: Source, random: RandomInit | None) -> Described:
    """What its configuration and its preprocessor say of a model; `random`: what its weights are drawn from.

    Raises:
        UserError: the configuration is invalid, or the preprocessor cannot be used.
    """
    model_type = vision_type(read_json(source.folder / CONFIG_FILE), source.name)
    architecture = ARCHITECTURES[model_type]
    config = read_config(source, architecture)
    preprocessing = preprocessing_of(architecture, config, source.folder, source.name)
    n_registers = architecture.n_registers(config)
    spec = BackboneSpec(
        name=source.name,
        revision=source.revision,
        model_type=model_type,
        # Of a staged model these are counted where it is run.
        n_layers=sum(config.depths) if architecture.is_staged else config.num_hidden_layers,
        d_model=0 if architecture.is_staged else config.hidden_size,
        n_prefix_tokens=architecture.n_special_tokens + n_registers,
        has_class_token=architecture.has_class_token,
        n_patches=0 if architecture.is_staged else n_patches_of(config, preprocessing, source.name),
        preprocessing=preprocessing.description,
        random_init=random,
        n_registers=n_registers,
    )
    return Described(
        spec,
        family=lambda hook: family_of(architecture, hook),
        skeleton=lambda hook: skeleton(architecture, config, hook),
        arguments=arguments_of(architecture, config, preprocessing.image_size),
    )


def read_config(source: Source, architecture: Architecture) -> Any:
    """The transformers configuration of the vision tower.

    Raises:
        UserError: the configuration is invalid.
    """
    content = read_json(source.folder / CONFIG_FILE)
    config_class = getattr(transformers, LANGUAGE_MODELS.get(content["model_type"], architecture.config_class))
    try:
        config = config_class.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)
    except (StrictDataclassError, TypeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{source.name}: its {CONFIG_FILE} is no good ({reason}): fetch the model again") from error
    if content["model_type"] in LANGUAGE_MODELS:
        config = config.vision_config
    projection = content.get("projection_dim")
    if content["model_type"] in TOWERS and type(projection) is int:  # of the pair; the tower's own may be the default
        config.projection_dim = projection
    if config.num_channels != 3:
        raise UserError(
            f"{source.name} reads {config.num_channels} channels, not red, green and blue: choose another model"
        )
    return config


def family_of(architecture: Architecture, hook: str) -> Family:
    """Where the blocks lie in the class of the model that a hook point needs."""
    embedding = architecture.embedding
    if hook != EMBEDDING or embedding is None or not embedding.prefix:
        return architecture
    return Family(
        blocks=embedding.prefix + architecture.blocks,
        attention=architecture.attention,
        mlp=architecture.mlp,
        embedding=embedding,
    )


def skeleton(architecture: Architecture, config: Any, hook: str) -> nn.Module:
    """The whole model without weights, to look at its modules.

    Raises:
        UserError: the configuration gives no model.
    """
    try:
        with torch.device("meta"):
            model: nn.Module = _model_class(architecture, hook)(
                _changed(config, architecture, hook), **architecture.model_options
            )
    except (RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"a {architecture.model_class} cannot be made ({reason}): correct its config.json") from error
    # These look at their inputs while they run. Their numbers do not matter.
    return model.to_empty(device="cpu") if architecture.inputs == "square_patches" else model


def load_model(
    source: Source, architecture: Architecture, config: Any, image_size: tuple[int, int], wanted: Wanted
) -> Loaded:
    """The first blocks; with a seed their weights are drawn instead of read.

    Raises:
        UserError: weights are missing, damaged or of another architecture.
    """
    hook, n_blocks, seed = wanted.hook, wanted.n_blocks, wanted.seed
    model_class = _model_class(architecture, hook)
    full = _changed(config, architecture, hook)
    cut = full if architecture.is_staged else _changed(config, architecture, hook, num_hidden_layers=n_blocks)
    with only_errors_logged():
        try:
            given = tower_weights(source.folder) if seed is None else None
            if seed is not None:
                given = _random_weights(model_class, full, architecture, seed)
            model, report = model_class.from_pretrained(
                source.folder if given is None else None,
                state_dict=given,
                config=cut,
                dtype=wanted.dtype,
                attn_implementation="sdpa" if architecture.attention is not None else None,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                **architecture.model_options,
            )
        except (OSError, RuntimeError, SafetensorError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            if seed is not None:
                raise UserError(f"{source.name} cannot be initialised ({reason}): correct its config.json") from error
            raise UserError(
                f"the weights of {source.name} cannot be loaded ({reason}): fetch the model again"
            ) from error
    if report["missing_keys"]:  # transformers would go on with random values
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise UserError(
            f"the weights of {source.name} lack {len(report['missing_keys'])} tensors ({missing}...): "
            "they are incomplete or belong to another architecture; fetch the model again"
        )
    family = family_of(architecture, hook)
    if architecture.is_staged:
        drop_blocks(model, family, n_blocks)
    return Loaded(
        model,
        family,
        arguments_of(architecture, config, image_size),
        is_cut=not architecture.is_staged,
        is_traceable=not architecture.is_staged and architecture.inputs == "pixels",
    )


def _model_class(architecture: Architecture, hook: str) -> Any:
    embedding = architecture.embedding
    of_hook = embedding.model_class if hook == EMBEDDING and embedding is not None else ""
    return getattr(transformers, of_hook or architecture.model_class)


def _changed(config: Any, architecture: Architecture, hook: str, **changes: Any) -> Any:
    """The configuration without what is not needed; for the embedding the head stays."""
    kept = {key: value for key, value in config.to_dict().items() if key not in _BACKBONE_API}
    return type(config).from_dict(kept | (changes if hook == EMBEDDING else {**architecture.config_changes, **changes}))


def _random_weights(model_class: Any, config: Any, architecture: Architecture, seed: int) -> dict[str, Tensor]:
    """The weights of a whole new model as transformers initialises it, float32 on the CPU.

    A weight depends on all numbers that were drawn before it, and in some types on the number of blocks. So the blocks
    that nobody needs are drawn, too.
    """
    with torch.random.fork_rng(devices=[]):  # the random numbers of the process stay as they are
        torch.default_generator.manual_seed(seed)
        drawn: dict[str, Tensor] = model_class(config, **architecture.model_options).state_dict()
        return drawn


@contextmanager
def only_errors_logged() -> Iterator[None]:
    """Keep what transformers says while it loads a model to what went wrong, and draw no bars."""
    # It reports every weight of the blocks that are left out.
    before = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
