"""Families: refinement, correlation and how similar siblings are, beside random clusters of the same densities."""

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from tests.examples import examples
from tests.hierarchy.latent_hierarchy.edge_cases import (
    hierarchy,
    nested_activations,
    random_best,
    ranked_of,
    slow_spearman,
)

from hsae.hierarchy.kernels import blocks

seeds = st.integers(0, 2**32 - 1)
N_RANDOM, SEED = 5, 3


def slow_mean_images(fires, embeddings):
    """Of every latent the direction from the mean of all unit embeddings to that of its images; None without one."""
    unit = np.array([e / np.linalg.norm(e) if e.any() else e for e in embeddings.astype(np.float64)])
    centre = unit.mean(axis=0)
    means = [unit[on].mean(axis=0) - centre if on.any() else np.zeros(len(centre)) for on in fires.T]
    return [mean / np.linalg.norm(mean) if np.linalg.norm(mean) > 1e-6 else None for mean in means]


def slow_similarity(units, members):
    known = [units[j] for j in members if units[j] is not None]
    cosines = [known[a] @ known[b] for a in range(len(known)) for b in range(a)]
    return np.mean(cosines) if cosines else math.nan


def slow_clusters(n_fire, members):
    """Of every stratum of firings the first latents of its permutations, as many as there are members in it."""
    stratum = [int(n).bit_length() for n in n_fire]
    clusters = [[] for _ in range(N_RANDOM)]
    for s in sorted({stratum[j] for j in members}):
        of_stratum = np.array([j for j in range(len(n_fire)) if stratum[j] == s])
        rng = np.random.Generator(np.random.PCG64((SEED, s)))
        permuted = rng.permuted(np.tile(of_stratum, (N_RANDOM, 1)), axis=1)
        for cluster, row in zip(clusters, permuted.tolist(), strict=True):
            cluster += row[: sum(stratum[j] == s for j in members)]
    return clusters


@examples(50)
@given(
    seed=seeds,
    width=st.sampled_from([1, 20, 1 << 22]),
    threshold=st.sampled_from([0.0, 0.5]),
    is_held_out=st.booleans(),
)
def test_families_equal_loops_over_the_images(random_taxonomy, seed, width, threshold, is_held_out):
    """Parents that are silent or dead on the scored images, children without a direction, ties, single children."""
    rng = np.random.default_rng(seed)
    taxonomy, dense = random_taxonomy(rng), nested_activations(rng)
    is_scored = rng.random(len(dense)) < 0.5
    is_scored[0] = True
    select, score = (dense[~is_scored], dense[is_scored]) if is_held_out and not is_scored.all() else (dense, dense)
    n_latents = dense.shape[1]
    n_fire = (select > threshold).sum(axis=0)
    best, f1 = random_best(rng, len(taxonomy.synsets), n_fire)
    decoder = rng.integers(-1, 2, (n_latents, 3)).astype(np.float32)
    embeddings = rng.integers(-1, 2, (len(score), 4)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_BLOCK_NONZEROS", width)
        edges, families = hierarchy(
            ranked_of(select, threshold),
            taxonomy,
            best,
            f1,
            monosemanticity=rng.choice([0.1, 0.2, 0.3, np.nan], n_latents),
            decoder=decoder,
            embeddings=embeddings,
            scored=ranked_of(score, threshold),
            seed=SEED,
            min_fire=2,
            n_random=N_RANDOM,
        )
    children = defaultdict(list)
    for source, p, c in zip(edges.source.tolist(), edges.parent.tolist(), edges.child.tolist(), strict=True):
        children[source, p].append(c)
    assert list(zip(families.source.tolist(), families.parent.tolist(), strict=True)) == list(children)
    kept = np.where(score > threshold, score, 0).astype(np.float64)
    fires = kept > 0
    units = {
        "decoder": [w / max(np.linalg.norm(w), 1e-30) for w in decoder.astype(np.float64)],
        "images": slow_mean_images(fires, embeddings),
    }
    for row, ((source, p), below) in enumerate(children.items()):
        of_family = (edges.source == source) & (edges.parent == p)
        on, any_child = fires[:, p], fires[:, below].any(axis=1)
        abstract = edges.is_ms_abstract[of_family]
        known = abstract[~np.isnan(abstract)]
        found = {name: values[row] for name, values in families.columns().items()}
        for name, value in {
            "n_children": len(below),
            "n_confirmed": edges.is_confirmed[of_family].sum(),
            "n_parent": on.sum(),
            "n_any_child": any_child.sum(),
            "refinement": any_child[on].mean() if on.any() else math.nan,  # type: ignore[index]
            "correlation": slow_spearman(kept[any_child, p], kept[any_child][:, below].max(axis=1)),
            "ms_abstract_share": known.mean() if len(known) else math.nan,
        }.items():
            assert found[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
        for name, unit in units.items():
            similarity = slow_similarity(unit, below)
            assert found[f"sibling_similarity_{name}"] == pytest.approx(similarity, abs=1e-6, nan_ok=True)
            if math.isnan(similarity):
                assert math.isnan(found[f"random_similarity_{name}"])
                assert math.isnan(found[f"random_share_{name}"])
                continue
            drawn = np.array([slow_similarity(unit, cluster) for cluster in slow_clusters(n_fire, below)])
            drawn = drawn[~np.isnan(drawn)]
            mean = drawn.mean() if len(drawn) else math.nan
            assert found[f"random_similarity_{name}"] == pytest.approx(mean, abs=1e-6, nan_ok=True)
            if len(drawn):
                # Clusters that are as similar on paper differ in the last digit here.
                least, greatest = ((drawn >= similarity + 1e-6 * sign).mean() for sign in (1, -1))
                assert least <= found[f"random_share_{name}"] <= greatest


def test_the_correlation_counts_a_silent_parent_as_zero_where_any_child_fires(make_taxonomy):
    """Images without a child do not count, whatever the parent does there."""
    taxonomy = make_taxonomy([("a", "r"), ("b", "r")], ["a", "b"])
    parent = np.array([9, 9, 9, 0, 0, 1, 2, 3, 4, 5, 6])
    first = np.array([0, 0, 0, 1, 2, 3, 0, 5, 0, 7, 0])
    second = np.array([0, 0, 0, 0, 0, 0, 4, 1, 6, 0, 8])
    node = {synset.id: place for place, synset in enumerate(taxonomy.synsets)}
    best = np.zeros(3, np.int32)
    best[[node["a"], node["b"]]] = (1, 2)
    ranked = ranked_of(np.stack([parent, first, second], axis=1).astype(np.float32))
    _, families = hierarchy(ranked, taxonomy, best, np.ones(3), monosemanticity=np.full(3, np.nan))
    expected = spearmanr(parent[3:], np.maximum(first, second)[3:]).statistic
    np.testing.assert_allclose(families.correlation, expected)
    np.testing.assert_array_equal(families.n_any_child, 8)
    np.testing.assert_allclose(families.refinement, 6 / 9)
    for by in ("decoder", "images"):
        np.testing.assert_array_equal(families.columns()[f"sibling_similarity_{by}"], np.nan)
    np.testing.assert_array_equal(families.ms_abstract_share, np.nan)


def test_random_clusters_depend_on_the_seed_and_the_densities_alone(make_taxonomy):
    """A family's numbers stay as they are, to the bit, when another family comes in."""
    edges = [("a", "r"), ("a1", "a"), ("a2", "a"), ("b", "r"), ("b1", "b"), ("b2", "b"), ("b3", "b")]
    taxonomy = make_taxonomy(edges, ["a1", "a2", "b1", "b2", "b3"])
    names = [synset.id for synset in taxonomy.synsets]
    rng = np.random.default_rng(0)
    ranked = ranked_of(rng.exponential(size=(9, len(names))).astype(np.float32))
    decoder = rng.standard_normal((len(names), 7)).astype(np.float32)
    f1 = np.array([{"r": 0.1, "b": 0.6}.get(name, 0.9) for name in names])

    def rows(**options):
        _, families = hierarchy(
            ranked, taxonomy, np.arange(len(names)), f1, monosemanticity=np.ones(len(names)), decoder=decoder, **options
        )
        return {
            names[families.parent[row]]: {name: values[row] for name, values in families.columns().items()}
            for row in range(len(families.parent))
        }

    def random_similarity(parent, **options):
        return rows(**options)[parent]["random_similarity_decoder"]

    assert sorted(rows()) == ["a", "b"]
    np.testing.assert_equal(rows(min_f1=0.7), {"a": rows()["a"]})
    assert random_similarity("a", seed=1) != random_similarity("a")


def test_siblings_are_compared_with_latents_that_fire_as_often(make_taxonomy):
    """Two rare siblings among rare latents that all write the same way: similar, and no more than chance gives."""
    taxonomy = make_taxonomy([("a", "r"), ("b", "r")], ["a", "b"])
    node = {synset.id: place for place, synset in enumerate(taxonomy.synsets)}
    best = np.zeros(3, np.int32)
    best[[node["a"], node["b"]]] = (1, 2)
    rng = np.random.default_rng(0)
    dense = np.ones((40, 25), np.float32)  # latents 1 to 4 fire on two images each, the others on all
    dense[:, 1:5] = 0
    dense[:8, 1:5] = np.repeat(np.eye(4), 2, axis=0)
    decoder = rng.standard_normal((25, 30)).astype(np.float32)
    decoder[1:5] = decoder[1]
    _, families = hierarchy(ranked_of(dense), taxonomy, best, np.ones(3), monosemanticity=np.ones(25), decoder=decoder)
    np.testing.assert_allclose(families.sibling_similarity_decoder, 1)
    np.testing.assert_allclose(families.random_similarity_decoder, 1)
    np.testing.assert_array_equal(families.random_share_decoder, 1)
