"""Addresses of pages: every link of the explorer is made here, so that a page and those who link to it agree."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus


def address(path: str, **parameters: Any) -> str:
    """A path with those of the parameters that say something; lists are joined by commas.

    None, an empty text, False and an empty list say nothing; the number 0 does: a layer may have it.
    """
    given = {name: value for name, value in parameters.items() if _says_something(value)}
    if not given:
        return path
    return f"{path}?{'&'.join(f'{name}={_quoted(_text(value))}' for name, value in given.items())}"


def latent_address(analysis: int, basis: str, latent: int, **parameters: Any) -> str:
    """The page of a latent."""
    return address(f"/latent/{analysis}/{quote(basis)}/{latent}", **parameters)


def node_address(synset: int, **parameters: Any) -> str:
    """The page of a node."""
    return address(f"/node/{synset}", **parameters)


def image_address(dataset: int, image: int, **parameters: Any) -> str:
    """The page of an image."""
    return address(f"/image/{dataset}/{image}", **parameters)


def thumbnail_address(dataset: int, image: int, side: int) -> str:
    """A small picture of an image."""
    return address(f"/thumbnail/{dataset}/{image}", side=side)


def map_address(analysis: int, latent: int, image: int, side: int) -> str:
    """A relevancy map over its image."""
    return address(f"/map/{analysis}/{latent}/{image}", side=side)


def changed(path: str, state: Mapping[str, Any], **changes: Any) -> str:
    """The same page with some parameters changed."""
    return address(path, **{**state, **changes})


@lru_cache(maxsize=1024)  # a page repeats its study, layer and SAE in hundreds of links
def _quoted(text: str) -> str:
    return quote_plus(text, safe=",")


def _says_something(value: Any) -> bool:
    return value is not None and value is not False and value not in ("", [], ())


def _text(value: Any) -> str:
    if value is True:
        return "1"
    if isinstance(value, list | tuple):
        return ",".join(_text(one) for one in value)
    return repr(value) if isinstance(value, float) else str(value)
