"""What an option takes is what the code behind it knows."""

import json
from typing import Any

from tests.cli.command_tree import LEAVES

from hsae.catalog import MAX_PRIORITY
from hsae.demo import backbone_folder
from hsae.hierarchy.resampling.resampled import HEADLINES
from hsae.pipeline.planning.requests import MAX_SEEDS


def type_of(command: str, option: str) -> Any:
    (found,) = [parameter for parameter in LEAVES[tuple(command.split())].params if option in parameter.opts]
    return found.type


def test_every_metric_of_a_comparison_can_be_asked_for():
    of_earlier_versions = {
        "best_f1_mean", "best_f1_inner_mean", "share_nodes_f1", "monosemanticity_mean", "class_entropy_mean",
        "label_f1_mean",
    }  # fmt: skip
    assert set(type_of("results study", "--metric").choices) == {*HEADLINES, *of_earlier_versions, "all"}


def test_seeds():
    allowed = type_of("submit", "--seeds")
    assert (allowed.min, allowed.max) == (1, MAX_SEEDS)


def test_priorities():
    allowed = type_of("submit", "--priority")
    assert (allowed.min, allowed.max) == (0, MAX_PRIORITY)


def test_layers_of_the_demo():
    config = json.loads((backbone_folder() / "config.json").read_text())
    allowed = type_of("demo", "--layer")
    assert (allowed.min, allowed.max) == (0, config["num_hidden_layers"] - 1)
