"""The numbers of a card of a report, each beside its null."""

from collections.abc import Mapping
from typing import Any

from hsae.report.charts.theme import number
from hsae.report.page.content import Value
from hsae.vocabulary.bases import BASIS_NAMES

_Row = Mapping[str, Any]


def card_values(latent: _Row) -> list[Value]:
    """What a card says of a latent, a row of `best_labelled_latents`: each number beside its null."""
    baseline = BASIS_NAMES.get(latent["baseline"], latent["baseline"])
    of_baseline, of_tree = latent["baseline_adjusted"], latent["tree_adjusted"]
    controls = [
        f"best baseline {number(of_baseline)} ({baseline})" if of_baseline is not None else "",
        f"shuffled tree {number(of_tree)}" if of_tree is not None else "",
        "0 for a latent that always fires",
    ]
    coherence, excess = latent["coherence"], latent["coherence_excess"]
    by_chance = None if coherence is None or excess is None else coherence - excess
    values = [
        Value("adjusted F1", number(latent["f1_adjusted"]), "; ".join(filter(None, controls))),
        Value("q of the label", number(latent["q"], 3), "corrected for all latents and nodes; sure below 0.05"),
        Value("F1", number(latent["f1"]), _by_chance(latent["f1_chance"])),
        Value("precision", number(latent["precision"]), _by_chance(latent["precision_chance"])),
        Value("recall", number(latent["recall"]), _by_chance(latent["recall_chance"])),
        Value("AUROC", number(latent["auroc"]), "0.50 by chance"),
        Value(
            "taxonomic coherence",
            "–" if coherence is None else f"{coherence:.2f} bits",
            "" if by_chance is None else f"{by_chance:.2f} bits by chance",
        ),
        Value("fires on", f"{latent['n_fire']} scored images", f"a share of {latent['density']:.2%}"),
    ]
    if latent["seed_stability"] is not None:
        chance = "" if latent["stability_chance"] is None else f"{latent['stability_chance']:.2f} by chance"
        values.append(Value("stability over seeds", number(latent["seed_stability"]), chance))
    if latent["is_used"] is not None:
        unit = "log-odds" if latent["effect_unit"] == "log_odds" else "accuracy"
        chance = f"97.5 % of random latents below {number(latent['effect_chance_high'])}"
        name = f"effect at the label, {unit}"
        values.append(Value(name, number(latent["label_effect"]), f"{chance}; q {number(latent['effect_q'], 3)}"))
    if latent["text_name"] is not None:
        values.append(Value("name by text", latent["text_name"], _name_beside(latent)))
    if latent["n_with_label"] > 1:
        values.append(Value("latents with this label", str(latent["n_with_label"]), "the surest of them is shown"))
    return values


def _by_chance(value: float | None) -> str:
    """What a latent has that fires as often, on random images."""
    return "" if value is None else f"{number(value)} by chance"


def _name_beside(latent: _Row) -> str:
    """How sure a name by text is, and how near it is to the label beside shuffled words."""
    sure = f"{number(latent['name_margin'])} above the runner-up, {latent['name_runner_up']}"
    height, chance = latent["name_height"], latent["name_height_chance"]
    if height is None:
        return f"{sure}; it means no node of the tree"
    near = "the label itself" if height == 0 else f"meets the label in a node of height {height}"
    return f"{sure}; {near}" + ("" if chance is None else f", as {chance:.1%} of shuffled words do")
