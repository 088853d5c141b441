"""What stands beside the numbers of a layer: baselines and shuffled trees."""

from tests.report.test_layer_table import row

from hsae.report.headline_table import with_headlines
from hsae.report.layer_table import beside_controls


def test_without_drawn_trees_the_few_scored_ones_stand_in_for_them():
    scored = [row(1, 3, "sae", 0.5), row(1, 3, "shuffled_taxonomy", 0.125) | {"best_f1_adjusted_inner": 0.25}]
    (layer,) = beside_controls(scored)
    intervals = {(1, "sae", "f1_adjusted_inner_mean"): (0.5, 0.25, 0.75)}
    found = with_headlines(layer, intervals, {})
    assert (found["f1_adjusted_inner_tree"], found["f1_adjusted_inner_tree_q975"]) == (0.25, None)
    assert (found["coverage_raw_tree"], found["coverage_raw_tree_q975"]) == (0.125, None)
    drawn = with_headlines(layer, intervals, {(1, "f1_adjusted_inner_mean"): (0.0625, 0.09375)})
    assert (drawn["f1_adjusted_inner_tree"], drawn["f1_adjusted_inner_tree_q975"]) == (0.0625, 0.09375)
    raw = with_headlines(layer, intervals, {(1, "share_nodes_f1"): (0.25, 0.5)})
    assert (raw["share_nodes_f1_raw_tree"], raw["share_nodes_f1_raw_tree_q975"]) == (0.25, 0.5)
    assert raw["best_f1_adjusted_inner_tree"] == 0.25
    (alone,) = beside_controls(scored[:1])
    assert with_headlines(alone, intervals, {})["f1_adjusted_inner_tree"] is None
