"""Where an imported SAE comes from."""

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from hsae.backbones.hooks.names import RESIDUAL
from hsae.frozen_model import FrozenModel


class SaeOrigin(FrozenModel):
    """An SAE that another program trained, as its config describes it.

    Attributes:
        name: what it is called here.
        format: the file format that it was read from.
        key: sha256 over its tensors and its settings, 64 hexadecimal digits; of the same SAE it is the same.
        d_model: width of the activations that it takes.
        n_latents: size of the dictionary; it need not be a multiple of d_model.
        layer: 0-based block that its hook point is of; None: nobody said.
        hook_point: what its package calls that place; None: its files don't say.
        model: the model that it was trained on, as its package names it; None: its files don't say.
        tokens: the tokens that it was trained on: cls, patches, or None, where its files don't say.
        notes: what was folded into the weights, and what differs from its package; a sentence each.
        hook: the hook point by our name, as `submit --hook` has it; the residual stream where its files don't say.
    """

    name: str = Field(min_length=1, max_length=200)
    format: str
    key: str = Field(pattern=r"^[0-9a-f]{64}$")
    d_model: int = Field(ge=1)
    n_latents: int = Field(ge=1)
    layer: int | None = Field(default=None, ge=0)
    hook_point: str | None = None
    model: str | None = None
    tokens: str | None = None
    notes: tuple[str, ...] = ()
    hook: str = Field(default=RESIDUAL, min_length=1)

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the hook point where it is the residual stream, as configs were written before it was there."""
        values: dict[str, Any] = handler(self)
        return {name: value for name, value in values.items() if name != "hook" or value != RESIDUAL}
