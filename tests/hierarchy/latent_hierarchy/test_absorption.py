"""Absorption: planted cases, and loops over the images as the slow reference."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.latent_hierarchy import absorption as kernel
from hsae.hierarchy.latent_hierarchy.absorption import WrittenImages, node_absorption
from hsae.hierarchy.latent_hierarchy.directions import ImagesUnder, best_threshold

seeds = st.integers(0, 2**32 - 1)


def under_of(labels, taxonomy):
    return ImagesUnder(np.asarray(labels), sp.csc_array(taxonomy.closure))


def slow_direction(inputs, inside):
    """From the mean outside to the mean inside; None without both, or where they are equal."""
    if not inside.any() or inside.all():
        return None
    difference = inputs[inside].mean(axis=0) - inputs[~inside].mean(axis=0)
    return difference / np.linalg.norm(difference) if np.linalg.norm(difference) > 1e-12 else None


def f1_of(positive, inside):
    return 2 * (positive & inside).sum() / (positive.sum() + inside.sum())


def slow_threshold(projection, inside):
    candidates = sorted({value for value in projection.tolist() if value > 0}, reverse=True)
    if not candidates or not inside.any():
        return None
    return max(candidates, key=lambda value: f1_of(projection >= value, inside))  # the first of equals: the greatest


def slow_carrier(activations, decoder, direction, projection):
    """The latent that gives most, if that is enough; -1 otherwise."""
    if projection < 0:
        return slow_carrier(activations, decoder, -direction, -projection)
    given = [(activations[j] * (decoder[j] @ direction), -j) for j in range(len(decoder)) if activations[j] > 0]
    if not given or projection == 0:
        return -1
    most, j = max(given)
    j = -j
    is_enough = most > 0 and most >= 0.4 * projection
    return j if is_enough and decoder[j] @ direction >= 0.025 * np.linalg.norm(decoder[j]) else -1


def slow_row(written, inside, latent, chance):
    """A node's numbers, image by image."""
    inputs, decoder = written.inputs.astype(np.float64), written.decoder.astype(np.float64)
    z = np.where(written.z.toarray() > written.threshold, written.z.toarray(), 0).astype(np.float64)
    row = {"n_images": inside[written.score].sum(), "n_present": 0, "n_silent": 0, "n_absorbed": 0, "carrier": -1}
    row |= {"n_carrier": 0, "silent_share": math.nan, "absorbed_share": math.nan, "random_absorbed_share": math.nan}
    row["latent_f1"] = f1_of(z[written.score, latent] > 0, inside[written.score]) if row["n_images"] else math.nan
    row |= {"direction_threshold": math.nan, "direction_f1_select": math.nan, "direction_f1": math.nan}
    direction = slow_direction(inputs[written.train], inside[written.train])
    if direction is None:
        return row
    along = inputs @ direction
    threshold = slow_threshold(along[written.select], inside[written.select])
    if threshold is None:
        return row
    row["direction_threshold"] = threshold
    row["direction_f1_select"] = f1_of(along[written.select] >= threshold, inside[written.select])
    if inside[written.score].any():
        row["direction_f1"] = f1_of(along[written.score] >= threshold, inside[written.score])
    present = [i for i in written.score if inside[i] and along[i] >= threshold]
    silent = [i for i in present if z[i, latent] == 0]
    carriers = [slow_carrier(z[i], decoder, direction, along[i]) for i in silent]
    carriers = [j for j in carriers if j >= 0]
    by_chance = [sum(slow_carrier(z[i], decoder, random, inputs[i] @ random) >= 0 for i in silent) for random in chance]
    row |= {"n_present": len(present), "n_silent": len(silent), "n_absorbed": len(carriers)}
    if carriers:
        row["carrier"] = max(sorted(set(carriers)), key=carriers.count)
        row["n_carrier"] = carriers.count(row["carrier"])
    if present:
        row["silent_share"] = len(silent) / len(present)
        row["absorbed_share"] = len(carriers) / len(present)
        row["random_absorbed_share"] = np.mean(by_chance) / len(present)
    return row


def random_halves_of(inputs, train, seed):
    rng = np.random.Generator(np.random.PCG64((seed, 0)))
    half, rest = len(train) // 2, len(train) - len(train) // 2
    sign = np.repeat([1.0 / max(half, 1), -1.0 / max(rest, 1)], [half, rest])
    rows = rng.permuted(np.tile(sign, (kernel.N_RANDOM_DIRECTIONS, 1)), axis=1)
    directions = rows @ inputs[train].astype(np.float64)
    return [d / np.linalg.norm(d) if np.linalg.norm(d) > 0 else d for d in directions]


@examples(50)
@given(seed=seeds, threshold=st.sampled_from([0.0, 0.5]), width=st.sampled_from([1, 64]), in_sample=st.booleans())
def test_absorption_equals_a_loop_over_the_images(random_case, seed, threshold, width, in_sample):
    """Dead latents, ties among latents, empty nodes, nodes that hold every image, parts without a class."""
    case, rng = random_case(seed), np.random.default_rng(seed)
    n_images, n_latents = case.dense.shape
    part = rng.integers(0, 3, n_images)
    parts = [np.arange(n_images) if in_sample else np.flatnonzero(part == one) for one in range(3)]
    # Continuous, so that no projection lies at a threshold but for rounding.
    inputs = (case.neurons + rng.standard_normal(case.neurons.shape)).astype(np.float32)
    decoder = rng.standard_normal((n_latents, inputs.shape[1])).astype(np.float32)
    decoder[rng.random(n_latents) < 0.1] = 0
    written = WrittenImages(inputs, case.z, decoder, *parts, threshold=threshold)  # type: ignore[arg-type, misc]
    node = np.arange(len(case.taxonomy.synsets))
    latent = rng.integers(0, n_latents, len(node))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "_BLOCK_NODES", width)
        found = node_absorption(written, under_of(case.labels, case.taxonomy), node, latent, seed=3).columns()
    is_under, chance = case.is_under(), random_halves_of(inputs, parts[0], 3)
    for row in node:
        expected = slow_row(written, is_under[:, row], latent[row], chance)
        assert (found["node"][row], found["latent"][row]) == (row, latent[row])
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, abs=1e-6, nan_ok=True), name


@examples(50)
@given(seed=seeds, n=st.integers(0, 30))
def test_the_threshold_is_the_best_of_all(seed, n):
    """Ties among projections, none above 0, no image inside."""
    rng = np.random.default_rng(seed)
    projection, inside = rng.integers(-3, 4, n) / 2.0, rng.random(n) < 0.4
    found, expected = best_threshold(projection, inside), slow_threshold(projection, inside)
    if expected is None:
        assert np.isnan(found).all()
    else:
        assert found.value == expected
        assert found.f1 == pytest.approx(f1_of(projection >= expected, inside))


@pytest.fixture
def planted(make_taxonomy):
    """A node with three classes beside two other classes; the SAE writes exactly what it reads.

    Latent 0 stands for the node, 1 to 3 for its classes (each writes along the node as well), 4 and 5 for the others.
    """
    edges = [("pet", "root"), ("dog", "pet"), ("cat", "pet"), ("bird", "pet"), ("car", "root"), ("boat", "root")]
    taxonomy = make_taxonomy(edges, ["dog", "cat", "bird", "car", "boat"])
    names = [synset.id for synset in taxonomy.synsets]
    classes = [names[node] for node in taxonomy.classes]
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(5), 60))
    own = np.eye(6, dtype=np.float32)
    latent_of = {"pet": 0, "dog": 1, "cat": 2, "bird": 3, "car": 4, "boat": 5}

    def plant(silent_on=(), absorbs=0.0):
        """The parent is silent on some classes; their latents write `absorbs` along the node's direction, too."""
        decoder = own.copy()
        z = np.zeros((len(labels), 6), np.float32)
        for image, label in enumerate(labels):
            name = classes[label]
            z[image, latent_of[name]] = 2
            z[image, 0] = 2 if name in ("dog", "cat", "bird") and name not in silent_on else 0
        for name in silent_on:
            decoder[latent_of[name], 0] = absorbs
        thirds = [np.arange(part, len(labels), 3) for part in range(3)]
        written = WrittenImages((z @ decoder).astype(np.float32), sp.csr_array(z), decoder, *thirds)  # type: ignore[arg-type]
        under = under_of(labels, taxonomy)
        found = node_absorption(written, under, np.array([names.index("pet")]), np.array([0])).columns()
        n_dogs = int((labels[thirds[2]] == classes.index("dog")).sum())
        return {name: values[0] for name, values in found.items()}, n_dogs

    return plant


def test_a_parent_that_is_silent_where_a_child_carries_its_direction_is_absorbed_there(planted):
    found, n_dogs = planted(silent_on=("dog",), absorbs=1.0)
    assert (found["direction_f1"], found["n_present"]) == (1, found["n_images"])
    assert found["n_silent"] == found["n_absorbed"] == found["n_carrier"] == n_dogs
    assert found["absorbed_share"] == found["silent_share"] == n_dogs / found["n_images"]
    assert found["carrier"] == 1


def test_a_clean_hierarchy_has_no_absorption(planted):
    found, _ = planted()
    assert (found["n_present"], found["n_silent"], found["n_absorbed"]) == (found["n_images"], 0, 0)
    assert found["absorbed_share"] == found["random_absorbed_share"] == 0
    assert found["carrier"] == -1


def test_a_silent_parent_whose_direction_is_missing_is_not_absorbed(planted):
    """The child writes nothing of the node, so the direction is not there and no latent has taken the parent over."""
    found, n_dogs = planted(silent_on=("dog",), absorbs=-2.0)
    assert found["n_present"] == found["n_images"] - n_dogs
    assert (found["n_silent"], found["n_absorbed"]) == (0, 0)


def test_input_that_does_not_fit_is_refused(random_case):
    case = random_case(0)
    n_images, n_latents = case.dense.shape
    everywhere = np.arange(n_images)
    decoder = np.ones((n_latents, case.neurons.shape[1]), np.float32)
    broken = decoder.copy()
    broken[0, 0] = np.inf
    for message, inputs, directions in (
        ("do not fit together", case.neurons[1:], decoder),
        ("do not fit together", case.neurons, decoder[:, 1:]),
        ("decoder directions of the SAE hold NaN", case.neurons, broken),
        ("inputs of the SAE hold NaN", np.full_like(case.neurons, np.nan), decoder),
    ):
        written = WrittenImages(inputs, case.z, directions, everywhere, everywhere, everywhere)
        with pytest.raises(UserError, match=message):
            node_absorption(written, under_of(case.labels, case.taxonomy), np.array([0]), np.array([0]))
