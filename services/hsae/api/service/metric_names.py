"""Short names of the headline numbers."""

import difflib

from hsae.errors import UserError
from hsae.hierarchy.resampling.resampled import HEADLINES, Headline

SHORT_NAMES: dict[str, Headline] = {
    "coherence": "coherence_excess",
    "f1": "f1_adjusted_inner_mean",
    "lch": "lch_excess_mean",
    "purity": "purity_mean",
}


def metric_of(name: str) -> Headline:
    """The headline number of a name, short or whole.

    Raises:
        UserError: it is unknown.
    """
    if name in SHORT_NAMES:
        return SHORT_NAMES[name]
    for metric in HEADLINES:
        if metric == name:
            return metric
    known = [*SHORT_NAMES, *HEADLINES]
    close = difflib.get_close_matches(name, known, n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    raise UserError(f"there is no metric {name!r}{meant}: choose from {', '.join(known)}")
