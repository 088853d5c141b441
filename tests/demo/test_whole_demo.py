"""`make demo` as the README shows it: every layer of the bundled backbone, both kinds of SAE."""

import json

import pytest
from tests.demo.test_demo import check_what_it_says

from hsae.demo import backbone_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def test_the_whole_demo_says_everything(whole_demo):
    n_layers = json.loads((backbone_folder() / "config.json").read_text())["num_hidden_layers"]
    check_what_it_says(whole_demo, range(n_layers))


def test_structure_rises_with_depth(whole_demo):
    """The README's reading of its table: adjusted inner F1 rises from the first block to the last, for both kinds."""
    rows = json.loads(whole_demo.admin("results", "layers", "--json").stdout)
    for kind in ("relu", "topk"):
        inner = {row["layer"]: row["f1_adjusted_inner"] for row in rows if row["sae_kind"] == kind}
        assert inner[max(inner)] > inner[min(inner)]
