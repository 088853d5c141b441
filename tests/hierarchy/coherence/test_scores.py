import math
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import scipy.sparse as sp

from hsae.hierarchy.coherence import chance
from hsae.hierarchy.coherence.chance import Chances
from hsae.hierarchy.coherence.class_pairs import top_class_pairs
from hsae.hierarchy.coherence.excess import coherence_excess
from hsae.hierarchy.coherence.resnik import resnik_similarity
from hsae.hierarchy.coherence.scores import coherence_scores
from hsae.hierarchy.coherence.tree_permutations import layer_p
from hsae.hierarchy.statistics.label_sets import checked_labels
from hsae.hierarchy.statistics.ranks import rank_activations

OF_COHERENCE = ("coherence", "coherence_excess", "coherence_z", "coherence_p")


def scores(dense, labels, taxonomy, *, seed=0, is_brief=False, chances=None):
    ranked = rank_activations(sp.csr_array(np.asarray(dense, np.float32)))
    n_classes = len(taxonomy.classes)
    labels = checked_labels(labels, ranked.n_images, n_classes)
    null = (chances or Chances(taxonomy, seed)).of(labels)
    latents, layer, weights = coherence_scores(ranked, labels, n_classes, null, is_brief=is_brief)
    if weights is not None:
        (p,) = layer_p([weights], null.resnik, np.bincount(labels, minlength=n_classes), null.keep, null.seed)
        layer = replace(layer, coherence_p=p)
    return latents, layer


def planted_at(taxonomy, labels, names, rng):
    """One latent for each node, of random strength on the images under it."""
    number = {synset.name: node for node, synset in enumerate(taxonomy.synsets)}
    under = taxonomy.closure.toarray()[labels][:, [number[name] for name in names]] > 0
    return under * (1 + rng.random(under.shape))


def test_excess_of_planted_latents_rises_with_depth(planted_case):
    """16 images of the root, of a kingdom or of a group: about 0, then log2(3) and log2(9) less the mean of all."""
    rng = np.random.default_rng(0)
    taxonomy, labels = planted_case.taxonomy, planted_case.labels
    names = ["root", "k0", "k1", "k2", *(f"k{kingdom}g{group}" for kingdom in range(3) for group in range(3))]
    latents, layer = scores(planted_at(taxonomy, labels, names, rng), labels, taxonomy)
    root, kingdoms, groups = latents.coherence_excess[:1], latents.coherence_excess[1:4], latents.coherence_excess[4:]
    assert abs(root[0]) < 0.3
    assert root[0] < kingdoms.min()
    assert kingdoms.max() < groups.min()
    assert groups == pytest.approx(np.log2(9) - layer.coherence_null)
    assert (latents.coherence_p[4:] < 0.02).all()
    assert (latents.lch_excess[4:] > latents.lch_excess[1:4].max()).all()
    assert layer.coherence_p == 0.001
    assert layer.n_coherent == layer.n_lch_eligible == 13
    assert layer.coherence_excess == pytest.approx(latents.coherence_excess.mean())


def test_a_latent_of_one_class_or_of_one_image_is_credited_with_nothing(planted_case):
    """Dead; one image; the images of one class; two images of classes far apart."""
    labels, taxonomy = planted_case.labels, planted_case.taxonomy
    dense = np.zeros((len(labels), 4))
    dense[0, 1] = 1
    dense[labels == 3, 2] = 1
    dense[[0, -1], 3] = 1
    latents, layer = scores(dense, labels, taxonomy)
    for name in OF_COHERENCE:
        assert np.isnan(getattr(latents, name)[:3]).all()
    assert latents.coherence[3] == 0
    assert latents.coherence_excess[3] < 0
    np.testing.assert_equal(latents.purity, [math.nan, math.nan, 1, 0])
    assert np.isnan(latents.lch_excess).all()  # of one class, or of fewer than 16 images
    assert (layer.n_coherent, layer.n_lch_eligible) == (1, 0)


def test_an_exemplar_for_every_image_has_no_coherence(planted_case):
    labels = planted_case.labels
    _, layer = scores(np.eye(len(labels)), labels, planted_case.taxonomy)
    assert layer.n_coherent == layer.n_lch_eligible == 0
    for name in ("coherence", "coherence_excess", "coherence_excess_weighted", "coherence_p", "purity"):
        assert math.isnan(getattr(layer, name))
    assert layer.purity_null == pytest.approx(11 / (27 * 12 - 1))


def test_p_of_the_layer_is_uniform_when_the_tree_is_permuted(planted_case):
    """100 permuted trees, classes of three sizes: at most 5 % below .05, up to the error of a binomial share."""
    rng = np.random.default_rng(1)
    taxonomy = planted_case.taxonomy
    names = [synset.name for synset in taxonomy.synsets if synset.name != "root"]
    labels = np.repeat(np.arange(27), rng.permutation(np.repeat([8, 12, 16], 9)))
    dense = planted_at(taxonomy, labels, names, rng) * (rng.random((len(labels), len(names))) < 0.4)
    chances = Chances(taxonomy, seed=0)
    each = []
    for _ in range(100):
        places = rng.permutation(27)
        each.append(scores(dense, places[labels], taxonomy, chances=chances)[1].coherence_p)
    p = np.array(each)
    assert (p <= 0.05).sum() <= 11  # P(X > 11) < 0.5 % for 100 draws at 5 %
    assert (p >= 0.95).sum() <= 11
    assert 0.4 < p.mean() < 0.6


def test_shuffled_bases_have_no_p_and_else_the_same(planted_case):
    given = planted_case.dense, planted_case.labels, planted_case.taxonomy
    latents, layer = scores(*given)
    shuffled, layer_shuffled = scores(*given, is_brief=True)
    assert np.isnan(shuffled.coherence_p).all()
    assert np.isnan(shuffled.coherence_z).all()
    np.testing.assert_array_equal(shuffled.coherence, latents.coherence)
    assert math.isnan(layer_shuffled.coherence_p)
    assert {**asdict(layer_shuffled), "coherence_p": layer.coherence_p} == asdict(layer)


def test_the_layer_is_what_intervals_compute_with_all_classes(planted_case):
    _, layer = scores(planted_case.dense, planted_case.labels, planted_case.taxonomy)
    ranked = rank_activations(planted_case.z)
    pairs = top_class_pairs(ranked.top_images, planted_case.labels, resnik_similarity(planted_case.taxonomy))
    uniform, weighted = coherence_excess(pairs, np.ones(27, bool), ranked.n_fire)
    assert layer.coherence_excess == pytest.approx(uniform)
    assert layer.coherence_excess_weighted == pytest.approx(weighted)


def test_data_sets_of_two_classes_have_purity_alone(make_taxonomy):
    taxonomy = make_taxonomy([("a", "root"), ("b", "root")], ["a", "b"])
    latents, layer = scores(np.ones((40, 2)), np.arange(40) % 2, taxonomy)
    for field in fields(latents):
        assert np.isnan(getattr(latents, field.name)).all() == (not field.name.startswith("purity"))
    assert math.isnan(layer.coherence_excess)
    assert math.isnan(layer.lch_excess_mean)
    assert layer.n_coherent == 0
    assert layer.purity == pytest.approx(56 / 120 * 1.0)


def test_classes_without_scored_images_are_not_permuted(planted_case):
    """Of the nine classes of one kingdom only, the null mean is that of a kingdom, not of the tree."""
    inside = planted_case.labels < 9
    _, layer = scores(planted_case.dense[inside], planted_case.labels[inside], planted_case.taxonomy)
    assert layer.coherence_null == pytest.approx(np.log2(3) * 6 / 8 + np.log2(9) * 2 / 8)


def test_what_stays_undefined_is_said(planted_case, make_taxonomy, monkeypatch, caplog):
    two = make_taxonomy([("a", "root"), ("b", "root")], ["a", "b"])
    scores(np.ones((4, 1)), np.arange(4) % 2, two)
    assert "coherence and LCH excess stay undefined: 2 classes have scored images, and it takes 3" in caplog.text
    monkeypatch.setattr(chance, "MAX_CLASSES", 26)
    latents, layer = scores(planted_case.dense, planted_case.labels, planted_case.taxonomy)
    assert "coherence and LCH excess stay undefined: 27 classes, and at most 26 fit memory" in caplog.text
    assert np.isnan(latents.coherence).all()
    assert layer.n_lch_eligible == 0
    assert layer.purity > layer.purity_null
