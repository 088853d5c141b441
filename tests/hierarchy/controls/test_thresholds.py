"""Columns at the SAE's densities against sorting in loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.hierarchy.controls.dense_columns import columns_of, dense_of, some_train_images

from hsae.hierarchy.controls.thresholds import Densities, thresholded, thresholds
from hsae.hierarchy.kernels import blocks

seeds = st.integers(0, 2**32 - 1)


def fired(values, wanted):
    """Indices of the values that fire: the greatest ones, whole groups of ties, at most `wanted` and not all."""
    chosen = []
    for value in sorted(set(values.tolist()), reverse=True):
        group = [i for i, other in enumerate(values) if other == value]
        if len(chosen) + len(group) > min(wanted, len(values) - 1):
            break
        chosen += group
    return sorted(chosen)


@examples(100)
@given(seed=seeds, has_ties=st.booleans())
def test_a_threshold_fires_on_as_many_as_fit(seed, has_ties):
    rng = np.random.default_rng(seed)
    n_columns, n_images = int(rng.integers(1, 6)), int(rng.integers(1, 20))
    values = rng.standard_normal((n_columns, n_images)).astype(np.float32)
    if has_ties:
        values = np.round(values)
    wanted = rng.integers(0, n_images + 3, n_columns)
    cut = thresholds(torch.from_numpy(values), wanted).numpy()
    assert cut.dtype == np.float32
    for column in range(n_columns):
        found = np.flatnonzero(values[column] > cut[column]).tolist()
        assert found == fired(values[column], wanted[column])
        rest = np.delete(values[column], found)
        if found and len(found) == wanted[column]:  # half-way between the two at the cut
            middle = (float(values[column][found].min()) + float(rest.max())) / 2
            assert cut[column] == pytest.approx(middle, rel=1e-6, abs=1e-30)


def test_neighbouring_numbers_are_told_apart():
    below = np.float32(1)
    above = np.nextafter(below, np.float32(2))
    values = np.array([[below, above, 0], [-above, -below, -9]], np.float32)
    cut = thresholds(torch.from_numpy(values), np.array([1, 1])).numpy()
    np.testing.assert_array_equal(values > cut[:, None], [[0, 1, 0], [0, 1, 0]])


@examples(60)
@given(n_alive=st.integers(0, 30), n_dead=st.integers(0, 5), n_columns=st.integers(1, 40), all_fire=st.booleans())
def test_densities_are_given_by_rank(n_alive, n_dead, n_columns, all_fire):
    rng = np.random.default_rng(n_alive)
    n_fire = rng.permutation(np.concatenate([rng.integers(1, 50, n_alive), np.zeros(n_dead, int)]))
    ranked = sorted((int(n) for n in n_fire if n), reverse=True)
    m = n_columns if all_fire else min(n_columns, n_alive)
    expected = [ranked[int((r + 0.5) * n_alive / m)] for r in range(m)] if n_alive else []
    found = Densities.of(n_fire).for_columns(n_columns, all_fire=all_fire)
    assert found.tolist() == expected + [0] * (n_columns - len(expected))
    if n_columns == n_alive + n_dead and not all_fire:
        assert found.tolist() == sorted(n_fire.tolist(), reverse=True), "as many columns: the very densities"


@examples(40)
@given(seed=seeds, width=st.integers(1, 9), in_sample=st.booleans())
def test_columns_above_their_thresholds(random_case, seed, width, in_sample):
    """Against loops over the columns' own values; neither blocks nor their order change anything."""
    case = random_case(seed)
    rng = np.random.default_rng(seed)
    n_images = len(case.labels)
    select = None if in_sample else some_train_images(case, seed)
    score = None if in_sample else some_train_images(case, seed + 1)
    densities = Densities.of(rng.integers(0, n_images + 1, case.z.shape[1]))
    for name, columns in columns_of(case, seed).items():
        if columns.n_columns == 0:
            continue
        n_fire = densities.for_columns(columns.n_columns, all_fire=name == "class_mean")
        parts = (columns, columns) if in_sample else (columns.on(select), columns.on(score))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blocks, "_BLOCK_VALUES", 1)
            patch.setattr(blocks, "_MIN_BLOCK_COLUMNS", width)
            found = thresholded(*parts, n_fire)
        assert (found[0] is found[1]) == in_sample
        for part in found:
            assert part.image.dtype == np.int32
            assert part.activation.dtype == np.float32
            assert (part.activation > 0).all()
            for column in range(columns.n_columns):
                of_column = part.image[part.indptr[column] : part.indptr[column + 1]]
                assert of_column.tolist() == sorted(set(of_column.tolist()))
        on_select, on_score = (dense_of(part) for part in found)
        selected, scored = (np.arange(n_images) if part is None else part for part in (select, score))
        assert (len(on_select), len(on_score)) == (len(selected), len(scored))
        for rank, column in enumerate(columns.order):
            assert len(np.flatnonzero(on_select[:, column])) <= n_fire[rank]
        if name != "untrained":
            continue  # a product of floats may depend on the block; what is stored does not
        for rank, column in enumerate(columns.order):
            values = case.dense[:, column]
            firing = fired(values[selected], n_fire[rank])
            assert np.flatnonzero(on_select[:, column]).tolist() == firing
            rest = np.delete(values[selected], firing)
            if firing and len(firing) == n_fire[rank]:  # the scored images have the threshold of the select images
                cut = (float(values[selected][firing].min()) + float(rest.max())) / 2
                np.testing.assert_allclose(on_score[:, column], np.maximum(values[scored] - cut, 0), rtol=1e-5)
        for part, again in zip((on_select, on_score), thresholded(*parts, n_fire), strict=True):
            np.testing.assert_array_equal(part, dense_of(again))


@examples(20)
@given(seed=seeds)
def test_images_in_both_parts_have_one_activation(random_case, seed):
    """Parts of a data set do not meet, but nothing here may rest on that."""
    case = random_case(seed)
    select, score = some_train_images(case, seed), some_train_images(case, seed + 1)
    both = np.intersect1d(select, score)
    for columns in columns_of(case, seed).values():
        n_fire = Densities.of(np.bincount(case.z.indices, minlength=case.z.shape[1])).for_columns(columns.n_columns)
        parts = thresholded(columns.on(select), columns.on(score), n_fire)
        on_select, on_score = (dense_of(part) for part in parts)
        left, right = on_select[np.isin(select, both)], on_score[np.isin(score, both)]
        np.testing.assert_allclose(left, right, atol=1e-5)  # products of floats may depend on the block


def test_the_number_of_threads_changes_no_bit(planted_case):
    columns = columns_of(planted_case, 3)
    densities = Densities.of(np.bincount(planted_case.z.indices, minlength=planted_case.z.shape[1]))
    before = torch.get_num_threads()

    def everything():
        return {
            name: thresholded(of_name, of_name, densities.for_columns(of_name.n_columns))
            for name, of_name in columns.items()
        }

    try:
        torch.set_num_threads(1)
        alone = everything()
        torch.set_num_threads(4)
        together = everything()
    finally:
        torch.set_num_threads(before)
    for name in columns:
        for left, right in zip(alone[name], together[name], strict=True):
            np.testing.assert_array_equal(left.indptr, right.indptr)
            np.testing.assert_array_equal(left.image, right.image)
            np.testing.assert_array_equal(left.activation, right.activation)


def test_the_densities_of_the_select_images_are_the_saes(planted_case):
    n_images = len(planted_case.labels)
    order = np.random.default_rng(0).permutation(n_images)
    train, select, score = (np.sort(part) for part in np.split(order, [n_images // 2, 3 * n_images // 4]))
    n_fire = np.asarray((planted_case.z[select] > 0).sum(axis=0)).ravel()
    for name, columns in columns_of(planted_case, train=train, select=select).items():
        wanted = Densities.of(n_fire).for_columns(columns.n_columns)
        on_select, on_score = thresholded(columns.on(select), columns.on(score), wanted)
        np.testing.assert_array_equal(np.diff(on_select.indptr)[columns.order], wanted, err_msg=name)
        assert 0.5 < (len(on_score.image) / len(score)) / (len(on_select.image) / len(select)) < 2
