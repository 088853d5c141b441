"""What the URLs of pages may say; anything else is a page of 400 that names the parameter."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from hsae.catalog.findings.browse.latents import SORTS
from hsae.errors import UserError
from hsae.hierarchy.config import EdgeSource
from hsae.interventions.config import EditKind
from hsae.pydantic_errors import one_line
from hsae.vocabulary import bases

MAX_ID = 2**63 - 1
MAX_INT = 2**31 - 1
_MAX_TEXT = 200
_MAX_OPEN = 400
DEPTH = 4


class BadAddressError(UserError):
    """A URL has a parameter that cannot be; a page of 400."""


def _none_if_blank(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _split(value: object) -> object:
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


def _no_nul(value: object) -> object:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("it holds a character that no text here has")
    return _none_if_blank(value)


Id = Annotated[Annotated[int, Field(ge=0, le=MAX_ID)] | None, BeforeValidator(_none_if_blank)]
Int = Annotated[Annotated[int, Field(ge=0, le=MAX_INT)] | None, BeforeValidator(_none_if_blank)]
Layer = Annotated[Annotated[int, Field(ge=0, le=MAX_INT)] | Literal["all"] | None, BeforeValidator(_none_if_blank)]
Real = Annotated[Annotated[float, Field(allow_inf_nan=False)] | None, BeforeValidator(_none_if_blank)]
Text = Annotated[Annotated[str, Field(max_length=_MAX_TEXT)] | None, BeforeValidator(_no_nul)]
Ids = Annotated[
    tuple[Annotated[int, Field(ge=0, le=MAX_ID)], ...], BeforeValidator(_split), Field(max_length=_MAX_OPEN)
]
Basis = Annotated[bases.Basis, BeforeValidator(lambda value: _none_if_blank(value) or "sae")]


class Query(BaseModel):
    """Parameters of a URL. Unknown ones are left alone: a URL may come from another version."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Self:
        """Read the parameters.

        Raises:
            BadAddressError: one of them cannot be.
        """
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            wrong = one_line(error, lambda it: f"{it.place or 'the address'}: {it.reason}")
            raise BadAddressError(f"The address of this page has a mistake: {wrong}.") from error


class ScopeQuery(Query):
    """Which study, layer and SAE."""

    study: Id = None
    layer: Layer = None
    sae: Text = None
    basis: Basis = "sae"


class TreeQuery(ScopeQuery):
    """The taxonomy: from which node on, how deep, what else is open, what the picture shows, and what is searched."""

    root: Id = None
    zoom: Id = None
    depth: Annotated[int, BeforeValidator(lambda value: _none_if_blank(value) or DEPTH), Field(ge=1, le=20)] = DEPTH
    open: Ids = ()
    q: Text = None
    view: Annotated[Literal["table", "picture"], BeforeValidator(lambda v: _none_if_blank(v) or "table")] = "table"


class LatentsQuery(ScopeQuery):
    """Latents by their numbers."""

    under: Text = None
    q: Text = None
    named: Text = None
    min_f1_adjusted: Annotated[Real, Field(validation_alias=AliasChoices("min_f1_adjusted", "min_f1"))] = None
    """In addresses of earlier versions it is called `min_f1`."""
    max_q: Real = None
    min_coherence: Real = None
    min_stability: Real = None
    used: Annotated[bool, BeforeValidator(lambda value: _none_if_blank(value) or False)] = False
    min_effect: Real = None
    min_density: Real = None
    max_density: Real = None
    sort: Annotated[Literal[tuple(SORTS)], BeforeValidator(lambda v: _none_if_blank(v) or "f1_adjusted")] = (  # type: ignore[valid-type]
        "f1_adjusted"
    )
    after: Text = None


class PairsQuery(ScopeQuery):
    """Parents and children."""

    source: Annotated[EdgeSource | None, BeforeValidator(_none_if_blank)] = None
    under: Text = None
    parent: Int = None
    child: Int = None
    confirmed: bool = False
    after: Text = None


class EditQuery(ScopeQuery):
    """Latents of an uploaded image, and how they change."""

    latents: Annotated[
        tuple[Annotated[int, Field(ge=0, le=MAX_INT)], ...],
        BeforeValidator(lambda value: _split(value.replace(" ", ",")) if isinstance(value, str) else value),
        Field(max_length=_MAX_OPEN),
    ] = ()
    kind: Annotated[EditKind, BeforeValidator(lambda v: _none_if_blank(v) or "scale")] = "scale"
    value: Real = None


class ImageQuery(ScopeQuery):
    """An image."""


class ThumbnailQuery(Query):
    """A small picture."""

    side: Annotated[int, Field(ge=16, le=1024)] = 160


Number = TypeVar("Number", int, float)


def cursor_of(after: str | None, kinds: tuple[type, ...]) -> tuple[object, ...] | None:
    """The last row of the page before, written into the URL by `cursor_text`.

    Raises:
        BadAddressError: it is none.
    """
    if after is None:
        return None
    parts = after.split("_")
    try:
        if len(parts) != len(kinds):
            raise ValueError
        values = tuple(kind(part) for kind, part in zip(kinds, parts, strict=True))
        if any(isinstance(value, int) and not 0 <= value <= MAX_ID for value in values) or any(
            isinstance(value, float) and not abs(value) < float("inf") for value in values
        ):
            raise ValueError
    except ValueError as error:
        raise BadAddressError("The address of this page has a mistake: after is no place in the list.") from error
    return values


def cursor_text(*values: object) -> str:
    """A place in a list for a URL; a float in full, so that no row is skipped or comes twice."""
    return "_".join(repr(value) if isinstance(value, float) else str(value) for value in values)
