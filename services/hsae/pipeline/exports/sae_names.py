"""What the SAEs of a study are called in its report, and in which order they come."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row
from hsae.pipeline.exports.analysis_names import analysis_names
from hsae.report.setting_names import setting_names


def named_saes(session: Session, analyses: Sequence[Row]) -> list[Row]:
    """The rows with `sae`, the SAE's name by the settings in which the SAEs differ, by SAE and layer.

    The SAE that reconstructs held-out rows best comes first: a choice that does not look at the scores.
    """
    names = analysis_names(session, [row["analysis_id"] for row in analyses])
    named = [row | {"sae": sae_name(names[row["analysis_id"]])} for row in analyses]
    unexplained: dict[str, list[float]] = {}
    for row in named:
        unexplained.setdefault(row["sae"], []).append(float("inf") if row["fvu"] is None else row["fvu"])
    mean = {sae: sum(values) / len(values) for sae, values in unexplained.items()}
    return sorted(named, key=lambda row: (mean[row["sae"]], row["sae"], row["layer"], row["analysis_id"]))


def trend_names(trends: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the SAEs of rows of `comparison_trends`, which know no seeds."""
    settings = {place: _seedless(row["sae"]) for place, row in enumerate(trends)}
    names = setting_names(settings, always=("kind",))
    return [with_seeds(sae_name(names[place]), row["n_seeds"] or 1) for place, row in enumerate(trends)]


def sae_name(name: str) -> str:
    """`topk k=16` as `topk SAE k=16`."""
    kind, _, further = name.partition(" ")
    return f"{kind} SAE {further}".rstrip()


def with_seeds(name: str, n_seeds: int) -> str:
    """The name of a mean over seeds: `topk SAE, 3 seeds`."""
    return f"{name}, {n_seeds} seeds" if n_seeds > 1 else name


def _seedless(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "seed"}
