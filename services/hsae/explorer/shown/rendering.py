"""Templates: everything that comes from the catalog or a URL is escaped."""

from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from hsae.explorer.security import DRAWING_POLICY
from hsae.explorer.shown import addresses, cells, numbers
from hsae.explorer.shown.plotly_script import map_style_id
from hsae.report.ranges import ranges
from hsae.vocabulary.bases import BASIS_NAMES

if TYPE_CHECKING:
    from hsae.explorer.reading.sources import Sources


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hsae.explorer"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "number": numbers.number,
        "adjusted": numbers.adjusted,
        "signed": numbers.signed,
        "p_value": numbers.p_value,
        "percent": numbers.percent,
        "counted": numbers.counted,
        "moment": numbers.moment,
        "basis_name": numbers.basis_name,
        "named_bases": lambda bases: [(basis, numbers.basis_name(basis)) for basis in bases],
        "ranges": ranges,
        "zip_same": lambda values: [(value, value) for value in values],
    }
    environment.globals |= {
        "address": addresses.address,
        "bar": cells.bar,
        "changed": addresses.changed,
        "image_address": addresses.image_address,
        "interval": numbers.interval,
        "latent_address": addresses.latent_address,
        "map_address": addresses.map_address,
        "null_cells": cells.null_cells,
        "node_address": addresses.node_address,
        "thumbnail_address": addresses.thumbnail_address,
        "basis_names": BASIS_NAMES,
    }
    return environment


def prepare() -> None:
    """Compile the templates and look for what pictures need, so that no first reader waits for it."""
    for name in _environment().list_templates():
        _environment().get_template(name)
    map_style_id()


def page(request: Request, template: str, *, status: int = 200, draws: bool = False, **context: Any) -> HTMLResponse:
    """A page of a template; one that `draws` loads Plotly."""
    text = (
        _environment()
        .get_template(template)
        .render(path=request.url.path, draws=draws, map_style_id=map_style_id() if draws else "", **context)
    )
    headers = {"Content-Security-Policy": DRAWING_POLICY} if draws else None
    return HTMLResponse(text, status_code=status, headers=headers)


def message_page(request: Request, title: str, *lines: str, status: int = 200) -> HTMLResponse:
    """A page of a few sentences."""
    return page(request, "message.html", status=status, title=title, lines=lines)


def sources_of(request: Request) -> "Sources":
    """What the pages read."""
    sources: Sources = request.app.state.sources
    return sources
