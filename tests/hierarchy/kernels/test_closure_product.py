"""Sums per node by way of running sums, against the plain product, on any 0/1 matrix."""

import numpy as np
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.hierarchy.kernels.test_device import on_every_device
from tests.taxonomy.test_imagenet import WNIDS

from hsae.hierarchy.kernels.closure_product import ClosureProduct, classes_in_runs
from hsae.taxonomy import induce, load_taxonomy

seeds = st.integers(0, 2**32 - 1)


@on_every_device
@examples(60)
@given(seed=seeds, share=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
def test_both_products_equal_the_dense_one(device, seed, share):
    """Empty nodes, nodes of all classes, rows of many runs; integers far beyond float32, of both signs."""
    rng = np.random.default_rng(seed)
    n_nodes, n_classes, width = rng.integers(1, 12, 3)
    matrix = (rng.random((n_nodes, n_classes)) < share).astype(np.float64)
    right = rng.integers(-(2**45), 2**45, (n_classes, width))
    product = ClosureProduct(sp.csr_array(matrix), device)
    values = torch.from_numpy(right).double().to(device)
    expected = matrix.astype(np.int64) @ right
    np.testing.assert_array_equal(product(values).cpu(), expected)
    np.testing.assert_array_equal(product.of_integers(values).cpu(), expected)


@examples(60)
@given(seed=seeds, share=st.sampled_from([0.0, 0.2, 0.8, 1.0]))
def test_the_order_holds_every_class_once(seed, share):
    rng = np.random.default_rng(seed)
    closure = sp.csr_array((rng.random(rng.integers(1, 15, 2)) < share).astype(np.uint8))
    assert sorted(classes_in_runs(closure)) == list(range(closure.shape[0]))


@examples(40)
@given(seed=seeds)
def test_in_a_tree_every_node_is_one_run(seed):
    rng = np.random.default_rng(seed)
    n_nodes = int(rng.integers(2, 30))
    parent = [int(rng.integers(node)) for node in range(1, n_nodes)]  # of the nodes 1, 2, ...
    leaves = sorted(set(range(n_nodes)) - set(parent))
    closure = np.zeros((len(leaves), n_nodes), np.uint8)
    for row, leaf in enumerate(rng.permutation(leaves)):
        node = int(leaf)
        closure[row, node] = 1
        while node:
            node = parent[node - 1]
            closure[row, node] = 1
    order = classes_in_runs(sp.csr_array(closure))
    steps = np.diff(np.pad(closure[order].astype(np.int8), ((1, 1), (0, 0))), axis=0)
    assert ((steps == 1).sum(axis=0) == 1).all()


def test_imagenets_nodes_are_few_runs():
    """Several parents and all: the running sums need a third of the plain product's additions."""
    wordnet = load_taxonomy()
    closure = induce(wordnet, [wordnet.resolve(wnid).id for wnid in WNIDS]).closure
    under = sp.csr_array(closure[classes_in_runs(closure)].T.astype(np.float64))
    of_running_sums = ClosureProduct(under, "cpu")._of_running_sums
    assert of_running_sums.nnz < under.nnz / 3
    assert np.diff(of_running_sums.indptr).max() <= 16
