"""Layer scores with their controls beside them."""

from hsae.report.layer_table import beside_controls
from hsae.vocabulary.bases import BASES

ABOUT = {"model": "m", "dataset": "d", "tokens": "cls", "sae_kind": "topk", "expansion": 2}
SCORES = (
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
MEASURED = (
    "fvu",
    "cosine",
    "holdout_l0",
    "holdout_dead_share",
    "train_fvu",
    "train_l0",
    "train_dead_share",
    "probe_accuracy",
)


def row(analysis_id: int, layer: int, basis: str, value: float | None) -> dict[str, object]:
    """A row of layer_progress whose scores are all `value`."""
    return {
        **ABOUT,
        "analysis_id": analysis_id,
        "layer": layer,
        "basis": basis,
        "n_seeds": 2,
        "lch_height_relative_raw": value,
        **dict.fromkeys((*SCORES, *MEASURED), value),
    }


def test_one_row_per_analysis_with_its_own_controls():
    rows = [row(number, layer, basis, number + i / 16) for number, layer in ((7, 3), (5, 0)) for i, basis in
            enumerate(BASES)]  # fmt: skip
    merged = beside_controls(rows)
    assert [(r["analysis_id"], r["layer"]) for r in merged] == [(7, 3), (5, 0)]  # in the order that came
    for r in merged:
        number = r["analysis_id"]
        assert {name: r[name] for name in ABOUT} == ABOUT
        for score in SCORES:
            assert r[score] == number
            for i, control in enumerate(BASES[1:], start=1):
                assert r[f"{score}_{control}"] == number + i / 16
        for name in MEASURED:
            assert r[name] == number
            assert not any(key.startswith(f"{name}_") for key in r)


def test_undefined_scores_stay_none_and_the_order_of_the_bases_does_not_matter():
    rows = [row(1, 0, "shuffled_labels", 0.25), row(1, 0, "sae", None)]
    (merged,) = beside_controls(rows)
    assert merged["best_f1_raw"] is None
    assert merged["fvu"] is None
    assert merged["best_f1_raw_shuffled_labels"] == 0.25
    assert beside_controls(rows[::-1]) == [merged]


def test_no_rows():
    assert beside_controls([]) == []


def test_the_rows_that_are_given_are_not_changed():
    rows = [row(1, 0, "sae", 0.5), row(1, 0, "neuron", 0.25)]
    before = [dict(r) for r in rows]
    beside_controls(rows)
    assert rows == before
