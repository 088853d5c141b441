"""A loaded backbone: computes the residual stream after chosen blocks for images."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from hsae.backbones.architectures import ARCHITECTURES, Architecture
from hsae.backbones.inspection import pair, read_config
from hsae.backbones.preprocessing import Picture, Preprocessing
from hsae.backbones.random_init import check_libraries
from hsae.backbones.restarted_pass import RecordedPass, recorded_pass
from hsae.backbones.sources import Source, find, with_weights
from hsae.backbones.spec import BackboneSpec, Tokens, check_layers, check_tokens
from hsae.backbones.traced_pass import TracedPass, traced_pass
from hsae.errors import UserError

# Not needed here, and inconsistent with a lower number of blocks.
_BACKBONE_API = ("out_features", "out_indices", "stage_names")


class Backbone:
    """A vision transformer up to the deepest requested layer.

    Layer k is the residual stream after block k, counted from 0, before the final norm. The activations of a layer do
    not depend on the other requested layers; their last bits may depend on the batch size.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        layers: tuple[int, ...],
        model: nn.Module,
        options: dict[str, Any],
        preprocessing: Preprocessing,
        dtype: torch.dtype,
    ) -> None:
        """Used by `load`. `model` has exactly the blocks 0 to `layers[-1]`; `options` are passed to its forward."""
        self.spec = spec
        self.layers = layers
        self._model = model
        self._blocks = _blocks(model, layers[-1] + 1)
        self._options = options
        self._preprocessing = preprocessing
        self._dtype = dtype

    @classmethod
    def load(
        cls,
        spec: BackboneSpec,
        *,
        layers: Sequence[int],
        device: torch.device,
        cache_dir: Path | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Load the blocks up to the deepest of `layers` onto `device`.

        Args:
            spec: identity of the backbone.
            layers: requested layers.
            device: device for the computation.
            cache_dir: cache of hub downloads; None: the hub's own.
            dtype: weights are cast to this dtype.

        Raises:
            ServiceError: the hub cannot be reached, and its cache lacks the weights.
            UserError: a layer does not exist; the weights are missing, damaged, incomplete or not those of
                `spec.revision`; or the preprocessing differs from `spec.preprocessing`.
        """
        layers = check_layers(spec, layers)
        architecture = ARCHITECTURES[spec.model_type]
        random = spec.random_init
        if random is None:
            folder = with_weights(spec.name, spec.revision, cache_dir=cache_dir)
        else:
            check_libraries(random, spec.name)
            folder = find(random.files, revision=random.files_revision, cache_dir=cache_dir, weights=False).folder
        source = Source(spec.name, spec.revision, folder)
        preprocessing = Preprocessing(folder, spec.name, architecture.processor)
        if preprocessing.description != spec.preprocessing:
            raise UserError(
                f"the preprocessing of {spec.name} is another one here than where the job was submitted: install "
                "the same versions of transformers (and torchvision, if any) on both, or submit anew"
            )
        config = read_config(source, architecture)
        options: dict[str, Any] = {}
        if architecture.interpolation_flag:
            options["interpolate_pos_encoding"] = pair(config.image_size) != preprocessing.image_size
        seed = None if random is None else random.seed
        model = _load_model(source, architecture, config, n_blocks=layers[-1] + 1, dtype=dtype, seed=seed)
        model.eval().requires_grad_(False).to(device)
        return cls(spec, layers, model, options, preprocessing, dtype)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self._model.parameters()).device

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing that turns images into the input of `activations`."""
        return self._preprocessing

    def pixel_values(self, images: Sequence[Picture]) -> Float[Tensor, "batch 3 height width"]:
        """The preprocessed images, float32[batch, 3, height, width] on the CPU."""
        return self._preprocessing(images)

    def activations(
        self, pixel_values: Float[Tensor, "batch 3 height width"], tokens: Tokens
    ) -> dict[int, Float[Tensor, "batch n_tokens d_model"]]:
        """The activations of every requested layer, in one forward pass.

        Args:
            pixel_values: float32[batch, 3, height, width], from `pixel_values`.
            tokens: "cls" (n_tokens 1), "patches" (all patch tokens) or "mean" (mean of the patch tokens, n_tokens 1).

        Returns:
            float32[batch, n_tokens, d_model] on the device, by layer.
        """
        check_tokens(self.spec, tokens)
        collected: dict[int, Tensor] = {}
        with torch.no_grad(), self._collecting(collected, tokens):
            self._model(pixel_values.to(self.device, self._dtype), **self._options)
        return {layer: collected[layer] for layer in self.layers}

    @property
    def patch_grid(self) -> tuple[int, int]:
        """(rows, columns) of the patches of an image; patch tokens are in reading order."""
        config: Any = self._model.config
        height, width = self._preprocessing.image_size
        patch_height, patch_width = pair(config.patch_size)
        return height // patch_height, width // patch_width

    def traced(self, pixel_values: Float[Tensor, "batch 3 height width"], *, attention: bool) -> TracedPass:
        """One pass with a graph down to the embeddings; see `hsae.backbones.traced_pass`."""
        images = pixel_values.to(self.device, self._dtype)
        traced = traced_pass(self._model, self._blocks, images, self._options, attention=attention)
        self._check_shape(traced.stream)
        return traced

    def recorded(self, pixel_values: Float[Tensor, "batch 3 height width"]) -> RecordedPass:
        """One pass that keeps the streams of all requested layers and can go on from any of them."""
        images = pixel_values.to(self.device, self._dtype)
        recorded = recorded_pass(self._model, self._blocks, images, self._options, self.layers)
        self._check_shape(recorded.streams[self.layers[-1]])
        return recorded

    @contextmanager
    def _collecting(self, collected: dict[int, Tensor], tokens: Tokens) -> Iterator[None]:
        handles = [
            self._blocks[layer].register_forward_hook(self._collector(layer, collected, tokens))
            for layer in self.layers
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _collector(
        self, layer: int, collected: dict[int, Tensor], tokens: Tokens
    ) -> Callable[[nn.Module, Any, Any], None]:
        def collect(module: nn.Module, arguments: Any, output: Any) -> None:
            stream = output if isinstance(output, Tensor) else output[0]
            collected[layer] = self._select(stream, tokens)

        return collect

    def _select(
        self, stream: Float[Tensor, "batch n_all d_model"], tokens: Tokens
    ) -> Float[Tensor, "batch n_tokens d_model"]:
        n_prefix = self.spec.n_prefix_tokens
        self._check_shape(stream)
        if tokens == "cls":
            return stream[:, :1].clone().float()  # a copy, so that the other tokens can be freed
        patches = stream[:, n_prefix:].float()
        return patches.mean(dim=1, keepdim=True) if tokens == "mean" else patches

    def _check_shape(self, stream: Float[Tensor, "batch n_all d_model"]) -> None:
        expected = (self.spec.n_prefix_tokens + self.spec.n_patches, self.spec.d_model)
        if tuple(stream.shape[1:]) != expected:
            raise UserError(
                f"{self.spec.name} gives {tuple(stream.shape[1:])} (tokens, d_model) instead of {expected}: "
                "its configuration contradicts its preprocessor"
            )


def _load_model(
    source: Source, architecture: Architecture, full: Any, *, n_blocks: int, dtype: torch.dtype, seed: int | None
) -> nn.Module:
    """The first blocks; with a seed their weights are drawn instead of read."""
    import transformers  # here, because the import takes seconds

    kept = {key: value for key, value in full.to_dict().items() if key not in _BACKBONE_API}
    kept |= architecture.config_changes
    config = type(full).from_dict(kept | {"num_hidden_layers": n_blocks})
    model_class = getattr(transformers, architecture.model_class)
    with _only_errors_logged():
        try:
            drawn = None
            if seed is not None:
                drawn = _random_weights(model_class, type(full).from_dict(kept), architecture, seed)
            model, report = model_class.from_pretrained(
                source.folder if drawn is None else None,
                state_dict=drawn,
                config=config,
                dtype=dtype,
                attn_implementation="sdpa",
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
    return model  # type: ignore[no-any-return]


def _random_weights(
    model_class: type[nn.Module], config: Any, architecture: Architecture, seed: int
) -> dict[str, Tensor]:
    """The weights of a whole new model as transformers initialises it, float32 on the CPU.

    A weight depends on all numbers that were drawn before it, and in some types on the number of blocks. So the blocks
    that nobody needs are drawn, too.
    """
    with torch.random.fork_rng(devices=[]):  # the random numbers of the process stay as they are
        torch.default_generator.manual_seed(seed)
        return model_class(config, **architecture.model_options).state_dict()


def _blocks(model: nn.Module, n_blocks: int) -> nn.ModuleList:
    # The location of the blocks differs between types and versions of transformers. But they are always the only list
    # of that length.
    found = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == n_blocks]
    if len(found) != 1:
        raise RuntimeError(f"{type(model).__name__} has {len(found)} lists of {n_blocks} modules instead of one")
    return found[0]


@contextmanager
def _only_errors_logged() -> Iterator[None]:
    # transformers reports every weight of the blocks that are left out.
    from transformers.utils import logging as transformers_logging

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
