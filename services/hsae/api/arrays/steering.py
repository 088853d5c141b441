"""`hsae.steer`: a model of transformers answers while latents of its vision tower are edited."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hsae.api.arrays.latents import changed_latents
from hsae.backbones.hooks.vision_tower import vision_tower
from hsae.errors import UserError
from hsae.interventions.config import EditKind
from hsae.interventions.steering.hooked import SteeredTokens, Steering, steering
from hsae.sae.model import SparseAutoencoder

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def steer(
    model: Any,
    sae: SparseAutoencoder,
    latents: "Mapping[int, float] | Iterable[int] | pd.DataFrame",
    *,
    layer: int,
    kind: EditKind = "scale",
    value: float = 0.0,
    tokens: "SteeredTokens | Sequence[int]" = "patches",
) -> Iterator[Steering]:
    """Edit latents in a model's vision tower for as long as the context lasts.

        with hsae.steer(model, sae, [17, 203], layer=20):
            model.generate(**inputs)

    What the SAE does not reconstruct stays. Afterwards the model is as before, also after an error. For edits in
    several layers, enter several contexts.

    Args:
        model: a model that transformers loaded and that has a vision tower, such as a LLaVA, or the tower itself.
        sae: the SAE of the layer.
        latents: their numbers, or a number for each: `{17: 0.0, 203: 2.0}`.
        layer: the block of the tower, from 0, after which the SAE's activations are.
        kind: "scale" (by a factor; 0 takes the latent away, 1 changes nothing), "clamp" (to a value) or "add".
        value: of latents without a number of their own.
        tokens: which tokens are edited: "patches", "cls", "all", numbers of tokens, or "mean" for an SAE of mean
            tokens, whose change every patch gets.

    Returns:
        A context; what it gives says how active the latents were.

    Raises:
        UserError: the model has no vision tower that can be edited, or no such layer or token; the SAE is of another
            width or a latent of another SAE; a number is not finite; the edit would not reach what the model reads; or
            no image came by.
    """
    if not isinstance(sae, SparseAutoencoder):
        raise UserError(
            f"the SAE is a {type(sae).__name__}: give a hsae.SparseAutoencoder, such as `.sae` of hsae.train"
        )
    changes = changed_latents(latents, value)
    tower = vision_tower(model)
    with steering(tower, sae, changes, layer=layer, kind=kind, tokens=tokens) as found:
        yield found
