"""The tables of layers that `results layers` prints, over known rows."""

import pytest
from tests.report.test_layer_table import row

from hsae.cli.results.layers import print_layer_rows
from hsae.report.headline_table import with_headlines
from hsae.report.layer_table import beside_controls
from hsae.vocabulary.bases import BASES


def test_the_layers_tables_fit_and_show_the_controls_that_were_scored(capsys):
    every_control, few = (15, *[11] * 6, 12, 7), (11, *[4] * 6, 5, 7)
    for bases, n_columns in ((BASES, every_control), (("sae", "neuron", "shuffled_taxonomy"), few)):
        rows = [row(1, 11, basis, 0.25) | {"lch_height_raw": 10.25, "holdout_l0": 100.25} for basis in bases]
        print_layer_rows([with_headlines(each, {}, {}) for each in beside_controls(rows)], "paper", full=True)
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 120
        named = [line for line in lines if line.strip().startswith("layer")]
        headings = [[word for word in line.split() if word not in "↑↓"] for line in named]
        assert tuple(map(len, headings)) == n_columns
        cells = [line.split()[1:] for line in lines if line.strip().startswith("11 ")]
        assert tuple(1 + len(found) for found in cells) == n_columns
        assert {cell for found in cells for cell in found} == {"0.25", "10.25", "100.25"}


def test_the_first_table_has_headlines_with_intervals_the_best_baseline_and_the_shuffled_tree(capsys):
    scores = {"coherence_excess": 0.25, "coherence_p": 0.001, "purity": 0.5, "lch_excess": 1.5, "n_lch_eligible": 77}
    rows = beside_controls([row(1, 11, basis, 0.5) | scores for basis in BASES])
    intervals = {
        (1, "sae", "coherence_excess"): (0.25, 0.125, 0.375),
        (1, "exemplar", "coherence_excess"): (0.75, 0.5, 1.0),
        (1, "sae", "f1_adjusted_inner_mean"): (0.375, 0.25, 0.5),
        (1, "kmeans", "f1_adjusted_inner_mean"): (0.625, None, None),
        (1, "random", "f1_adjusted_inner_mean"): (0.125, None, None),
        (1, "class_mean", "f1_adjusted_inner_mean"): (0.875, None, None),  # a ceiling, no baseline
    }
    trees = {(1, "f1_adjusted_inner_mean"): (0.0625, 0.125), (1, "coherence_excess"): (0.0, 0.03125)}
    rows = [with_headlines(each, intervals, trees) for each in rows]
    print_layer_rows(rows)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 120
    (line,) = [line for line in shown.splitlines() if line.strip().startswith("11 ")]
    assert line.split() == [
        "11",
        "0.50",
        "0.50",
        "0.25",
        "±0.12",
        "0.25",
        "±0.25",
        "0.38",
        "±0.12",
        "0.62",
        "k-means",
        "0.06",
        "to",
        "0.12",
    ]
    assert "LCH" not in shown
    print_layer_rows(rows, full=True)
    everything = capsys.readouterr().out
    assert line in everything
    assert {"0.001", "1.50", "77"} <= set(everything.split())
    print_layer_rows(rows, "paper")
    assert "not corrected for chance" in capsys.readouterr().out


def test_inner_f1_that_shuffled_trees_reach_has_a_mark(capsys):
    intervals = {(1, "sae", "f1_adjusted_inner_mean"): (0.25, 0.125, 0.375)}
    for greatest, shown in ((0.25, "0.25 ±0.12 ?"), (0.24, "0.25 ±0.12"), (None, "0.25 ±0.12")):
        (given,) = beside_controls([row(1, 11, "sae", 0.5)])
        print_layer_rows([with_headlines(given, intervals, {(1, "f1_adjusted_inner_mean"): (0.125, greatest)})])
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("11 ")]
        assert ("?" in line) == ("?" in shown)
        assert shown in line


def test_a_line_warns_where_layers_of_one_table_differ_in_sparsity(capsys):
    def warned(*l0s):
        print_layer_rows(
            [row | {"holdout_l0": l0} for l0, row in zip(l0s, beside_controls(
                [row(number, number, "sae", 0.5) for number in range(len(l0s))]), strict=True)]
        )  # fmt: skip
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]

    assert warned(16.0, 16.5) == warned(16.0, None) == []
    (line,) = warned(20.7, 23.95, 22.0)
    assert line.startswith("Warning: topk SAE x2: its held-out L0 goes from 20.7 to 23.9")


@pytest.mark.parametrize(
    ("in_sample", "words"),
    [
        ([True, True], "The paper's protocol, in-sample"),
        ([False, False], "The paper's measures of held-out images. Its protocol is in-sample: `submit --split none`."),
        ([True, False], "Tables titled in-sample follow its protocol; the others are of held-out images"),
    ],
)
def test_the_papers_legend_says_of_which_images_the_numbers_are(capsys, in_sample, words):
    rows = beside_controls([row(number, number, "sae", 0.5) for number in range(2)])
    print_layer_rows([row | {"in_sample": each} for row, each in zip(rows, in_sample, strict=True)], "paper")
    assert words in capsys.readouterr().out


def test_full_shows_corrected_scores_of_every_size_of_node_and_the_numbers_of_columns(capsys):
    scores = {
        "best_f1": 0.91, "best_f1_inner": 0.92, "share_nodes_f1": 0.93, "best_f1_adjusted": 0.11,
        "best_f1_adjusted_single": 0.12, "best_f1_adjusted_pair": 0.13, "best_f1_adjusted_inner": 0.14,
        "share_nodes_rarefied": 0.15, "share_nodes_q": 0.16, "n_latents": 1536, "n_rarefied": 384,
    }  # fmt: skip
    bases = [row(1, 11, basis, 0.5) | scores for basis in ("sae", "neuron")]
    bases[1] |= {"n_latents": 768}
    print_layer_rows([with_headlines(each, {}, {}) for each in beside_controls(bases)], full=True)
    shown = capsys.readouterr().out.split()
    assert {"0.11", "0.12", "0.13", "0.14", "0.15", "0.16", "1536", "768", "384"} <= set(shown)
    assert not {"0.91", "0.92", "0.93"} & set(shown)
