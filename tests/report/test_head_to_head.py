"""Means and wins of a comparison, group by group."""

import pytest

from hsae.report.head_to_head import by_height, greatest_differences


def node(
    number: int, height: int, n_classes: int, a: float, b: float, *, is_distinct: bool = True
) -> dict[str, object]:
    """A node with adjusted F1 a and b; the F1 as it is is 0.125 greater."""
    return {"synset_id": number, "synset": f"s{number}", "height": height, "n_classes": n_classes,
            "is_distinct": is_distinct, "f1_adjusted_a": a, "f1_adjusted_b": b, "f1_a": a + 0.125,
            "f1_b": b + 0.125}  # fmt: skip


NODES = [
    node(1, 2, 4, 0.5, 0.75),
    node(2, 0, 1, 1.0, 0.5),
    node(3, 0, 1, 0.25, 0.25),
    node(4, 0, 1, 0.0, 0.5),
    node(5, 1, 1, 0.0, 1.0, is_distinct=False),  # holds the images of node 4
]


def test_groups():
    groups = {row["group"]: row for row in by_height(NODES, {"neuron": [node(1, 2, 4, 0.25, 0.5)]})}
    assert list(groups) == ["height 2", "height 0", "inner", "all"]
    assert groups["height 2"] | {"group": "inner"} == groups["inner"]
    everything = groups["all"]
    assert (everything["n_nodes"], everything["f1_adjusted_a"], everything["f1_adjusted_b"]) == (4, 0.4375, 0.5)
    assert (everything["difference"], everything["f1_a"], everything["f1_b"]) == (0.0625, 0.5625, 0.625)
    assert [groups["height 0"][name] for name in ("wins_a", "wins_b", "ties")] == [1, 1, 1]
    assert (groups["inner"]["f1_adjusted_a_neuron"], groups["inner"]["f1_b_neuron"]) == (0.25, 0.625)
    assert everything["f1_adjusted_b_neuron"] == 0.125  # where the control has no latent, 0


def test_leads():
    ahead_a, ahead_b = greatest_differences(NODES, 1)
    assert [row["synset"] for row in ahead_a] == ["s2"]
    assert [(row["synset"], row["difference"]) for row in ahead_b] == [("s4", 0.5)]
    assert greatest_differences(NODES, 0) == ([], [])


@pytest.mark.parametrize("nodes", [[], NODES[4:]], ids=["none", "none that is distinct"])
def test_no_nodes(nodes):
    assert by_height(nodes, {}) == []
