"""Layer scores of every SAE together with its controls."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]

_ABOUT = ("model", "dataset", "tokens", "sae_kind", "expansion", "layer", "analysis_id")
_BESIDE = (
    "lch_height_raw",
    "coverage_raw",
    "share_nodes_f1_raw",
    "share_nodes_rarefied",
    "share_nodes_q",
    "best_f1_raw",
    "best_f1_inner_raw",
    "best_f1_adjusted",
    "best_f1_adjusted_single",
    "best_f1_adjusted_pair",
    "best_f1_adjusted_inner",
    "n_latents",
    "n_rarefied",
    "l0",
    "dead_share",
)
_OF_SAE = (
    "fvu",
    "cosine",
    "holdout_l0",
    "holdout_dead_share",
    "train_fvu",
    "train_l0",
    "train_dead_share",
    "probe_accuracy",
)
_BESIDE_CHANCE = (
    "coherence",
    "coherence_null",
    "coherence_excess",
    "coherence_excess_weighted",
    "coherence_p",
    "n_coherent",
    "purity",
    "purity_null",
    "lch_excess",
    "n_lch_eligible",
)


def beside_controls(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row per analysis from the rows of `layer_progress`, with those of `layer_coherence` if they have them.

    The SAE's values keep their names; those of a control are called `<score>_<control>`.
    """
    result: dict[int, Row] = {}
    for row in rows:
        merged = result.setdefault(row["analysis_id"], {name: row[name] for name in _ABOUT})
        scored = [name for name in _BESIDE_CHANCE if name in row]
        if row["basis"] == "sae":
            merged |= {name: row[name] for name in (*_BESIDE, *scored, *_OF_SAE)}
        else:
            merged |= {f"{name}_{row['basis']}": row[name] for name in (*_BESIDE, *scored)}
    return list(result.values())
