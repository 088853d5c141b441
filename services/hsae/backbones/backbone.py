"""A loaded backbone: images in, the residual stream after chosen blocks out."""

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
from hsae.backbones.sources import Source, with_weights
from hsae.backbones.spec import BackboneSpec, Tokens, check_layers, check_tokens
from hsae.errors import UserError

# Of no use here, and at odds with a lower number of blocks.
_BACKBONE_API = ("out_features", "out_indices", "stage_names")


class Backbone:
    """A vision transformer up to the deepest layer asked for.

    Layer k is the residual stream after block k, counted from 0, before the final norm. A layer's activations do
    not depend on which other layers were asked for; they may depend in the last bits on the size of the batch.
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
        """For `load`. `model` has exactly the blocks 0 to `layers[-1]`; `options` go to its forward."""
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
        """Loads the blocks up to the deepest of `layers` onto `device`; weights of any dtype are cast to `dtype`.

        UserErrors: a layer that does not exist; weights that are missing, damaged, incomplete or not those of
        `spec.revision`; preprocessing that is not `spec.preprocessing`. ServiceError: the hub cannot be reached
        and its cache does not have the weights.
        """
        layers = check_layers(spec, layers)
        architecture = ARCHITECTURES[spec.model_type]
        folder = with_weights(spec.name, spec.revision, cache_dir=cache_dir)
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
        model = _load_model(source, architecture, config, n_blocks=layers[-1] + 1, dtype=dtype)
        model.eval().requires_grad_(False).to(device)
        return cls(spec, layers, model, options, preprocessing, dtype)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self._model.parameters()).device

    @property
    def preprocessing(self) -> Preprocessing:
        """Turns images into what `activations` takes."""
        return self._preprocessing

    def pixel_values(self, images: Sequence[Picture]) -> Float[Tensor, "batch 3 height width"]:
        """The images preprocessed as the model wants them, float32 `[batch, 3, height, width]` on the CPU."""
        return self._preprocessing(images)

    def activations(
        self, pixel_values: Float[Tensor, "batch 3 height width"], tokens: Tokens
    ) -> dict[int, Float[Tensor, "batch n_tokens d_model"]]:
        """Every layer asked for in one pass: layer to float32 `[batch, n_tokens, d_model]` on the device.

        `tokens`: "cls" (n_tokens 1), "patches" (all patch tokens), or "mean" (of the patch tokens, n_tokens 1).
        """
        check_tokens(self.spec, tokens)
        collected: dict[int, Tensor] = {}
        with torch.no_grad(), self._collecting(collected, tokens):
            self._model(pixel_values.to(self.device, self._dtype), **self._options)
        return {layer: collected[layer] for layer in self.layers}

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
        expected = (n_prefix + self.spec.n_patches, self.spec.d_model)
        if tuple(stream.shape[1:]) != expected:
            raise UserError(
                f"{self.spec.name} gives {tuple(stream.shape[1:])} (tokens, d_model) instead of {expected}: "
                "its configuration contradicts its preprocessor"
            )
        if tokens == "cls":
            return stream[:, :1].clone().float()  # a copy, so that the other tokens can be freed
        patches = stream[:, n_prefix:].float()
        return patches.mean(dim=1, keepdim=True) if tokens == "mean" else patches


def _load_model(
    source: Source, architecture: Architecture, full: Any, *, n_blocks: int, dtype: torch.dtype
) -> nn.Module:
    import transformers  # late: it takes seconds

    kept = {key: value for key, value in full.to_dict().items() if key not in _BACKBONE_API}
    config = type(full).from_dict(kept | {"num_hidden_layers": n_blocks, **architecture.config_changes})
    model_class = getattr(transformers, architecture.model_class)
    with _only_errors_logged():
        try:
            model, report = model_class.from_pretrained(
                source.folder,
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


def _blocks(model: nn.Module, n_blocks: int) -> nn.ModuleList:
    # Where the blocks are differs between types and between versions of transformers; that they are the one list
    # of that length does not.
    found = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == n_blocks]
    if len(found) != 1:
        raise RuntimeError(f"{type(model).__name__} has {len(found)} lists of {n_blocks} modules instead of one")
    return found[0]


@contextmanager
def _only_errors_logged() -> Iterator[None]:
    # transformers reports every weight of the blocks that we leave out.
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
