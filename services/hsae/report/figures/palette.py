"""Colours that readers with any colour vision tell apart."""

from typing import Any

from matplotlib import colormaps

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
"""Okabe and Ito (2008), but for yellow, which is too light for lines on white."""
EXEMPLARS, RANDOM, SHUFFLED = OKABE_ITO[2], OKABE_ITO[3], "0.35"
"""The controls that figures draw beside an SAE."""


def colours(n: int) -> list[Any]:
    """As many colours as there are lines: distinct ones while there are enough, else along a scale of lightness."""
    return list(OKABE_ITO[:n]) if n <= len(OKABE_ITO) else [colormaps["viridis"]((i + 0.5) / n) for i in range(n)]
