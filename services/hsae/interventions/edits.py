"""Edits of a layer's activations: what is added to the stream.

latents      x' = x + decode(z') - decode(z), the error of the SAE stays; z' of the chosen latents is
             scale   gamma z             (0: taken away; 1: nothing changes, to the bit)
             clamp   a value for each latent
             add     z plus a value: that multiple of the latent's direction
             z' of the others is z
through      x' = decode(encode(x)): what passing through the SAE costs without an edit
ablation     x' = one row for all: their mean, or zeros; what no SAE at all costs
projection   x' = x - (1 - gamma) write^T read (x - mean): neurons, directions and LEACE
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from hsae.backbones.spec import BackboneSpec, check_tokens
from hsae.errors import UserError
from hsae.interventions.config import EditKind, Place
from hsae.sae.model import SparseAutoencoder
from hsae.sae.variants.variant import SaeVariant

Rows = Float[Tensor, "n_rows d_model"]


class VisitedRows:
    """The rows of a stream that edits act on, with an SAE's latents of them, computed once for all edits."""

    def __init__(self, x: Rows) -> None:
        """`x`: float32."""
        self.x = x
        self._latents: dict[int, tuple[SparseAutoencoder, Tensor]] = {}

    def latents(self, sae: SparseAutoencoder) -> Float[Tensor, "n_rows n_latents"]:
        """The latents of the rows."""
        known = self._latents.get(id(sae))
        if known is None:
            known = self._latents[id(sae)] = (sae, sae.encode(self.x))
        return known[1]


class Edit(ABC):
    """What is added to rows of a stream."""

    @abstractmethod
    def change(self, rows: VisitedRows) -> Rows:
        """X' - x; exactly 0 where nothing changes."""


@dataclass(frozen=True)
class LatentEdit(Edit):
    """Some latents of an SAE change; its error term stays.

    Attributes:
        sae: the SAE of the layer, on the device of the stream.
        latents: the latents.
        kind: how they change.
        values: one value for each latent, float32[n_chosen]; of `scale` also one factor for all, float32[1].
    """

    sae: SparseAutoencoder
    latents: Int64[Tensor, "n_chosen"]
    kind: EditKind
    values: Float[Tensor, "..."]

    def __post_init__(self) -> None:
        """Check that the latents are those of the SAE, the values finite, and the kind one of those that there are.

        Raises:
            UserError: they are not.
        """
        _check_known("kind of edit", self.kind, get_args(EditKind))
        check_latents(self.latents.tolist(), self.sae.n_latents)
        if not bool(torch.isfinite(self.values).all()):
            raise UserError("a dose of an edit is NaN or infinite: give finite numbers")

    @classmethod
    def of(cls, sae: SparseAutoencoder, changes: Mapping[int, float], kind: EditKind) -> "LatentEdit":
        """The edit of latents by numbers of their own, on the SAE's device.

        Args:
            sae: the SAE.
            changes: by latent the factor (`scale`), the value (`clamp`), or what is added (`add`).
            kind: how they change.

        Raises:
            UserError: there is no latent, one is of another SAE, a number is not finite, or there is no such kind.
        """
        if not changes:
            raise UserError("no latent is edited: give at least one, such as {17: 0}")
        check_latents(list(changes), sae.n_latents)
        device = sae.pre_bias.device
        values = torch.tensor([float(value) for value in changes.values()], device=device)
        return cls(sae, torch.tensor(list(changes), device=device), kind, values)

    def strongest(self, rows: VisitedRows, n_images: int) -> Float[Tensor, "n_images n_chosen"]:
        """The greatest activation of each edited latent over the edited tokens of an image, before the edit."""
        z = rows.latents(self.sae)[:, self.latents].detach()
        return z.view(n_images, -1, len(self.latents)).amax(1)

    def change(self, rows: VisitedRows) -> Rows:
        """decode(z') - decode(z)."""
        z = rows.latents(self.sae)
        own = z[:, self.latents]
        edited = self._edited(own)
        if decodes_linearly(self.sae):
            return ((edited - own) @ self.sae.decoder_weight[self.latents]) / self.sae.input_scale
        whole = z.clone()
        whole[:, self.latents] = edited
        return self.sae.decode(whole) - self.sae.decode(z)

    def _edited(self, z: Float[Tensor, "n_rows n_chosen"]) -> Float[Tensor, "n_rows n_chosen"]:
        if self.kind == "scale":
            return z * self.values
        return self.values.expand_as(z) if self.kind == "clamp" else z + self.values


@dataclass(frozen=True)
class ThroughSae(Edit):
    """The reconstruction in the place of the stream."""

    sae: SparseAutoencoder

    def change(self, rows: VisitedRows) -> Rows:
        """decode(encode(x)) - x."""
        return self.sae.decode(rows.latents(self.sae)) - rows.x


@dataclass(frozen=True)
class Ablation(Edit):
    """One row in the place of every row.

    Attributes:
        row: the row, in units of the stream.
    """

    row: Float[Tensor, "d_model"]

    def change(self, rows: VisitedRows) -> Rows:
        """Row - x."""
        return self.row - rows.x


@dataclass(frozen=True)
class ProjectionEdit(Edit):
    """A part of the stream that linear functions read is taken away, or scaled.

    Attributes:
        mean: what stays where the part is gone.
        read: the functions.
        write: the direction that each acts on. A direction d of unit length has `read = write = d`.
        gamma: 0 takes the part away, 1 changes nothing.
    """

    mean: Float[Tensor, "d_model"]
    read: Float[Tensor, "rank d_model"]
    write: Float[Tensor, "rank d_model"]
    gamma: float

    def change(self, rows: VisitedRows) -> Rows:
        """(gamma - 1) write^T read (x - mean)."""
        return ((rows.x - self.mean) @ self.read.T) @ self.write * (self.gamma - 1.0)


@dataclass(frozen=True, slots=True)
class TokenPlaces:
    """Which tokens of a stream are edited.

    Attributes:
        numbers: their places among all tokens.
        as_mean: the mean of the tokens is edited, and every one of them gets its change: for SAEs of mean tokens.
    """

    numbers: tuple[int, ...]
    as_mean: bool = False

    @property
    def index(self) -> slice | list[int]:
        """What picks them out of all tokens: a slice where they follow one another, which no GPU has to be sent."""
        first, last = self.numbers[0], self.numbers[-1]
        return slice(first, last + 1) if self.numbers == tuple(range(first, last + 1)) else list(self.numbers)

    @classmethod
    def of(cls, place: Place | tuple[int, ...], sae_tokens: str, spec: BackboneSpec) -> "TokenPlaces":
        """The places of a setting.

        Args:
            place: the setting.
            sae_tokens: what the SAE was trained on: cls, patches or mean.
            spec: the backbone.

        Raises:
            UserError: the backbone has no such token, or there is no such setting.
        """
        n_all = spec.n_prefix_tokens + spec.n_patches
        if isinstance(place, tuple):
            beyond = [number for number in place if not 0 <= number < n_all]
            if beyond or not place:
                what = f"no token {beyond[0]}" if beyond else "no such tokens"
                raise UserError(f"{spec.name} has {what}: give numbers from 0 to {n_all - 1}")
            return cls(tuple(sorted(set(place))))
        _check_known("choice of tokens", place, get_args(Place))
        wanted = sae_tokens if place == "own" else place
        if wanted == "cls":
            check_tokens(spec, "cls")
            return cls((0,))
        first = 0 if wanted == "all" else spec.n_prefix_tokens
        return cls(tuple(range(first, n_all)), as_mean=wanted == "mean")


def visited(stream: Float[Tensor, "batch n_all d_model"], places: TokenPlaces) -> VisitedRows:
    """The rows of the places, one image after the other; of `as_mean` one row per image."""
    rows = stream[:, places.index].contiguous().float()
    return VisitedRows(rows.mean(1) if places.as_mean else rows.flatten(0, 1))


def edited(
    stream: Float[Tensor, "batch n_all d_model"], places: TokenPlaces, change: Rows
) -> Float[Tensor, "batch n_all d_model"]:
    """The stream with a change of the places; where the change is 0 it keeps its bits."""
    rows = stream[:, places.index]
    added = change.view(len(stream), -1, stream.shape[2])
    new = stream.clone()
    new[:, places.index] = torch.where(added != 0, (rows.float() + added).to(stream.dtype), rows)
    return new


def decodes_linearly(sae: SparseAutoencoder) -> bool:
    """Whether what a latent adds to the reconstruction does not depend on the others."""
    return type(sae.config.variant).decode is SaeVariant.decode


def check_latents(latents: list[int], n_latents: int) -> None:
    """Refuse latents that an SAE does not have.

    Raises:
        UserError: names the first of them.
    """
    beyond = [latent for latent in latents if not 0 <= latent < n_latents]
    if beyond:
        raise UserError(f"latent {beyond[0]} is of another SAE: this one has {n_latents} latents, 0 to {n_latents - 1}")


def _check_known(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise UserError(f"there is no {what} {name!r}: choose from {', '.join(known)}")
