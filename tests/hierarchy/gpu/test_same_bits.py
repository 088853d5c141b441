"""A GPU gives the CPU's scores to the last bit: on an emulated one, which divides, adds and rounds as CUDA does."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.devices.numeric.numeric_cuda import NumericCuda
from tests.examples import examples
from tests.hierarchy.all_bases import assert_same, run
from tests.hierarchy.gpu.cases import assert_equal, every_number, several_labels

from hsae.hierarchy.kernels import blocks
from hsae.hierarchy.kernels.device import groups, run_lengths, segment_sum
from hsae.hierarchy.scores import node_scores
from hsae.hierarchy.scores.node_scores import NodeSums, score_pairs
from hsae.hierarchy.scores.node_tests import node_tests
from hsae.hierarchy.scores.pair_sums import PairSums
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.distinct_nodes import distinct_nodes
from hsae.hierarchy.statistics.label_sets import label_sets
from hsae.hierarchy.statistics.ranks import rank_activations

pytestmark = pytest.mark.slow

seeds = st.integers(0, 2**32 - 1)


@examples(60)
@given(seed=seeds, threshold=st.sampled_from([0.0, 0.75]), has_several=st.booleans())
def test_every_number_is_the_cpus(random_case, seed, threshold, has_several):
    """Ties, dead, constant and dense latents, empty classes; images with one label and with several."""
    case = random_case(seed)
    labels = None
    if has_several:
        labels = several_labels(case.labels, len(case.taxonomy.classes), np.random.default_rng(seed))
    expected = every_number(case, "cpu", threshold=threshold, labels=labels)
    with NumericCuda() as gpu:
        found = every_number(case, "cuda:0", threshold=threshold, labels=labels)
    assert_equal(found, expected)
    assert gpu.n_accumulations == 0, "CUDA adds what falls into one cell one by one"


@pytest.mark.parametrize("n_nonzeros", [1, 7, 100])
def test_sizes_of_blocks_change_no_bit(planted_case, monkeypatch, n_nonzeros):
    expected = every_number(planted_case, "cpu")
    monkeypatch.setattr(blocks, "_BLOCK_NONZEROS_GPU", n_nonzeros)
    monkeypatch.setattr(node_scores, "_BLOCK_LATENTS", 3)
    monkeypatch.setattr(node_scores, "_BLOCK_LATENTS_GPU", 3)
    with NumericCuda():
        assert_equal(every_number(planted_case, "cuda:0"), expected)


def test_a_whole_analysis_is_the_cpus(planted_case):
    """All bases, shuffles and controls; no tensor is left on the CPU by mistake."""
    expected = run(planted_case)
    with NumericCuda():
        found = run(planted_case, device="cuda:0")
    assert_same(expected, found)


@given(
    n_images=st.integers(3, 10**6),
    counts=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30),
)
def test_quotients_are_rounded_correctly(n_images, counts):
    """`x / 3` and `x / N` are products with a reciprocal on CUDA, unless the divisor is a tensor there."""
    n_node = torch.tensor([round(share * n_images) for share, _ in counts], dtype=torch.float64)
    n_fire = torch.tensor([round(share * n_images) for _, share in counts], dtype=torch.float64)
    n_both = torch.minimum(n_node, n_fire)
    ranks = 2 * n_both * (n_images - n_node)

    def scores(device):
        tensors = (part.to(device) for part in (n_node, n_fire, torch.full_like(n_node, n_images), n_both, ranks))
        pairs = PairSums(n_images, *tensors)
        return {name: getattr(pairs, name)().cpu() for name in ("z", "f1_adjusted", "auroc", "precision", "recall")}

    expected = scores("cpu")
    with NumericCuda():
        for name, values in scores("cuda:0").items():
            torch.testing.assert_close(values, expected[name], rtol=0, atol=0, equal_nan=True, msg=name)


@examples(30)
@given(seed=seeds)
def test_a_p_value_is_found_among_those_of_the_tests(random_case, seed):
    """The p-value of a node's best latent is in the family that it is looked up in, whatever the device's erfc says."""
    case = random_case(seed)
    sets = label_sets(case.labels, case.taxonomy)
    ranked = rank_activations(case.z)
    sums = sum_by_class(ranked, sets.of_image, sets.n_sets)
    every_latent = np.repeat(np.arange(ranked.n_latents), len(case.taxonomy.synsets)).astype(np.int32)
    every_node = np.tile(np.arange(len(case.taxonomy.synsets)), ranked.n_latents).astype(np.int32)
    found = {}
    with NumericCuda():
        for device in ("cpu", "cuda:0"):
            node_sums = NodeSums(sums, sets.closure, device=device)
            tests = node_tests(node_sums, node_sums, distinct_nodes(sets, case.labels, case.taxonomy))
            p = score_pairs(node_sums, every_latent, every_node).p
            found[device] = {"p of nodes": tests.p, "q": tests.q, "p": p, "q of pairs": tests.q_of(p)}
            least = np.fmin.reduce(p.reshape(ranked.n_latents, -1), axis=0)
            tested = np.flatnonzero(~np.isnan(least) & ~np.isnan(tests.q))
            np.testing.assert_array_equal(tests.q_of(least[tested]), tests.q[tested])
    assert_equal(found["cuda:0"], found["cpu"])


def test_sums_are_taken_in_the_order_of_the_values():
    """Values of very different sizes; on the emulated GPU atomic additions have no order."""
    rng = np.random.default_rng(0)
    cell = torch.from_numpy(np.sort(rng.integers(0, 50, 30_000)))
    value = torch.from_numpy(rng.lognormal(0, 9, 30_000))
    expected = np.bincount(cell, value, minlength=50)
    with NumericCuda():
        start, run_number = groups(cell.to("cuda:0"))
        sums = segment_sum(run_number, value.to("cuda:0"), run_lengths(start, len(cell))).cpu()
    np.testing.assert_array_equal(sums[:50], expected)
