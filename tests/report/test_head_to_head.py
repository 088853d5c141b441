"""Means and wins of a comparison, group by group."""

from hsae.report.head_to_head import by_height, greatest_differences


def node(number: int, height: int, n_classes: int, f1_a: float, f1_b: float) -> dict[str, object]:
    return {"synset_id": number, "synset": f"s{number}", "height": height, "n_classes": n_classes,
            "f1_a": f1_a, "f1_b": f1_b}  # fmt: skip


NODES = [node(1, 2, 4, 0.5, 0.75), node(2, 0, 1, 1.0, 0.5), node(3, 0, 1, 0.25, 0.25), node(4, 0, 1, 0.0, 0.5)]


def test_groups():
    groups = {row["group"]: row for row in by_height(NODES, {"neuron": [node(1, 2, 4, 0.25, 0.5)]})}
    assert list(groups) == ["height 2", "height 0", "inner", "all"]
    assert groups["height 2"] | {"group": "inner"} == groups["inner"]
    assert (groups["all"]["f1_a"], groups["all"]["f1_b"], groups["all"]["difference"]) == (0.4375, 0.5, 0.0625)
    assert [groups["height 0"][name] for name in ("wins_a", "wins_b", "ties")] == [1, 1, 1]
    assert (groups["inner"]["f1_a_neuron"], groups["inner"]["f1_b_neuron"]) == (0.25, 0.5)
    assert groups["all"]["f1_b_neuron"] == 0.125  # where the control has no latent, 0


def test_leads():
    ahead_a, ahead_b = greatest_differences(NODES, 1)
    assert [row["synset"] for row in ahead_a] == ["s2"]
    assert [(row["synset"], row["difference"]) for row in ahead_b] == [("s4", 0.5)]
    assert greatest_differences(NODES, 0) == ([], [])


def test_no_nodes():
    assert by_height([], {}) == []
