"""`make demo` as docs/demo.md shows it: every layer of the bundled backbone, both kinds of SAE."""

import json

import pytest

from hsae.demo import backbone_folder
from tests.demo.test_demo import check_what_it_says

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def test_the_whole_demo_says_everything(whole_demo):
    n_layers = json.loads((backbone_folder() / "config.json").read_text())["num_hidden_layers"]
    check_what_it_says(whole_demo, range(n_layers))


@pytest.fixture(scope="module")
def compared(whole_demo):
    """The comparison of the demo's study, as `results study` has it."""
    return json.loads(whole_demo.admin("results", "study", "--json").stdout)


def test_coherence_rises_with_depth_where_the_demo_says_so(whole_demo, compared):
    """For TopK; for ReLU its interval contains 0, as docs/demo.md says."""
    trends = {row["sae"].split()[0]: row for row in compared["trends"] if row["metric"] == "coherence_excess"}
    assert set(trends) == {"relu", "topk"}
    assert trends["topk"]["n_layers"] == 6
    assert trends["topk"]["ci_low"] > 0
    lines = {line.split()[0]: line for line in whole_demo.output.splitlines() if "bits per block" in line}
    for kind, row in trends.items():
        assert f"coherence excess {row['slope']:+.3f} bits per block, 95% interval" in lines[kind]
        assert lines[kind].endswith("yes" if row["ci_low"] > 0 else "not shown")


def test_coherence_stands_beside_exemplars_with_intervals(compared):
    scores = {
        (row["layer"], row["sae"].split()[0], row["basis"]): row
        for row in compared["scores"]
        if row["metric"] == "coherence_excess"
    }
    for layer in range(6):
        for kind in ("relu", "topk"):
            for basis in ("sae", "exemplar"):
                row = scores[layer, kind, basis]
                assert row["ci_low"] < row["value"] < row["ci_high"]
            assert scores[layer, kind, "sae"]["ci_low"] > 0  # above chance in every block


def test_layers_are_compared_at_equal_sparsity(whole_demo):
    rows = json.loads(whole_demo.admin("results", "layers", "--json").stdout)
    assert all(row["holdout_l0"] == pytest.approx(16, rel=0.1) for row in rows)
    assert "Warning" not in whole_demo.output
