"""The table layer x basis for people: rows of a report, and tables in Markdown as the pages have them."""

from collections.abc import Sequence
from typing import Any

from benchmarks.findings.layer_table import BASES, METRICS
from benchmarks.measure import Row

from hsae.hierarchy.study.intervals import SAE

SHOWN = ("coherence_excess", "f1_adjusted_inner_mean", "lch_excess_mean")
SLOPES = ("coherence_excess", "coherence_excess_weighted", "f1_adjusted_inner_mean", "lch_excess_mean")


def rows_of(table: dict[str, Any]) -> list[Row]:
    """The table's headline as rows: FVU and L0 of every block, the SAE's numbers, and the slopes."""
    rows = []
    for block in table["blocks"]:
        for figure, name in (("fvu", "FVU"), ("l0", "L0")):
            if block["sae"][figure]["mean"] is not None:
                rows.append(Row(f"block {block['block']}: held-out {name}", block["sae"][figure]["mean"], ""))
    for one in table["bases"]:
        if one["basis"] == SAE and one["value"] is not None:
            rows.append(Row(f"block {one['block']}: {METRICS[one['metric']]}", one["value"], ""))
    for one in table["slopes_per_block"]:
        if one["value"] is not None and one["metric"] in SLOPES:
            rows.append(Row(f"{one['what']}, {one['basis']}: {METRICS[one['metric']]}", one["value"], "per block"))
    return rows


def markdown(table: dict[str, Any]) -> str:
    """The table as the pages show it."""
    return "\n\n".join([
        _blocks_table(table),
        f"L0 on the scored images:\n\n{_densities_table(table)}",
        *(f"{METRICS[metric]}:\n\n{_metric_table(table, metric)}" for metric in
          SHOWN),
        f"slope per block:\n\n{_slopes_table(table)}",
    ])  # fmt: skip


def _blocks_table(table: dict[str, Any]) -> str:
    of_sae = {one["block"]: one for one in table["bases_without_interval"] if one["basis"] == SAE}
    rows = []
    for block in table["blocks"]:
        number, probe, sae = block["block"], block["probe"] or {}, of_sae[block["block"]]
        rows.append([
            str(number), _text(block["sae"]["fvu"]["mean"]), _text(block["sae"]["l0"]["mean"], 1),
            _text(block["sae"]["dead_share"]["mean"], 2), _text(probe.get("accuracy")),
            _text(sae["q_node_share"]), _text(sae["rarefied_node_share"]), f"{sae['n_lch_eligible']:.0f}",
        ])  # fmt: skip
    header = [
        "block", "FVU", "L0", "dead", "probe accuracy", "nodes at q < .01", "rarefied share",
        "latents with an LCH excess",
    ]  # fmt: skip
    return _lines(header, rows)


def _densities_table(table: dict[str, Any]) -> str:
    """How often every basis fires on the scored images; thresholds are set on others, so not quite as the SAE does."""
    rows = []
    for basis in BASES:
        found = [one for one in table["bases_without_interval"] if one["basis"] == basis]
        l0 = [one["l0_mean"] for one in found]
        if found:
            rows.append([basis, f"{found[0]['n_latents']:,.0f}", _text(min(l0), 1), _text(max(l0), 1)])
    return _lines(["basis", "columns", "L0, least of the blocks", "L0, greatest"], rows)


def _metric_table(table: dict[str, Any], metric: str) -> str:
    found = {(one["block"], one["basis"]): one for one in table["bases"] if one["metric"] == metric}
    bases = [basis for basis in BASES if any(name == basis for _, name in found)]
    blocks = [block["block"] for block in table["blocks"]]
    return _lines(
        ["block", *bases],
        [[str(block), *(_with_reach(found.get((block, basis))) for basis in bases)] for block in blocks],
    )


def _slopes_table(table: dict[str, Any]) -> str:
    found = {(one["metric"], one["basis"], one["what"]): one for one in table["slopes_per_block"]}
    names = [(basis, what) for _, basis, what in found]
    order = list(dict.fromkeys(names))
    label = {"slope": "{}", "slope of sae minus slope": "sae minus {}"}
    return _lines(
        ["slope of", *(METRICS[metric] for metric in SLOPES)],
        [
            [label[what].format(basis), *(_with_reach(found.get((metric, basis, what)), 4) for metric in SLOPES)]
            for basis, what in order
        ],
    )


def _with_reach(one: dict[str, Any] | None, digits: int = 3) -> str:
    if one is None or one["value"] is None:
        return "–"
    reach = "" if one["low"] is None else f" ±{_text(one['high'] - one['value'], digits)}"
    return f"{_text(one['value'], digits)}{reach}"


def _text(value: float | None, digits: int = 3) -> str:
    """With three decimals, and without the zero before the point, as the other pages have it."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def _lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows])
