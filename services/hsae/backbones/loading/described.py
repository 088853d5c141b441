"""A model that is known but not loaded, whichever library it comes from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

from hsae.backbones.hooks.family import Family
from hsae.backbones.hooks.names import ATTENTION, MLP, RESIDUAL, is_path
from hsae.backbones.hooks.places import SettledHook, block_paths, hook_path, offered_hooks, settle_hook
from hsae.backbones.hooks.shapes import layer_of_module, measured_shapes
from hsae.backbones.spec import BackboneSpec, HookShape
from hsae.errors import UserError

Layers = tuple[int, ...] | Literal["all"]


@dataclass(frozen=True, slots=True)
class Described:
    """What is known of a model without its weights.

    Attributes:
        spec: of the residual stream; of a model whose blocks differ without `shapes`, and with the counts that its
            configuration tells.
        family: makes the family of the class that a hook point needs.
        skeleton: builds the model that a hook point needs, with any weights.
        arguments: makes the arguments of its forward of pixel values.
    """

    spec: BackboneSpec
    family: Callable[[str], Family]
    skeleton: Callable[[str], nn.Module]
    arguments: Callable[[Tensor], Mapping[str, Any]]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of a preprocessed image."""
        height, width = self.spec.preprocessing["image_size"]
        return int(height), int(width)

    def settled(self, hook: str) -> SettledHook:
        """The canonical name of a hook point, and its layer if it has only one.

        Raises:
            UserError: there is no such hook point; names the nearest ones.
        """
        family, model = self.family(hook), self.skeleton(hook)
        if not block_paths(model, family):
            raise UserError(f"{self.spec.name} has no blocks at {family.blocks}: choose another model")
        settled = settle_hook(model, family, hook, self.spec.name)
        if settled.layer is None and is_path(settled.hook) and settled.hook in dict(model.named_modules()):
            layer = layer_of_module(model, family, settled.hook, self.arguments, self.image_size)
            return SettledHook(settled.hook, layer)
        return settled

    def settled_layers(self, hook: str, layers: Layers) -> tuple[str, Layers]:
        """The canonical name of a hook point, and the layers that are asked for there.

        Args:
            hook: as the user wrote it.
            layers: numbers or "all"; none where the hook point is to name its layer.

        Raises:
            UserError: there is no such hook point, it is at another layer, or it names none and none is asked for.
        """
        settled = self.settled(hook)
        if settled.layer is None:
            if not layers:
                raise UserError(
                    f"the hook point {hook} is in every block: add --layer 8, --layers 0-3,8 or --layers all"
                )
            return settled.hook, layers
        if layers not in ((), "all", (settled.layer,)):
            listed = ", ".join(map(str, layers))
            raise UserError(f"the hook point {hook} is at layer {settled.layer}, not {listed}: leave the layers out")
        return settled.hook, (settled.layer,)

    def at(self, hook: str) -> BackboneSpec:
        """The spec with what a hook point gives at each of its layers.

        Raises:
            UserError: there is no such hook point, or it gives no tokens.
        """
        spec = self.counted().spec if self.family(RESIDUAL).is_staged else self.spec
        if hook == RESIDUAL:
            return spec
        settled = self.settled(hook)
        if hook in (ATTENTION, MLP) and not self.family(hook).is_staged:  # what is added to the stream is as the stream
            shapes = {layer: spec.shape(layer) for layer in range(spec.n_layers)}
        else:
            shapes = self._shapes(hook, settled)
        return spec.model_copy(update={"hook_shapes": shapes})

    def counted(self) -> "Described":
        """The same with the blocks counted by running the model without numbers.

        Raises:
            UserError: the model has no blocks, does not run, or its blocks give no tokens.
        """
        shapes = self._shapes(RESIDUAL, SettledHook(RESIDUAL))
        last = max(shapes)
        counts = {"n_layers": last + 1, "d_model": shapes[last].width, "n_patches": shapes[last].n_patches}
        is_plain = not self.family(RESIDUAL).is_staged
        spec = self.spec.model_copy(update=counts | {"shapes": None if is_plain else shapes})
        return replace(self, spec=spec)

    def modules(self) -> tuple[str, ...]:
        """The paths of the blocks, by layer."""
        return block_paths(self.skeleton(RESIDUAL), self.family(RESIDUAL))

    def hooks(self) -> dict[str, tuple[str, dict[int, HookShape]]]:
        """By the name of every hook point that the model has the path of its module, and by layer what it gives."""
        found = {}
        for hook in offered_hooks(self.family(RESIDUAL)):
            spec = self.at(hook)
            known = spec.shapes if hook == RESIDUAL else spec.hook_shapes
            shapes = known or {layer: spec.shape(layer) for layer in range(spec.n_layers)}
            found[hook] = (hook_path(self.family(hook), hook), shapes)
        return found

    def _shapes(self, hook: str, settled: SettledHook) -> dict[int, HookShape]:
        spec = self.spec.model_copy(update={"shapes": None})
        model = self.skeleton(hook)
        family = self.family(hook)
        if not block_paths(model, family):
            raise UserError(f"{spec.name} has no blocks at {family.blocks}: choose another model")
        return measured_shapes(
            model, family, settled, self.arguments, self.image_size, tokens=spec.shape(0), name=spec.name
        )
