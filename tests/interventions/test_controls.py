"""Controls: matched random latents, neurons, directions, and LEACE by what it promises."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.linear_model import LinearRegression

from hsae.errors import UserError
from hsae.interventions.choice import LatentUse, best_latents, labelled_latents
from hsae.interventions.controls import leace, projection, random_latents
from hsae.interventions.edits import VisitedRows


def rows(n=300, d=9, seed=0, *, rank=None):
    rng = np.random.default_rng(seed)
    inside = rng.random(n) < 0.3
    x = rng.normal(0, 1, (n, d)) @ rng.normal(0, 1, (d, d))
    if rank is not None:
        x = x[:, :rank] @ rng.normal(0, 1, (rank, d))
    x[inside] += x.std() * rng.normal(0, 1, d) if rank is None else x[0]
    return x.astype(np.float32), inside


def applied(taken, x, gamma=0.0):
    edit = taken.edit(gamma, torch.device("cpu"))
    return x + edit.change(VisitedRows(torch.from_numpy(x))).numpy()


@pytest.mark.parametrize("rank", [None, 4])
def test_leace_leaves_nothing_to_a_linear_probe_and_moves_no_more_than_it_must(rank):
    x, inside = rows(rank=rank)
    taken = leace(x.astype(np.float64), inside)
    edited = applied(taken, x).astype(np.float64)
    concept = inside.astype(float)
    assert np.abs((edited - edited.mean(0)).T @ (concept - concept.mean())).max() / len(x) < 1e-4 * x.std()
    assert LinearRegression().fit(edited, concept).score(edited, concept) < 1e-4
    np.testing.assert_allclose(edited.mean(0), x.mean(0), atol=1e-4)
    # Class means differ no more; among the affine maps that do so, others move the rows further.
    np.testing.assert_allclose(edited[inside].mean(0), edited[~inside].mean(0), atol=1e-3)
    moved = ((edited - x) ** 2).sum()
    difference = projection("class_mean", x, inside, 1, "node")
    assert moved <= ((applied(difference, x) - x) ** 2).sum() * (1 + 1e-6)
    # The definition, with matrices.
    exact = x.astype(np.float64)
    centred = exact - exact.mean(0)
    sigma = centred.T @ centred / len(x)
    values, vectors = np.linalg.eigh(sigma)
    kept = values > 1e-10 * values.max()
    whiten = vectors[:, kept] @ np.diag(values[kept] ** -0.5) @ vectors[:, kept].T
    cross = centred.T @ (concept - concept.mean()) / len(x)
    column = (whiten @ cross)[:, None]
    slow = exact - centred @ (np.linalg.pinv(whiten) @ column @ np.linalg.pinv(column) @ whiten).T
    np.testing.assert_allclose(edited, slow, atol=2e-3)


def test_leace_is_that_of_the_package():
    package = pytest.importorskip("concept_erasure", reason="the extra leace is not installed")
    x, inside = rows()
    fitter = package.LeaceFitter(x.shape[1], 1, dtype=torch.float64, shrinkage=False, constrain_cov_trace=False)
    fitter.update(torch.from_numpy(x).double(), torch.from_numpy(inside).double()[:, None])
    expected = fitter.eraser(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(applied(leace(x.astype(np.float64), inside), x), expected, atol=1e-3)


def test_directions_take_their_own_projection_away():
    x, inside = rows()
    difference = x[inside].mean(0) - x[~inside].mean(0)
    unit = difference / np.linalg.norm(difference)
    edited = applied(projection("class_mean", x, inside, 1, "node"), x)
    np.testing.assert_allclose((edited - x.mean(0)) @ unit, 0, atol=1e-4)
    halved = applied(projection("class_mean", x, inside, 1, "node"), x, 0.5)
    np.testing.assert_allclose((halved - x.mean(0)) @ unit, (x - x.mean(0)) @ unit / 2, atol=1e-4)
    neurons = projection("neurons", x, inside, 3, "node")
    apart = np.abs(x[inside].mean(0) - x[~inside].mean(0)) / x.std(0)
    assert set(np.flatnonzero(neurons.read.sum(0))) == set(np.argsort(-apart)[:3])
    edited = applied(neurons, x)
    np.testing.assert_allclose(
        edited[:, np.argsort(-apart)[:3]], np.tile(x.mean(0)[np.argsort(-apart)[:3]], (300, 1)), atol=1e-4
    )
    np.testing.assert_allclose(edited[:, np.argsort(-apart)[3:]], x[:, np.argsort(-apart)[3:]], atol=1e-5)
    probe = projection("probe", x, inside, 1, "node").read[0]
    fitted = LinearRegression().fit(x, inside).coef_
    assert probe @ fitted / np.linalg.norm(fitted) > 0.98


def test_a_control_needs_images_inside_and_outside():
    x, inside = rows()
    with pytest.raises(UserError, match="all images that train are outside node"):
        projection("leace", x, inside & False, 1, "node")
    with pytest.raises(UserError, match="all images that train are inside node"):
        projection("probe", x, inside | True, 1, "node")


def random_use(seed, n=200, n_latents=60):
    rng = np.random.default_rng(seed)
    density = rng.random(n_latents) ** 3
    density[:5] = 0
    z = (
        (rng.random((n, n_latents)) < density)
        * rng.exponential(1, (n, n_latents))
        * np.exp(rng.normal(0, 1, n_latents))
    )
    inside = rng.random(n) < 0.2
    return LatentUse.of(sparse.csr_array(z.astype(np.float32)), inside), z, inside


def test_the_use_of_latents_is_their_means():
    use, z, inside = random_use(0)
    np.testing.assert_allclose(use.inside, z[inside].mean(0), rtol=1e-5)
    np.testing.assert_allclose(use.outside, z[~inside].mean(0), rtol=1e-5)
    np.testing.assert_allclose(use.density_outside, (z[~inside] > 0).mean(0))
    np.testing.assert_allclose(use.density, (z > 0).mean(0))
    fired = [column[column > 0].mean() if (column > 0).any() else 0 for column in z.T]
    np.testing.assert_allclose(use.typical, fired, rtol=1e-5)
    whole = (use.inside.mean() + use.outside.mean()) / 2
    np.testing.assert_allclose(use.selectivity(), use.inside / (use.outside + whole))


def test_random_latents_fire_as_often_and_are_others():
    use, *_ = random_use(1)
    chosen = np.flatnonzero((use.density > 0.1) & (use.density < 0.4))[:4]
    drawn = [random_latents(chosen, use, np.ones(60), seed) for seed in range(20)]
    for found in drawn:
        assert len(set(found.tolist())) == 4
        assert not set(found.tolist()) & set(chosen.tolist())
        assert (use.density[found] > 0).all()
    assert len({tuple(found) for found in drawn}) > 5
    assert np.array_equal(drawn[3], random_latents(chosen, use, np.ones(60), 3))
    apart = np.mean([abs(np.log(use.density[f]).mean() - np.log(use.density[chosen]).mean()) for f in drawn])
    anything = np.abs(np.log(use.density[use.density > 0])[:, None] - np.log(use.density[chosen]).mean()).mean()
    assert apart < anything / 2
    with pytest.raises(UserError, match="random latents are asked for, and only"):
        random_latents(np.arange(40), use, np.ones(60), 0)


def test_what_fires_everywhere_is_not_chosen():
    z = np.zeros((10, 4), np.float32)
    inside = np.arange(10) < 3
    z[:, 0] = 5  # everywhere
    z[:3, 1] = 1  # inside alone
    z[:5, 2] = 1  # some outside
    use = LatentUse.of(sparse.csr_array(z), inside)
    found = best_latents(use.selectivity(), use, "bird.n.01", n_latents=3, max_density=0.5)
    assert found.tolist() == [1, 2]
    assert best_latents(use.selectivity(), use, "bird.n.01", n_latents=1, max_density=0.5).tolist() == [1]
    nothing = LatentUse.of(sparse.csr_array(np.zeros((10, 4), np.float32)), inside)
    with pytest.raises(UserError, match="bird.n.01 has no latent: none that fires on its images"):
        best_latents(nothing.selectivity(), nothing, "bird.n.01", n_latents=3, max_density=0.5)
    assert labelled_latents([(7, True), (2, False), (5, True), (1, True)], "bird.n.01", 2).tolist() == [5, 7]
    with pytest.raises(UserError, match="bird.n.01 has no latent: no label of this SAE is at or under it"):
        labelled_latents([(7, False)], "bird.n.01", 2)
