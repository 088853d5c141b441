import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.kernels import blocks
from hsae.hierarchy.statistics.class_sums import ClassSums, sum_by_class
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)


def assert_same_sums(left: ClassSums, right: ClassSums) -> None:
    for name, values in left.to_arrays().items():
        assert values.dtype == right.to_arrays()[name].dtype, name
        np.testing.assert_array_equal(values, right.to_arrays()[name], err_msg=name)


def twice_rank_sums(sums: ClassSums, latents: slice) -> np.ndarray:
    """Sums of doubled mid-ranks over all images of each class, zeros included, `[n_latents, n_classes]`."""
    entries, row = sums.entries(latents)
    n_zero = sums.n_images - sums.n_nonzero[latents]
    found = (n_zero[:, np.newaxis] + 1) * sums.class_sizes
    found[row, sums.classes[entries]] += sums.rank_excess[entries]
    return found


@examples(60)
@given(seed=seeds, threshold=st.sampled_from([0.0, 0.5, 1.0]))
def test_ranks_equal_scipys(random_case, seed, threshold):
    case = random_case(seed)
    ranked = rank_activations(case.z, threshold=threshold, n_top=4)
    for latent in range(case.dense.shape[1]):
        column = case.dense[:, latent]
        mine = slice(ranked.indptr[latent], ranked.indptr[latent + 1])
        images = np.flatnonzero(column)
        np.testing.assert_array_equal(ranked.image[mine], images)
        np.testing.assert_array_equal(ranked.activation[mine], column[images])
        n_zero = len(column) - len(images)
        expected = 2 * rankdata(column)
        np.testing.assert_array_equal(ranked.rank_excess[mine] + n_zero + 1, expected[images])
        _, sizes = np.unique(column, return_counts=True)
        assert ranked.tie_term[latent] == sum(int(t) ** 3 - int(t) for t in sizes)
        firing = [image for image in images if column[image] > threshold]
        assert ranked.n_fire[latent] == len(firing)
        assert ranked.fire_mass[latent] == pytest.approx(sum(float(column[i]) for i in firing), rel=1e-12)
        strongest = sorted(firing, key=lambda image: (-column[image], image))[:4]
        padding = [-1] * (4 - len(strongest))
        assert ranked.top_images[latent].tolist() == strongest + padding
        np.testing.assert_array_equal(ranked.top_activations[latent][: len(strongest)], column[strongest])
        assert not ranked.top_activations[latent][len(strongest) :].any()


@examples(60)
@given(seed=seeds, threshold=st.sampled_from([0.0, 0.5, 1.0]))
def test_class_sums_equal_loops(random_case, seed, threshold):
    case = random_case(seed)
    n_classes = len(case.taxonomy.classes)
    sums = sum_by_class(rank_activations(case.z, threshold=threshold), case.labels, n_classes)
    n_fire = np.zeros((case.dense.shape[1], n_classes), np.int64)
    mass = np.zeros(n_fire.shape)
    twice_ranks = np.zeros(n_fire.shape, np.int64)
    for latent in range(case.dense.shape[1]):
        column = case.dense[:, latent]
        twice = (2 * rankdata(column)).astype(np.int64)
        for image, label in enumerate(case.labels):
            n_fire[latent, label] += column[image] > threshold
            mass[latent, label] += column[image]
            twice_ranks[latent, label] += twice[image]
    everything = slice(0, sums.n_latents)
    entries, row = sums.entries(everything)
    for name, expected in (("n_fire", n_fire), ("mass", mass)):
        got = np.zeros(expected.shape)
        got[row, sums.classes[entries]] = getattr(sums, name)[entries]
        np.testing.assert_array_equal(got, expected)
    assert twice_rank_sums(sums, everything).dtype == np.int64
    np.testing.assert_array_equal(twice_rank_sums(sums, everything), twice_ranks)
    np.testing.assert_array_equal(twice_rank_sums(sums, slice(1, 3)), twice_ranks[1:3])
    np.testing.assert_array_equal(sums.latent_fire_counts(), n_fire.sum(axis=1))
    np.testing.assert_array_equal(sums.class_sizes, np.bincount(case.labels, minlength=n_classes))
    assert_same_sums(sums, ClassSums.from_arrays(sums.to_arrays()))


def test_blocks_change_nothing(random_case, monkeypatch):
    case = random_case(7)
    n_classes = len(case.taxonomy.classes)
    whole = rank_activations(case.z)
    whole_sums = sum_by_class(whole, case.labels, n_classes)
    monkeypatch.setattr(blocks, "_BLOCK_NONZEROS", 3)
    cut = rank_activations(case.z)
    for name in ("indptr", "image", "activation", "rank_excess", "tie_term", "n_fire", "top_images"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(cut, name), err_msg=name)
    assert_same_sums(whole_sums, sum_by_class(cut, case.labels, n_classes))


def test_stored_zeros_and_unsorted_indices_change_nothing():
    tidy = sp.csr_array(np.array([[0, 2, 0, 1], [3, 0, 0, 0], [0, 0, 0, 2]], np.float32))
    untidy = sp.csr_array(
        (
            np.array([1, 0, 2, 3, -0.0, 2], np.float32),
            np.array([3, 0, 1, 0, 2, 3], np.int32),
            np.array([0, 3, 5, 6], np.int32),
        ),
        shape=(3, 4),
    )
    before = untidy.data.copy()
    labels = np.array([0, 1, 1])
    left, right = (sum_by_class(rank_activations(z), labels, 2) for z in (tidy, untidy))  # type: ignore[arg-type]
    assert_same_sums(left, right)
    np.testing.assert_array_equal(untidy.data, before)


def test_no_activation_at_all():
    sums = sum_by_class(rank_activations(sp.csr_array((4, 3), dtype=np.float32)), np.array([0, 1, 1, 0]), 2)  # type: ignore[arg-type]
    assert len(sums.classes) == 0
    np.testing.assert_array_equal(twice_rank_sums(sums, slice(0, 3)), np.full((3, 2), 2 * 5))


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "NaN"), (np.inf, "infinite"), (-0.5, "negative"), (-np.inf, "infinite")]
)
def test_bad_activations_are_refused(value, message):
    z = sp.csr_array(np.array([[1, 0, 0], [0, 2, 1]], np.float32))
    z.data[2] = value
    with pytest.raises(UserError, match=rf"{message}.*image 1, latent 2"):
        rank_activations(z)


@pytest.mark.parametrize("threshold", [-0.1, np.nan, np.inf])
def test_bad_thresholds_are_refused(threshold):
    with pytest.raises(UserError, match="threshold"):
        rank_activations(sp.csr_array(np.eye(2, dtype=np.float32)), threshold=threshold)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_to_score_is_refused(shape):
    with pytest.raises(UserError, match="nothing to score"):
        rank_activations(sp.csr_array(shape, dtype=np.float32))


def test_other_dtypes_and_forms_are_refused():
    with pytest.raises(TypeError, match="float32"):
        rank_activations(sp.csr_array(np.eye(2)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="CSC"):
        rank_activations(sp.csc_array(np.eye(2, dtype=np.float32)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], "2 labels for the activations of 3 images"),
        ([0, 2, 1], "label 2 of image 1"),
        ([0, -1, 1], "-1"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    ranked = rank_activations(sp.csr_array(np.eye(3, dtype=np.float32)))
    with pytest.raises(UserError, match=message):
        sum_by_class(ranked, np.array(labels), 2)


def test_stored_sums_that_do_not_fit_are_refused():
    arrays = sum_by_class(rank_activations(sp.csr_array(np.eye(3, dtype=np.float32))), np.zeros(3, int), 1).to_arrays()
    with pytest.raises(UserError, match="lack mass"):
        ClassSums.from_arrays({name: values for name, values in arrays.items() if name != "mass"})
    with pytest.raises(UserError, match="do not fit"):
        ClassSums.from_arrays(arrays | {"mass": arrays["mass"][:-1]})
