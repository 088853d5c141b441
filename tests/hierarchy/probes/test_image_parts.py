"""Latents are chosen on some images and scored on others: both halves agree with scoring those images alone."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.hierarchy.all_bases import assert_same
from tests.hierarchy.scoring import score_all

from hsae.errors import UserError
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.score_bases import score_bases
from hsae.hierarchy.scored_activations import ImageParts, LabelledImages, SaeActivations
from hsae.hierarchy.scores.node_scores import iter_node_scores
from hsae.hierarchy.statistics.distinct_nodes import distinct_nodes
from hsae.hierarchy.statistics.label_sets import label_sets
from hsae.vocabulary.bases import CONTROL_BASES

seeds = st.integers(0, 2**32 - 1)


def drawn_parts(n_images, seed):
    """Every image in one of the three parts; the selecting and the scored ones are not empty."""
    part = np.random.default_rng(seed).integers(0, 3, n_images)
    part[np.random.default_rng(seed).permutation(n_images)[:2]] = (1, 2)
    return ImageParts(*(np.flatnonzero(part == wanted) for wanted in range(3)))


def run(case, images=slice(None), parts=None, labels=None, **options):
    labels = case.labels if labels is None else labels
    return score_all(
        case.z[images], labels[images], case.taxonomy, case.neurons[images], parts=parts, controls=(), **options
    )


@examples(25)
@given(seed=seeds)
def test_choices_are_those_of_the_selecting_images_and_scores_those_of_the_scored_ones(random_case, seed):
    case = random_case(seed)
    parts = drawn_parts(len(case.labels), seed)
    held_out = run(case, parts=parts, n_shuffles=0)[0]
    chosen = run(case, parts.select, n_shuffles=0)[0]
    scored = run(case, parts.score, n_shuffles=0)[0]

    for name in ("latent", "node", "is_node_best"):
        np.testing.assert_array_equal(getattr(held_out.nodes, name), getattr(chosen.nodes, name), err_msg=name)
    np.testing.assert_array_equal(held_out.latents.label, chosen.latents.label)
    ((_, scores),) = iter_node_scores(scored.class_sums, case.taxonomy.closure)
    at = (held_out.nodes.latent, held_out.nodes.node)
    for name in ("n_both", "n_fire", "n_images", "precision", "recall", "f1", "auroc", "z", "mass_share"):
        np.testing.assert_array_equal(getattr(held_out.nodes, name), getattr(scores, name)[at], err_msg=name)
    label = held_out.latents.label
    expected = np.where(label >= 0, scores.f1[np.arange(len(label)), label], np.nan)
    np.testing.assert_array_equal(held_out.latents.label_f1, expected)

    for name in ("n_fire", "density", "lch", "coverage", "class_entropy", "monosemanticity", "max_activation"):
        np.testing.assert_array_equal(
            getattr(held_out.latents, name), getattr(scored.latents, name), err_msg=name
        )  # fmt: skip
    top = scored.latents.top_images
    np.testing.assert_array_equal(held_out.latents.top_images, np.where(top >= 0, parts.score[top], -1))

    best = np.full(len(case.taxonomy.synsets), -1)
    best[chosen.nodes.node[chosen.nodes.is_node_best]] = chosen.nodes.latent[chosen.nodes.is_node_best]
    labels = case.labels[parts.score]
    counts = distinct_nodes(label_sets(labels, case.taxonomy), labels, case.taxonomy).counts
    p_of_node = {
        node: p
        for node, p in zip(scored.nodes.node.tolist(), scored.nodes.p_node.tolist(), strict=True)
        if not np.isnan(p)
    }
    for node, p in zip(held_out.nodes.node.tolist(), held_out.nodes.p_node.tolist(), strict=True):
        if not np.isnan(p):
            assert p == p_of_node.get(node, 1.0)  # no latent fires on a node that is missing
    f1 = np.array([0.0 if best[v] < 0 else np.nan_to_num(scores.f1[best[v], v]) for v in np.flatnonzero(counts)])
    assert held_out.layer.best_f1_mean == pytest.approx(f1.mean() if len(f1) else np.nan, nan_ok=True, abs=1e-12)


@examples(10)
@given(seed=seeds)
def test_the_sums_for_the_export_are_those_of_all_images(random_case, seed):
    case = random_case(seed)
    held_out = run(case, parts=drawn_parts(len(case.labels), seed), n_shuffles=0)[0].class_sums.to_arrays()
    everything = run(case, n_shuffles=0)[0].class_sums.to_arrays()
    for name, values in everything.items():
        np.testing.assert_array_equal(held_out[name], values, err_msg=name)


@examples(10)
@given(seed=seeds)
def test_parts_of_all_images_are_in_sample(random_case, seed):
    case = random_case(seed)
    every = np.arange(len(case.labels))
    assert_same(
        run(case, parts=ImageParts(every, every, every), n_shuffles=0), run(case, n_shuffles=0)
    )  # fmt: skip


def test_images_with_several_labels_are_divided_as_well(random_case):
    case = random_case(3)
    n_images, n_classes = len(case.labels), len(case.taxonomy.classes)
    has = np.random.default_rng(3).random((n_images, n_classes)) < 0.3
    has[np.arange(n_images), case.labels] = True
    parts = drawn_parts(n_images, 3)
    held_out = run(case, parts=parts, labels=sp.csr_array(has), n_shuffles=1)
    scored = run(case, parts.score, labels=sp.csr_array(has), n_shuffles=1)
    np.testing.assert_array_equal(held_out[0].latents.class_entropy, scored[0].latents.class_entropy)
    assert [result.basis for result in held_out] == ["sae", "shuffled_labels", "shuffled_taxonomy"]


def test_labels_are_shuffled_within_each_part(planted_case):
    parts = drawn_parts(len(planted_case.labels), 5)
    in_sample = run(planted_case, n_shuffles=2)
    held_out = run(planted_case, parts=parts, n_shuffles=2)
    for shuffled, overfitted in zip(held_out[1:3], in_sample[1:3], strict=True):
        assert shuffled.basis == "shuffled_labels"
        # A latent that was chosen by luck is not lucky again.
        assert shuffled.layer.best_f1_mean < 0.7 * overfitted.layer.best_f1_mean
        assert shuffled.layer.n_images == len(parts.score)


@pytest.mark.parametrize(("emptied", "use"), [("select", "to choose latents on"), ("score", "to score on")])
def test_a_part_without_images_is_refused(planted_case, emptied, use):
    every = np.arange(len(planted_case.labels))
    parts = {"train": every, "select": every, "score": every, emptied: every[:0]}
    with pytest.raises(UserError, match=use):
        run(planted_case, parts=ImageParts(**parts))


@examples(8)
@given(seed=seeds)
def test_images_that_only_train_may_come_last_and_without_latents(random_case, seed):
    """As of another data set: the same scores as if every image had latents."""
    case = random_case(seed)
    n_images, n_latents = case.z.shape
    parts = drawn_parts(n_images, seed)
    if len(parts.train) < 2:
        return
    rng = np.random.default_rng(seed)
    decoder = rng.standard_normal((n_latents, case.neurons.shape[1])).astype(np.float32)
    untrained = sp.csr_array(np.maximum(rng.standard_normal((n_images, n_latents)), 0).astype(np.float32))
    embeddings = rng.standard_normal((n_images, 3)).astype(np.float32)
    config = ScoringConfig(controls=CONTROL_BASES, n_shuffles=1, n_random=1, n_replicates=2, n_tree_shuffles=2)

    def score(rows, encoded, parts):
        """`rows` are all images in an order, `encoded` those with latents, which come first."""
        sae = SaeActivations(
            case.z[encoded], case.neurons[rows], decoder, untrained[encoded], None,
            np.zeros(case.neurons.shape[1], np.float32),
        )  # fmt: skip
        return score_bases(sae, LabelledImages(case.labels[rows], case.taxonomy, embeddings[encoded], parts), config)

    everything = np.arange(n_images)
    whole = score(everything, everything, parts)
    encoded = np.sort(np.concatenate((parts.select, parts.score)))
    place = np.empty(n_images, np.int64)
    place[np.concatenate((encoded, parts.train))] = everything
    apart = score(
        np.concatenate((encoded, parts.train)),
        encoded,
        ImageParts(place[parts.train], place[parts.select], place[parts.score]),
    )
    top = apart[0].latents.top_images
    np.testing.assert_array_equal(np.where(top >= 0, encoded[top], -1), whole[0].latents.top_images)
    assert apart[0].class_sums.n_images == len(encoded)
    assert_same(without_places(apart), without_places(whole))
    for name, values in whole[0].absorption.columns().items():
        np.testing.assert_array_equal(apart[0].absorption.columns()[name], values, err_msg=name)


def without_places(results):
    """The results without what depends on the positions of images, or is of all of them."""
    return [
        replace(
            result,
            class_sums=None,
            latents=result.latents and replace(result.latents, top_images=np.zeros(0)),
        )
        for result in results
    ]
