"""Names of settings: different ones differ, and what all share is left out."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from hsae.report.setting_names import setting_names, told_apart


def names(*settings, **options) -> list[str]:
    return list(setting_names(dict(enumerate(settings)), **options).values())


def test_only_what_differs_is_named():
    topk = {"kind": "topk", "expansion": 2, "k": 16, "n_steps": None, "seed": 0}
    assert names(topk, topk | {"expansion": 4}) == ["x2", "x4"]
    assert names(topk, topk | {"expansion": 4}, always=("kind",)) == ["topk x2", "topk x4"]
    assert names(topk, topk | {"k": 32, "n_steps": 500}, always=("kind",)) == [
        "topk k=16 steps=auto",
        "topk k=32 steps=500",
    ]
    relu = {"kind": "relu", "expansion": 2, "l1_coefficient": 0.3, "n_steps": None, "seed": 0}
    assert names(relu, topk) == ["relu", "topk"]
    assert names(relu, topk, topk | {"k": 32}) == ["relu", "topk k=16", "topk k=32"]
    assert names(relu, relu | {"l1_coefficient": 0.1}, relu | {"seed": 1}, separator=", ") == [
        "l1=0.3, seed=0", "l1=0.1, seed=0", "l1=0.3, seed=1",
    ]  # fmt: skip
    aimed = {name: value for name, value in relu.items() if name != "l1_coefficient"} | {"target_l0": 20.0}
    assert names(relu, aimed) == ["l1=0.3", "target_l0=20.0"]
    assert names(topk, always=("kind",)) == ["topk"]
    assert names(topk, topk) == ["", ""]
    assert names({"model": "/data/vit", "tokens": "cls", "dataset": "a"}, {"model": "b", "tokens": "mean"}) == [
        "vit cls",
        "b mean",
    ]


def test_one_value_in_two_notations_is_one():
    assert names({"threshold": 1}, {"threshold": 1.0}) == ["", ""]


def test_analyses_of_one_layer_with_one_name_have_their_numbers():
    assert told_apart({1: "topk", 2: "topk", 3: "topk"}, {1: 0, 2: 1, 3: 1}) == {
        1: "topk",
        2: "topk (analysis 2)",
        3: "topk (analysis 3)",
    }


_SETTINGS = st.dictionaries(
    st.sampled_from(["kind", "expansion", "k", "n_steps", "controls"]),
    st.one_of(st.none(), st.integers(0, 3), st.lists(st.sampled_from("ab"), max_size=2)),
)


@given(st.lists(_SETTINGS, max_size=6))
def test_different_settings_have_different_names(settings):
    found = names(*settings)
    for (one, its_name), (other, other_name) in itertools.combinations(zip(settings, found, strict=True), 2):
        assert (one == other) == (its_name == other_name)
