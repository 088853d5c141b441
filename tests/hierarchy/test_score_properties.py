"""What the tests of the single modules leave open: one image per class, and the controls against their definitions.

The table of pairs, the table of latents and the layer's row come from `score_bases`; beside them stand scikit-learn,
SciPy and loops.
"""

import dataclasses

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy, hypergeom, mannwhitneyu, norm
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score
from tests.examples import examples
from tests.hierarchy.all_bases import own_numbers
from tests.hierarchy.scoring import score_all, score_one

from hsae.errors import UserError
from hsae.hierarchy.controls.shuffles import class_places, shuffle_labels, shuffle_taxonomy

seeds = st.integers(0, 2**32 - 1)


def one_image_per_class(case, seed):
    """The case with one image for every class, in random order; dense, tied and silent columns stay what they are."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(len(case.taxonomy.classes))
    rows = rng.integers(0, len(case.dense), len(labels))
    dense = case.dense[rows]
    if rng.random() < 0.5:
        dense[:, 0] = rng.uniform(0.5, 1.0, len(labels))  # fires everywhere, without ties
    return dataclasses.replace(case, dense=dense, z=sp.csr_array(dense), labels=labels, neurons=case.neurons[rows])


@examples(10)
@given(seed=seeds)
def test_one_image_per_class(random_case, seed):
    """The smallest data set that has every class: all scores of the shortlist against scikit-learn and SciPy."""
    case = one_image_per_class(random_case(seed), seed)
    if len(case.labels) < 2:
        return
    sae = score_all(case.z, case.labels, case.taxonomy, case.neurons)[0]
    is_under, nodes = case.is_under(), sae.nodes
    for place, (latent, node) in enumerate(zip(nodes.latent, nodes.node, strict=True)):
        column, under = case.dense[:, latent].astype(np.float64), is_under[:, node]
        got = {name: values[place] for name, values in nodes.columns().items()}
        for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            assert got[name] == pytest.approx(score(under, column > 0), abs=1e-12)
        if under.all() or len(np.unique(column)) == 1:
            assert all(np.isnan(got[name]) for name in ("auroc", "z", "average_precision"))
            continue
        assert got["auroc"] == pytest.approx(roc_auc_score(under, column), abs=1e-12)
        assert got["average_precision"] == pytest.approx(average_precision_score(under, column), abs=1e-12)
        test = mannwhitneyu(column[under], column[~under], method="asymptotic", use_continuity=False)
        assert 2 * norm.sf(abs(got["z"])) == pytest.approx(test.pvalue, rel=1e-9)
        fires = column > 0
        if (fires & under).sum() * len(under) > fires.sum() * under.sum():
            expected = hypergeom.sf((fires & under).sum() - 1, len(under), under.sum(), fires.sum())
            assert got["p"] == pytest.approx(expected, rel=1e-9)
        else:
            assert np.isnan(got["p"])
    for latent, fires in enumerate((case.dense > 0).T):
        shares = np.bincount(case.labels[fires]) / max(fires.sum(), 1)
        expected = entropy(shares, base=2) if fires.any() else np.nan
        assert sae.latents.class_entropy[latent] == pytest.approx(expected, abs=1e-12, nan_ok=True)


@examples(25)
@given(seed=seeds)
def test_lch_and_coverage_equal_networkx(random_case, seed):
    """By every rule, out of the tables: common ancestors in a graph, whose heights are longest paths."""
    case = random_case(seed)
    taxonomy = case.taxonomy
    sae = score_all(case.z, case.labels, taxonomy, case.neurons, n_shuffles=0)[0]
    graph = nx.DiGraph(taxonomy.hypernym_edges.tolist())  # child -> parent
    graph.add_nodes_from(range(len(taxonomy.synsets)))

    def height(node):
        return nx.dag_longest_path_length(graph.subgraph(nx.ancestors(graph, node) | {node}))

    def n_classes_under(node):
        return len((nx.ancestors(graph, node) | {node}) & set(taxonomy.classes.tolist()))

    for latent, column in enumerate(case.dense.T):
        firing = np.flatnonzero(column > 0)
        strongest = sorted(firing.tolist(), key=lambda image: (-column[image], image))[:16]
        rate = [label for label in set(case.labels.tolist()) if (column[case.labels == label] > 0).mean() >= 0.5]
        for rule, labels in (("topk", set(case.labels[strongest].tolist())), ("rate", set(rate))):
            places = sae.places[rule]
            if not labels:
                assert places.lch[latent] == -1
                continue
            above = [{int(node)} | nx.descendants(graph, int(node)) for node in taxonomy.classes[sorted(labels)]]
            lch = min(set.intersection(*above), key=lambda node: (height(node), n_classes_under(node), node))
            assert (places.lch[latent], places.height[latent]) == (lch, height(lch))
            assert places.coverage[latent] == len(labels) / n_classes_under(lch)
            assert places.depth[latent] == nx.shortest_path_length(graph, lch, taxonomy.root)


@examples(25)
@given(seed=seeds, shuffle=st.integers(0, 1000))
def test_a_shuffle_is_the_same_scoring_of_other_labels(random_case, seed, shuffle):
    """Its best latent of every node, its scores and its layer row are those of an SAE on the permuted labels."""
    case = random_case(seed)
    n_classes = len(case.taxonomy.classes)
    for basis, labels in (
        ("shuffled_labels", shuffle_labels(case.labels, shuffle)),
        ("shuffled_taxonomy", shuffle_taxonomy(case.labels, n_classes, shuffle)),
    ):
        control = score_one(case.z, case.labels, case.taxonomy, basis=basis, seed=shuffle)
        as_sae = score_one(case.z, labels, case.taxonomy, basis="sae")
        assert repr(own_numbers(control.layer)) == repr(own_numbers(as_sae.layer))
        pairs = as_sae.nodes.columns()
        keys = list(zip(pairs["latent"].tolist(), pairs["node"].tolist(), strict=True))
        best = {}
        for place, (_, node) in enumerate(keys):
            if pairs["f1"][place] > 0 and (node not in best or pairs["f1"][place] > pairs["f1"][best[node]]):
                best[node] = place  # pairs ascend by latent: the first of equals stays
        at = sorted(best.values())
        for name, values in control.nodes.columns().items():
            np.testing.assert_array_equal(values, pairs[name][at], err_msg=name)


@examples(25)
@given(seed=seeds, shuffle=st.integers(0, 1000))
def test_the_shuffled_taxonomy_is_the_tree_with_its_classes_moved(random_case, seed, shuffle):
    """Moving the rows of the closure instead of the labels gives the same scores: that is what the control means."""
    case = random_case(seed)
    n_classes = len(case.taxonomy.classes)
    place_of = class_places(np.bincount(case.labels, minlength=n_classes) > 0, shuffle)
    assert sorted(place_of) == list(range(n_classes))
    moved = case.taxonomy.closure.toarray()[place_of]
    control = score_one(case.z, case.labels, case.taxonomy, basis="shuffled_taxonomy", seed=shuffle)
    nodes = control.nodes
    under = moved[case.labels] > 0
    np.testing.assert_array_equal(nodes.n_images, under.sum(axis=0)[nodes.node])
    for place, (latent, node) in enumerate(zip(nodes.latent, nodes.node, strict=True)):
        assert nodes.f1[place] == pytest.approx(f1_score(under[:, node], case.dense[:, latent] > 0), abs=1e-12)
    np.testing.assert_array_equal(moved.sum(axis=0), case.taxonomy.closure.toarray().sum(axis=0))


@examples(15)
@given(seed=seeds, factor=st.sampled_from([2.0**-40, 0.5, 4.0, 2.0**60]))
def test_a_latents_scale_changes_no_score_of_it(random_case, seed, factor):
    """Powers of two round nothing: all that is no activation, and no threshold, stays as it was to the last bit."""
    case = random_case(seed)
    scaled = dataclasses.replace(case, z=sp.csr_array(case.dense * np.float32(factor)))
    before, after = (score_all(c.z, c.labels, c.taxonomy, c.neurons)[0] for c in (case, scaled))
    assert repr(before.layer) == repr(after.layer)
    own_unit = {"mean_inside", "mean_outside", "best_threshold", "mean_activation", "max_activation", "top_activations"}
    for table in ("nodes", "latents"):
        left, right = (getattr(result, table).columns() for result in (before, after))
        for name, values in left.items():
            if name in own_unit:
                np.testing.assert_array_equal(values * factor, right[name], err_msg=name)
            else:
                np.testing.assert_array_equal(values, right[name], err_msg=name)


@examples(25)
@given(seed=seeds, value=st.sampled_from([np.nan, np.inf, -np.inf, -1.0]))
def test_one_bad_value_anywhere_is_refused(random_case, seed, value):
    """In the latents, whatever it is; among the neurons and the embeddings what is not finite."""
    case = random_case(seed)
    rng = np.random.default_rng(seed)
    spoilt = case.dense.copy()
    spoilt[rng.integers(spoilt.shape[0]), rng.integers(spoilt.shape[1])] = value
    with pytest.raises(UserError, match="NaN|infinite|negative"):
        score_all(sp.csr_array(spoilt), case.labels, case.taxonomy, case.neurons)
    if value == -1.0:
        return
    neurons = case.neurons.copy()
    neurons[rng.integers(neurons.shape[0]), rng.integers(neurons.shape[1])] = value
    with pytest.raises(UserError, match="NaN|infinite"):
        score_all(case.z, case.labels, case.taxonomy, neurons)
    with pytest.raises(UserError, match="NaN|infinite"):
        score_all(case.z, case.labels, case.taxonomy, case.neurons, embeddings=neurons)
