"""The images most similar to one by their latents, beside an obvious reference."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.coherence.resnik import resnik_similarity
from hsae.hierarchy.probes import similar_images as module
from hsae.hierarchy.probes.similar_images import Agreement, Relatives, similar_by_activations, similar_by_latents
from hsae.taxonomy import induce, load_taxonomy


@examples(80)
@given(seed=st.integers(0, 1 << 30))
def test_the_search_is_that_of_a_loop_over_all_images(seed):
    """Small whole numbers: many images tie, and many are silent."""
    rng = np.random.default_rng(seed)
    n_images, n_latents, k = int(rng.integers(1, 25)), int(rng.integers(1, 6)), int(rng.integers(1, 30))
    z = (rng.integers(0, 4, (n_images, n_latents)) * (rng.random((n_images, n_latents)) < 0.4)).astype(np.float32)
    own = int(rng.integers(n_images))
    z[own, rng.integers(n_latents)] = 2
    stored = sp.csr_array(z)
    stored.data[rng.random(stored.nnz) < 0.1] = 0  # zeros may be stored
    z = stored.toarray()
    if not z[own].any():
        with pytest.raises(UserError, match="no latent fires on the image"):
            similar_by_latents(z[own], stored, k, own_row=own)
        return
    expected = []
    for image in range(n_images):
        terms = {j: float(z[own, j]) * float(z[image, j]) for j in range(n_latents) if z[own, j] * z[image, j] > 0}
        if image != own and terms:
            cosine = sum(terms.values()) / (np.linalg.norm(z[own]) * np.linalg.norm(z[image]))
            shares = sorted(((-term / sum(terms.values()), j) for j, term in terms.items()))
            expected.append((-round(float(cosine), 6), image, shares))
    expected.sort(key=lambda each: each[:2])
    found, carried = similar_by_latents(z[own], stored, k, own_row=own)
    assert found.rows.tolist() == [image for _, image, _ in expected[:k]]
    np.testing.assert_allclose(found.similarity, [-cosine for cosine, _, _ in expected[:k]], atol=1e-6)
    for each, (_, _, shares) in zip(carried, expected[:k], strict=True):
        assert each.latents.tolist() == [j for _, j in shares]
        np.testing.assert_allclose(each.shares, [-share for share, _ in shares], rtol=1e-12)
        assert each.shares.sum() == pytest.approx(1)


def test_an_image_of_anybody_may_be_one_of_the_candidates():
    z = sp.csr_array(np.array([[1, 2, 0], [0, 0, 5], [2, 4, 0], [0, 0, 0]], np.float32))
    found, carried = similar_by_latents(np.array([1.0, 2.0, 0.0]), z, 9)
    assert found.rows.tolist() == [0, 2]
    assert found.similarity.tolist() == [1, 1]
    assert carried[0].latents.tolist() == [1, 0]
    assert carried[1].shares.tolist() == [0.8, 0.2]
    with pytest.raises(UserError, match="no latent fires on the image"):
        similar_by_latents(np.zeros(3), z, 1)
    with pytest.raises(UserError, match="0 similar images were asked for: ask for at least 1"):
        similar_by_latents(np.ones(3), z, 0)


@examples(40)
@given(seed=st.integers(0, 1 << 30))
def test_activations_are_compared_less_their_mean(seed):
    """Rows that tie, and rows equal to the mean; in blocks of 4."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (int(rng.integers(2, 20)), 2)).astype(np.float32)
    x[1::2] = -x[: len(x) // 2 * 2 : 2]  # the mean is 0, or nearly
    own = int(rng.integers(len(x)))
    k = int(rng.integers(1, 25))
    mean = x.mean(0, dtype=np.float64)
    with pytest.MonkeyPatch.context() as small:
        small.setattr(module, "_BLOCK_ROWS", 4)
        found = similar_by_activations(x[own], x, k, own_row=own)
    expected = []
    for row in range(len(x)):
        length = np.linalg.norm(x[row] - mean) * np.linalg.norm(x[own] - mean)
        cosine = round(float((x[row] - mean) @ (x[own] - mean) / length), 12) if length > 0 else 0.0
        expected += [(-cosine, row)] if row != own else []
    np.testing.assert_allclose(found.similarity, [-cosine for cosine, _ in sorted(expected)][:k], atol=2e-12)
    assert len({*found.rows.tolist()}) == min(k, len(x) - 1)
    assert own not in found.rows
    pairs = [*zip((-found.similarity).tolist(), found.rows.tolist(), strict=True)]
    assert pairs == sorted(pairs)


@pytest.fixture
def taxonomy(tmp_path):
    """A class may be above another one: `dog` and `puppy` are both classes."""
    edges = [("animal", "thing"), ("dog", "animal"), ("cat", "animal"), ("puppy", "dog"), ("car", "thing")]
    path = tmp_path / "tree.csv"
    path.write_text("child,parent\n" + "".join(f"{child},{parent}\n" for child, parent in edges))
    return induce(load_taxonomy(path), ["dog", "cat", "puppy", "car"])


def test_what_classes_have_in_common(taxonomy):
    names = [taxonomy.synsets[node].name for node in taxonomy.classes.tolist()]
    resnik = resnik_similarity(taxonomy)
    labels = np.array([names.index(name) for name in ("dog", "puppy", "cat", "car", "dog", "puppy")])
    for row, label in enumerate(labels.tolist()):
        relatives = Relatives.of(labels, taxonomy, row)
        assert relatives.same_class.tolist() == (labels == label).tolist()
        others = labels != label
        np.testing.assert_array_equal(relatives.bits[others], resnik.of(label, labels[others]))
    dog = Relatives.of(labels, taxonomy, 0)  # 4 classes: 2 at or under dog, 3 under animal
    assert dog.bits == pytest.approx([1, 1, np.log2(4 / 3), 0, 1, 1])
    assert Relatives.of(labels, taxonomy, 1).bits[[1, 5]].tolist() == [2, 2]
    assert Agreement.of(dog, np.array([1, 4])) == Agreement(2, 0.5, 1.0)
    assert Agreement.of(dog, np.array([], np.int64)) == Agreement(0, None, None)


def test_of_images_with_several_classes_the_most_special_one_counts(taxonomy):
    names = [taxonomy.synsets[node].name for node in taxonomy.classes.tolist()]
    sets = [("dog", "car"), ("car",), ("puppy", "cat"), ("cat",)]
    labels = sp.csr_array(np.array([[name in one for name in names] for one in sets]))
    relatives = Relatives.of(labels, taxonomy, 0)
    assert relatives.same_class.tolist() == [True, True, False, False]
    assert relatives.bits == pytest.approx([2, 2, 1, np.log2(4 / 3)])
