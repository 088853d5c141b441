"""The estimate that decides where an analysis runs."""

import pytest

from hsae.hierarchy.config import BASELINES, ScoringConfig
from hsae.hierarchy.cost import cpu_seconds

DEFAULTS = ScoringConfig()


def test_it_grows_with_everything_that_there_is_more_of():
    usual = cpu_seconds(DEFAULTS, 25_000, 12_288, 768)
    assert usual < cpu_seconds(DEFAULTS, 50_000, 12_288, 768) < 2 * usual
    assert usual < cpu_seconds(DEFAULTS, 25_000, 24_576, 768) < 2.1 * usual
    assert usual < cpu_seconds(DEFAULTS, 25_000, 12_288, 1536) < 2.1 * usual
    assert usual < cpu_seconds(ScoringConfig(n_random=10), 25_000, 12_288, 768)
    assert usual < cpu_seconds(ScoringConfig(n_shuffles=4), 25_000, 12_288, 768)


@pytest.mark.parametrize("basis", BASELINES)
def test_every_baseline_costs_something(basis):
    without = ScoringConfig(controls=tuple(other for other in BASELINES if other != basis))
    assert cpu_seconds(without, 10_000, 4_096, 768) < cpu_seconds(DEFAULTS, 10_000, 4_096, 768)


def test_an_sae_alone_is_a_small_part():
    alone = ScoringConfig(controls=(), n_shuffles=0)
    assert cpu_seconds(alone, 25_000, 12_288, 768) < cpu_seconds(DEFAULTS, 25_000, 12_288, 768) / 8
