"""A loaded backbone: computes the activations at a hook point of chosen blocks for images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hsae.backbones.hooks.names import EMBEDDING, RESIDUAL
from hsae.backbones.hooks.places import block_paths, place_of
from hsae.backbones.hooks.selection import all_tokens, as_tokens, selected
from hsae.backbones.inputs import pair, rows_and_columns
from hsae.backbones.loading.load import load_described
from hsae.backbones.loading.loaded import Loaded
from hsae.backbones.passes.ended import AllReadError
from hsae.backbones.passes.given_stream import giving_stream
from hsae.backbones.passes.measured_parts import MeasuredParts
from hsae.backbones.passes.restarted_pass import RecordedPass, recorded_pass
from hsae.backbones.passes.traced_pass import TracedPass, no_attention_weights, traced_pass
from hsae.backbones.preprocessing import Picture, Preprocessing
from hsae.backbones.spec import BackboneSpec, HookShape, Tokens, check_layers, check_tokens
from hsae.devices.numerics import narrow_products, products
from hsae.devices.precision import Precision
from hsae.devices.uploads import uploaded
from hsae.errors import UserError


class Backbone:
    """A vision model up to the deepest requested layer.

    Layer k is a hook point of block k, counted from 0: the residual stream after it, before the final norm, unless
    another one is asked for. The activations of a layer do not depend on the other requested layers; their last bits
    may depend on the batch size.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        layers: tuple[int, ...],
        loaded: Loaded,
        preprocessing: Preprocessing,
        dtype: torch.dtype,
        precision: Precision = "float32",
        hook: str = RESIDUAL,
    ) -> None:
        """Used by `load`. The model has at least the blocks 0 to `layers[-1]`."""
        self.spec = spec
        self.layers = layers
        self.hook = hook
        self._loaded = loaded
        self._model = loaded.model
        self._preprocessing = preprocessing
        self._dtype = dtype
        self._precision = precision
        self._parts = MeasuredParts()
        self._places = {layer: place_of(loaded.model, loaded.family, hook, layer, spec.name) for layer in layers}

    @classmethod
    def load(
        cls,
        spec: BackboneSpec,
        *,
        layers: Sequence[int],
        device: torch.device,
        cache_dir: Path | None = None,
        dtype: torch.dtype = torch.float32,
        precision: Precision = "float32",
        hook: str = RESIDUAL,
    ) -> Self:
        """Load the blocks up to the deepest of `layers` onto `device`.

        Args:
            spec: identity of the backbone, with the shapes of the hook point.
            layers: requested layers.
            device: device for the computation.
            cache_dir: cache of hub downloads; None: the hub's own.
            dtype: weights are cast to this dtype.
            precision: of the matrix products and convolutions of every pass; the residual stream is `dtype`.
            hook: which activations of a layer, by the canonical name of the hook point.

        Raises:
            ServiceError: the hub cannot be reached, and its cache lacks the weights.
            UserError: a layer or the hook point does not exist; the weights are missing, damaged, incomplete or not
                those of `spec.revision`; or the preprocessing differs from `spec.preprocessing`.
        """
        layers = check_layers(spec, layers)
        for layer in layers:
            spec.shape(layer, hook)
        loaded, preprocessing = load_described(
            spec, hook, n_blocks=layers[-1] + 1, dtype=dtype, cache_dir=cache_dir
        )  # fmt: skip
        loaded.model.eval().requires_grad_(False).to(device)
        return cls(spec, layers, loaded, preprocessing, dtype, precision, hook)

    @property
    def precision(self) -> Precision:
        """Of its products and convolutions."""
        return self._precision

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

        A processor may take the images in several, where that was measured to be faster and to give the same bits.

        Args:
            pixel_values: float32[batch, 3, height, width], from `pixel_values`; on the CPU or on the device.
            tokens: "cls" (n_tokens 1), "registers", "patches" (all patch tokens) or "mean" (mean of the patch tokens,
                n_tokens 1).

        Returns:
            float32[batch, n_tokens, width] on the device, by layer.
        """
        check_tokens(self.spec, tokens, hook=self.hook)
        if self.device.type == "cpu":
            compute = partial(self.activations_in, self._precision, tokens=tokens)
            return self._parts(pixel_values, tokens, compute)
        return self.activations_in(self._precision, pixel_values, tokens)

    def activations_in(
        self, precision: Precision, pixel_values: Float[Tensor, "batch 3 height width"], tokens: Tokens
    ) -> dict[int, Float[Tensor, "batch n_tokens d_model"]]:
        """`activations` with products of any precision, of all images at once."""
        collected: dict[int, Tensor] = {}
        device = self.device
        with (
            torch.no_grad(),
            products(precision),
            narrow_products(device, precision),
            self._collecting(collected, tokens),
            suppress(AllReadError),
        ):
            # Not waited for: the host prepares the next part meanwhile.
            self._model(**self._loaded.arguments(uploaded(pixel_values, device).to(self._dtype)))
        return {layer: collected[layer] for layer in self.layers}

    def shape(self, layer: int) -> HookShape:
        """What is read at a layer."""
        return self.spec.shape(layer, self.hook)

    @property
    def patch_grid(self) -> tuple[int, int]:
        """(rows, columns) of the patches of an image at the deepest layer; patch tokens are in reading order."""
        return self.grid_of(self.layers[-1])

    def grid_of(self, layer: int) -> tuple[int, int]:
        """(rows, columns) of the patches at any layer.

        Raises:
            UserError: the layer's patches make no grid of the image's proportions.
        """
        height, width = self._preprocessing.image_size
        if self._loaded.is_traceable:
            config: Any = self._model.config
            patch_height, patch_width = pair(config.patch_size)
            return height // patch_height, width // patch_width
        n_patches = self.spec.shape(layer).n_patches
        found = rows_and_columns(n_patches, height / width)
        if found is None:
            raise UserError(
                f"the {n_patches} patches of {self.spec.name} at layer {layer} make no grid of an image of {height} x"
                f" {width}: maps cannot be made"
            )
        return found

    def traced(self, pixel_values: Float[Tensor, "batch 3 height width"], *, attention: bool) -> TracedPass:
        """One pass with a graph down to the embeddings; see `hsae.backbones.passes.traced_pass`.

        A backward pass has the types of the forward pass; who makes it says with `products` whether it may be tf32.

        Raises:
            NoAttentionWeightsError: as `traced_pass`.
            UserError: another hook point than the residual stream was loaded.
        """
        if self.hook != RESIDUAL:
            raise UserError(f"{self.spec.name} ({self.hook}) cannot be used: relevancy maps need the residual stream")
        if attention and not self._loaded.is_traceable:
            raise no_attention_weights(type(self._model).__name__)
        arguments = self._loaded.arguments(uploaded(pixel_values, self.device).to(self._dtype))
        here, is_cut = self._blocks()[: self.layers[-1] + 1], self._loaded.is_cut
        with products(self._precision), narrow_products(self.device, self._precision):
            traced = traced_pass(self._model, here, arguments, attention=attention, is_cut=is_cut)
        all_tokens(traced.stream, self.shape(self.layers[-1]), self.spec.name)
        return traced

    def as_tokens(self, traced: Tensor) -> Float[Tensor, "batch n_all width"]:
        """A tensor of a traced pass, or its gradient, as tokens: a map of rows and columns in reading order."""
        return as_tokens(traced, self.shape(self.layers[-1]).axes)

    def recorded(self, pixel_values: Float[Tensor, "batch 3 height width"]) -> RecordedPass:
        """One pass that keeps the streams of all requested layers and can go on from any of them, as precise as it was.

        A backward pass has the types of the forward pass; who makes it says with `products` whether it may be tf32.

        Raises:
            UserError: the blocks of this family do not pass on the residual stream as tokens.
        """
        if not self._loaded.is_traceable or self.hook != RESIDUAL:
            raise UserError(
                f"{self.spec.name} ({self.spec.model_type}, {self.hook}) cannot be used: interventions need the"
                " residual stream of a vision transformer of transformers"
            )
        images = uploaded(pixel_values, self.device).to(self._dtype)
        options = {name: value for name, value in self._loaded.arguments(images).items() if name != "pixel_values"}
        blocks = nn.ModuleList(self._blocks())
        recorded = recorded_pass(self._model, blocks, images, options, self.layers, self._precision)
        all_tokens(recorded.streams[self.layers[-1]], self.shape(self.layers[-1]), self.spec.name)
        return recorded

    def embedding_of(self, stream: Float[Tensor, "batch n_all d_model"]) -> Float[Tensor, "batch width"]:
        """The image's embedding where the last block gives this stream.

        Only of a backbone that was loaded at the hook point `embedding`.
        """
        if self.hook != EMBEDDING:
            raise ValueError(f"the backbone was loaded at {self.hook}, which is no embedding")
        blank = torch.zeros(len(stream), 3, *self._preprocessing.image_size)
        with giving_stream(self._blocks(), stream.to(self.device, self._dtype)):
            return self.activations(blank, "cls")[self.layers[-1]][:, 0]

    def _blocks(self) -> list[nn.Module]:
        """The blocks, in the order in which the model runs them; of a model that is not cut all of them."""
        return [self._model.get_submodule(path) for path in block_paths(self._model, self._loaded.family)]

    @contextmanager
    def _collecting(self, collected: dict[int, Tensor], tokens: Tokens) -> Iterator[None]:
        handles = [
            place.module.register_forward_hook(self._collector(layer, collected, tokens))
            for layer, place in self._places.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _collector(
        self, layer: int, collected: dict[int, Tensor], tokens: Tokens
    ) -> Callable[[nn.Module, Any, Any], None]:
        place, shape = self._places[layer], self.shape(layer)
        is_last = layer == self.layers[-1] and not self._loaded.is_cut

        def collect(module: nn.Module, arguments: Any, output: Any) -> None:
            stream = all_tokens(place.read(output), shape, self.spec.name)
            collected[layer] = selected(stream, shape, tokens)
            if is_last:
                raise AllReadError

        return collect
