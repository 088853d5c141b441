"""Does structure rise with depth beyond chance, and what does the model know? In words, from the tested rows."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hsae.report.charts.names import distinct_names
from hsae.report.charts.theme import number
from hsae.report.interval_table import verdict

_SHORT = {"yes": "yes", "it falls": "no, it falls", "not shown": "not shown", "unknown": "not tested"}
_VERB = {"yes": "rises", "it falls": "falls"}


class Trend(NamedTuple):
    """The slope of the coherence excess of one SAE over depth, in bits per layer, with its interval."""

    sae: str
    slope: float | None
    ci_low: float | None
    ci_high: float | None
    n_layers: int


def verdict_text(trends: Sequence[Trend], confidence: float) -> tuple[str, str]:
    """The answer in a few words, and in a sentence.

    Args:
        trends: one per SAE, the first in front.
        confidence: of the intervals, 0 to 1.
    """
    if not trends:
        return "Not tested", "A trend with depth needs a comparison of several layers."
    if all(trend.n_layers < 2 for trend in trends):
        return "Not tested", "One layer alone has no trend with depth."
    found = [(trend, verdict(trend._asdict())) for trend in trends]
    if len({word for _, word in found}) == 1:
        first = _SHORT[found[0][1]]
        answer = first[0].upper() + first[1:]
    else:
        answer = "; ".join(f"{_SHORT[word]} for the {trend.sae}" for trend, word in found)
        answer = answer[0].upper() + answer[1:]
    sentence = "; ".join(
        _clause(trend, word, confidence, first=place == 0) for place, (trend, word) in enumerate(found)
    )
    return answer, f"{sentence}."


def beyond_chance(points: Sequence[Mapping[str, Any]], sae: str) -> str:
    """At how many layers a number is above the shuffled taxonomies and above the best baseline, in a sentence.

    Args:
        points: of `headline_points`, of all SAEs.
        sae: the SAE that is meant.
    """
    of_sae = [point for point in points if point["sae"] == sae and point["value"] is not None]
    tested = [point for point in of_sae if point["tree_q975"] is not None]
    beside = [point for point in of_sae if point["baseline"] is not None]
    parts = []
    if tested:
        above = sum(point["value"] > point["tree_q975"] for point in tested)
        parts.append(f"above 97.5\u00a0% of shuffled taxonomies in {_of(above, len(tested))}")
    if beside:
        above = sum(point["value"] > point["baseline"] for point in beside)
        parts.append(f"above the best baseline in {_of(above, len(beside))}")
    return f"The coherence of the {sae} is {' and '.join(parts)}." if parts else ""


def known_text(rows: Sequence[Mapping[str, Any]], n_nodes: int, sae: str) -> str:
    """Which nodes the SAE finds, in a sentence.

    Args:
        rows: of `known_nodes`.
        n_nodes: inner nodes that were looked at: those with enough scored images.
        sae: the SAE's name.
    """
    found = [row for row in rows if row["is_found"]]
    if not rows:
        return ""
    names = distinct_names([row["synset"] for row in (found or rows)[:3]])
    listed = ", ".join(
        f"{name} ({number(row['f1_adjusted'])}; shuffled tree {number(row['shuffled'])})"
        for name, row in zip(names, found or rows, strict=False)
    )
    if not found:
        nearest = f"nearest come, by adjusted F1, {listed}"
        none = f"No single latent of the {sae} finds any of {n_nodes} inner nodes (with enough images) beyond doubt"
        return f"{none}; {nearest}."
    return f"What a single latent of the {sae} knows best, by adjusted F1: {listed}."


def _clause(trend: Trend, word: str, confidence: float, *, first: bool) -> str:
    what = "taxonomic coherence beyond chance" if first else "it"
    place = "In" if first else "in"
    if trend.slope is None or trend.ci_low is None or trend.ci_high is None:
        return f"{place} the {trend.sae} {what} has no slope with an interval"
    interval = f"{100 * confidence:.0f}\u00a0% interval {trend.ci_low:.3f} to {trend.ci_high:.3f}"
    amount = f"{trend.slope:+.3f} bits per layer, {interval}".replace("-", "−")
    if word in _VERB:
        return f"{place} the {trend.sae} {what} {_VERB[word]} with depth ({amount})"
    return f"{place} the {trend.sae} {what} is not shown to change with depth ({amount})"


def _of(n: int, n_all: int) -> str:
    layers = "layer" if n_all == 1 else "layers"
    return (
        f"all {n_all} {layers}" if n == n_all > 1 else f"{n} of {n_all} {layers}" if n else f"none of {n_all} {layers}"
    )
