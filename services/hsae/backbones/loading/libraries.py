"""Models of libraries beside transformers: described, drawn and loaded in one way."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import nn

from hsae.backbones.hooks.family import Family
from hsae.backbones.loading.described import Described
from hsae.backbones.loading.library_files import LibraryFiles, config_checksum
from hsae.backbones.loading.loaded import Loaded, drop_blocks
from hsae.backbones.names import LIBRARIES, library_of, random_init_name
from hsae.backbones.preprocessing import Preprocessing
from hsae.backbones.random_init import check_libraries, random_revision, versions
from hsae.backbones.spec import BackboneSpec, HookShape, RandomInit
from hsae.errors import UserError
from hsae.extras import install_extra


class _Library(Protocol):
    """What the module of a library has; see `timm_models`."""

    PACKAGES: tuple[str, ...]

    def find(
        self, rest: str, *, revision: str | None, cache_dir: Path | None, weights: bool, fetch: bool
    ) -> LibraryFiles: ...

    def build(self, files: LibraryFiles) -> nn.Module: ...

    def load(self, files: LibraryFiles) -> nn.Module: ...

    def image_processor(self, files: LibraryFiles) -> dict[str, Any]: ...

    def family(self, model: nn.Module) -> Family: ...

    def tokens(self, model: nn.Module) -> HookShape: ...


if TYPE_CHECKING:
    from hsae.backbones.loading import open_clip_models, timm_models

    _CHECKED: tuple[_Library, ...] = (open_clip_models, timm_models)

# By name: the libraries are optional, and are imported at the top of their modules.
_MODULES = {library: f"hsae.backbones.loading.{library}_models" for library in LIBRARIES}


def describe_library_model(
    name: str, *, revision: str | None, cache_dir: Path | None, random_seed: int | None
) -> Described:
    """A model of another library without its weights.

    Raises:
        ServiceError: the hub cannot be reached, and its cache lacks the model.
        UserError: the library is not installed, or there is no such model, or it has no blocks.
    """
    prefix, library = _library(name)
    files = library.find(
        name.removeprefix(f"{prefix}:"),
        revision=revision,
        cache_dir=cache_dir,
        weights=random_seed is None,
        fetch=False,
    )
    random = None
    settled_name, settled_revision = files.name, files.revision
    if random_seed is not None:
        libraries = versions(library.PACKAGES)
        random = RandomInit(seed=random_seed, files=files.name, files_revision=files.revision, libraries=libraries)
        settled_name = random_init_name(files.name, random_seed)
        settled_revision = random_revision(config_checksum(files.config), random_seed, libraries)
    model = _skeleton(library, files)
    family, tokens = library.family(model), library.tokens(model)
    preprocessing = Preprocessing(library.image_processor(files), files.name, "BitImageProcessor")
    spec = BackboneSpec(
        name=settled_name,
        revision=settled_revision,
        model_type=f"{prefix} {type(model).__name__}",
        n_layers=1,
        d_model=tokens.width,
        n_prefix_tokens=tokens.n_prefix_tokens,
        has_class_token=tokens.has_class_token,
        n_patches=tokens.n_patches,
        preprocessing=preprocessing.description,
        random_init=random,
        n_registers=tokens.n_registers,
    )
    described = Described(
        spec, family=lambda hook: family, skeleton=lambda hook: model, arguments=lambda pixels: {"x": pixels}
    )
    # Runs the model without numbers once: its blocks are counted, and what they give is as it says.
    return described.counted()


def load_library_model(
    spec: BackboneSpec, *, n_blocks: int, dtype: torch.dtype, cache_dir: Path | None
) -> tuple[Loaded, Preprocessing]:
    """A model of another library with its weights, on the CPU; those of blocks that are not needed are freed.

    Raises:
        ServiceError: the hub cannot be reached, and its cache lacks the weights.
        UserError: the library is not installed, or the weights are missing, damaged or not those of `spec.revision`.
    """
    random = spec.random_init
    name, revision = (spec.name, spec.revision) if random is None else (random.files, random.files_revision)
    prefix, library = _library(name)
    is_named = revision.startswith((f"{prefix}-", "random-"))  # by the library's own list of architectures
    files = library.find(
        name.removeprefix(f"{prefix}:"),
        revision=None if is_named else revision,
        cache_dir=cache_dir,
        weights=random is None,
        fetch=True,
    )
    if random is None:
        model = library.load(files)
    else:
        check_libraries(random, spec.name)
        with torch.random.fork_rng(devices=[]):  # the random numbers of the process stay as they are
            torch.default_generator.manual_seed(random.seed)
            model = library.build(files)
    family = library.family(model)
    drop_blocks(model, family, n_blocks)
    preprocessing = Preprocessing(library.image_processor(files), files.name, "BitImageProcessor")
    loaded = Loaded(model.to(dtype), family, lambda pixels: {"x": pixels}, is_cut=False, is_traceable=False)
    return loaded, preprocessing


def _library(name: str) -> tuple[str, _Library]:
    """The library that a name asks for.

    Raises:
        UserError: it is not installed, or cannot be imported.
    """
    prefix = library_of(name)
    if prefix is None:
        raise ValueError(f"{name} has no prefix of a library")
    extra = prefix.replace("_", "-")
    try:
        module = import_module(_MODULES[prefix])
    except ModuleNotFoundError as error:
        raise UserError(
            f"{name} needs {error.name}, which is not installed: {install_extra(extra)}, and install the"
            " torchvision that fits your torch"
        ) from error
    except (ImportError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{name} needs {prefix}, which cannot be imported ({reason}): install the torchvision that fits your torch"
        ) from error
    return prefix, cast("_Library", module)


def _skeleton(library: _Library, files: LibraryFiles) -> nn.Module:
    """The model to look at: without numbers, where the library can build it so."""
    try:
        with torch.device("meta"):
            return library.build(files).eval()
    except (UserError, NotImplementedError, RuntimeError):
        return library.build(files).eval()
