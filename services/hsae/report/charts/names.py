"""Names of nodes as figures show them."""

import re
from collections import Counter
from collections.abc import Sequence

_SYNSET = re.compile(r"(.+)\.[nvasr]\.\d\d+")
_RANK_PATH = re.compile(r"[\w .,'()-]+(?:/[\w .,'()-]+)*/([\w .,'()-]+)")


def plain(text: str) -> str:
    """The text as Plotly prints it unchanged: it would read tags, as in a browser, and follow links."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def short_name(synset: str) -> str:
    """The word of `guinea_pig.n.02`, the last part of a rank path; another name as it is."""
    word = _SYNSET.fullmatch(synset)
    if word is not None:
        return word[1].replace("_", " ")
    path = _RANK_PATH.fullmatch(synset)
    return path[1] if path is not None else synset


def distinct_names(synsets: Sequence[str]) -> list[str]:
    """Short names, in order; the full ones where a short one would stand for two."""
    short = Counter(short_name(synset) for synset in dict.fromkeys(synsets))
    return [synset if short[short_name(synset)] > 1 else short_name(synset) for synset in synsets]
