import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.hierarchy.scores import node_scores
from hsae.hierarchy.scores.node_scores import NodeSums, iter_node_scores
from hsae.hierarchy.scores.shortlist import HIGH_F1, N_BEST, node_priority, shortlist
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)


def shortlist_of(case, **options):
    sums = sum_by_class(rank_activations(case.z), case.labels, len(case.taxonomy.classes))
    priority = node_priority(case.taxonomy)
    by_priority = NodeSums(sums, sp.csr_array(case.taxonomy.closure[:, priority]))
    return sums, shortlist(by_priority, priority, **options)


def matrices(case, sums):
    blocks = [scores for _, scores in iter_node_scores(sums, case.taxonomy.closure)]
    return (np.concatenate([getattr(block, name) for block in blocks]) for name in ("f1", "auroc"))


@examples(60)
@given(seed=seeds, width=st.sampled_from([1, 3, 256]))
def test_the_shortlist_equals_sorting_everything(random_case, seed, width):
    case = random_case(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node_scores, "_BLOCK_LATENTS", width)
        sums, chosen = shortlist_of(case)
        _, best_only = shortlist_of(case, everything=False)
    f1, auroc = matrices(case, sums)
    n_latents, n_nodes = f1.shape
    depth = case.taxonomy.depth
    expected = set()
    best_latents = set()
    for latent in range(n_latents):
        order = sorted(range(n_nodes), key=lambda node: (-depth[node], node))
        with_f1 = sorted((n for n in order if f1[latent, n] > 0), key=lambda n: -f1[latent, n])
        tested = [n for n in order if not np.isnan(auroc[latent, n])]
        expected |= {(latent, n) for n in with_f1[:N_BEST]}
        expected |= {(latent, n) for n in sorted(tested, key=lambda n: -auroc[latent, n])[:N_BEST]}
        expected |= {(latent, n) for n in order if f1[latent, n] >= HIGH_F1}
        assert chosen.label[latent] == (with_f1[0] if with_f1 else -1)
    for node in range(n_nodes):
        with_f1 = sorted((j for j in range(n_latents) if f1[j, node] > 0), key=lambda j: -f1[j, node])
        tested = [j for j in range(n_latents) if not np.isnan(auroc[j, node])]
        expected |= {(j, node) for j in with_f1[:N_BEST]}
        expected |= {(j, node) for j in sorted(tested, key=lambda j: -auroc[j, node])[:N_BEST]}
        best_latents |= {(j, node) for j in with_f1[:1]}
        assert chosen.node_best_latent[node] == best_only.node_best_latent[node] == (with_f1[0] if with_f1 else -1)
        if sums.class_sizes[case.taxonomy.closure.toarray()[:, node] > 0].sum() == 0:
            assert np.isnan(chosen.node_best_f1[node])
        else:
            assert chosen.node_best_f1[node] == max((f1[j, node] for j in with_f1), default=0)
    pairs = list(zip(chosen.latents.tolist(), chosen.nodes.tolist(), strict=True))
    assert pairs == sorted(expected)
    assert list(zip(best_only.latents.tolist(), best_only.nodes.tolist(), strict=True)) == sorted(best_latents)


def test_ties_go_to_the_deeper_node_then_the_smaller_id(make_taxonomy):
    """A chain of nodes holds the same images, so that all its scores tie."""
    taxonomy = make_taxonomy(
        [("z_leaf", "chain"), ("chain", "root"), ("other", "root"), ("b", "root"), ("a", "root")],
        ["z_leaf", "other", "a", "b"],
    )
    names = [synset.id for synset in taxonomy.synsets]
    position = {names[node]: place for place, node in enumerate(taxonomy.classes)}
    labels = np.array([position[name] for name in ("z_leaf", "other", "a", "b")])
    dense = np.array([[1, 0], [0, 0], [0, 1], [0, 1]], np.float32)
    sums = sum_by_class(rank_activations(sp.csr_array(dense)), labels, 4)
    priority = node_priority(taxonomy)
    chosen = shortlist(NodeSums(sums, sp.csr_array(taxonomy.closure[:, priority])), priority)
    assert [names[node] for node in chosen.label] == ["z_leaf", "a"]


def test_on_block_counts_the_latents_and_may_stop(random_case, monkeypatch):
    case = random_case(3)
    monkeypatch.setattr(node_scores, "_BLOCK_LATENTS", 2)
    seen = []
    shortlist_of(case, on_block=seen.append)
    assert sum(seen) == case.dense.shape[1]

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shortlist_of(case, on_block=stop)
