"""Load what a spec describes, from the library that it comes from."""

from pathlib import Path

import torch

from hsae.backbones.architectures import ARCHITECTURES, LANGUAGE_MODELS
from hsae.backbones.inputs import preprocessing_of
from hsae.backbones.loading.libraries import load_library_model
from hsae.backbones.loading.loaded import Loaded, Wanted
from hsae.backbones.names import library_of
from hsae.backbones.preprocessing import Preprocessing
from hsae.backbones.random_init import check_libraries
from hsae.backbones.sources import CONFIG_FILE, Source, find, is_of_tower, read_json, with_weights
from hsae.backbones.spec import BackboneSpec
from hsae.errors import UserError


def load_described(
    spec: BackboneSpec, hook: str, *, n_blocks: int, dtype: torch.dtype, cache_dir: Path | None
) -> tuple[Loaded, Preprocessing]:
    """The first blocks of a backbone on the CPU, and its preprocessing.

    Args:
        spec: identity of the backbone.
        hook: the hook point that is to be read.
        n_blocks: how many blocks are needed.
        dtype: weights are cast to this dtype.
        cache_dir: cache of hub downloads; None: the hub's own.

    Raises:
        ServiceError: the hub cannot be reached, and its cache lacks the weights.
        UserError: the weights are missing, damaged, incomplete or not those of `spec.revision`; or the preprocessing
            differs from `spec.preprocessing`.
    """
    if library_of(spec.name) is not None:
        loaded, preprocessing = load_library_model(spec, n_blocks=n_blocks, dtype=dtype, cache_dir=cache_dir)
        _check_preprocessing(preprocessing, spec)
        return loaded, preprocessing
    # transformers comes with it, half a second, which a notebook need not pay that only opens a service.
    from hsae.backbones.loading.transformers_models import load_model, read_config

    architecture = ARCHITECTURES[spec.model_type]
    random = spec.random_init
    if random is None:
        folder = _with_weights(spec, cache_dir)
    else:
        check_libraries(random, spec.name)
        folder = find(random.files, revision=random.files_revision, cache_dir=cache_dir, weights=False).folder
    source = Source(spec.name, spec.revision, folder)
    config = read_config(source, architecture)
    preprocessing = preprocessing_of(architecture, config, folder, spec.name)
    _check_preprocessing(preprocessing, spec)
    loaded = load_model(
        source,
        architecture,
        config,
        preprocessing.image_size,
        Wanted(hook, n_blocks, dtype, seed=None if random is None else random.seed),
    )
    return loaded, preprocessing


def _with_weights(spec: BackboneSpec, cache_dir: Path | None) -> Path:
    """The folder of the weights; of a language model on the hub only the files with its vision tower are fetched."""
    folder = find(spec.name, revision=spec.revision, cache_dir=cache_dir).folder
    is_language_model = read_json(folder / CONFIG_FILE).get("model_type") in LANGUAGE_MODELS
    wanted = is_of_tower if is_language_model else lambda tensor: True
    return with_weights(spec.name, spec.revision, cache_dir=cache_dir, wanted=wanted)


def _check_preprocessing(preprocessing: Preprocessing, spec: BackboneSpec) -> None:
    if preprocessing.description != spec.preprocessing:
        raise UserError(
            f"the preprocessing of {spec.name} is another one here than where the job was submitted: install "
            "the same versions of transformers (and torchvision, if any) on both, or submit anew"
        )
