"""Stage analyze: the stored controls, edges, families and absorption against their definitions."""

import numpy as np
import pytest
import torch
from tests.pipeline.in_process import TINY_SAE, job_id, run_jobs
from tests.pipeline.stages.analyze.stored import (
    RELU,
    THRESHOLD,
    analysis_of,
    assert_stored,
    plan_analysis,
    query,
    stored_rows,
    stored_taxonomy,
    trained_sae,
)
from tests.small import quick_scoring

from hsae.hierarchy.config import EDGE_SOURCES
from hsae.hierarchy.latent_hierarchy.absorption import WrittenImages, node_absorption
from hsae.hierarchy.latent_hierarchy.directions import ImagesUnder
from hsae.hierarchy.latent_hierarchy.edges import EdgeRules, NodeLatents, latent_hierarchy
from hsae.hierarchy.latent_hierarchy.families import LatentTraits
from hsae.hierarchy.statistics.ranks import rank_activations
from hsae.sae.training.initialisation import untrained_sae


def at_densities(values, n_fire):
    """Columns above thresholds that give them the numbers of images of alive latents, rank by rank, in loops."""
    ranked = sorted((n for n in n_fire if n), reverse=True)
    n_firing = min(values.shape[1], len(ranked))
    fired = np.zeros_like(values)
    for rank, column in enumerate(np.argsort(-(values > 0).sum(axis=0), kind="stable")[:n_firing]):
        strongest = np.sort(values[:, column])[::-1]
        n = min(ranked[(2 * rank + 1) * len(ranked) // (2 * n_firing)], len(values) - 1)
        fired[:, column] = np.maximum(values[:, column] - (strongest[n - 1] + strongest[n]) / 2, 0)
    return fired


def test_neurons_of_patches_are_pooled_as_the_latents_are(ready, patches):
    tokens = stored_rows(ready.service, patches).activations.view(len(ready.paths), -1, 192).numpy()
    greatest = np.concatenate((tokens.max(axis=1), -tokens.min(axis=1)), axis=1).clip(min=0)
    row, latents = analysis_of(ready.service, patches)
    kept = at_densities(greatest, (latents.z.toarray() > THRESHOLD).sum(axis=0))
    stored = query(
        ready.service,
        "SELECT n_fire, max_activation FROM latent WHERE analysis_id = :id AND basis = 'neuron' ORDER BY latent",
        id=row["id"],
    )
    assert [r["n_fire"] for r in stored] == (kept > 0).sum(axis=0).tolist()
    assert [r["max_activation"] or 0 for r in stored] == pytest.approx(kept.max(axis=0).tolist())


def test_stored_edges_and_families_are_those_of_the_stored_activations(ready, patches):
    row, latents = analysis_of(ready.service, patches)
    taxonomy, ids = stored_taxonomy(ready.service)
    best = query(
        ready.service,
        "SELECT synset_id, latent, f1 FROM node_score WHERE analysis_id = :id AND basis = 'sae' AND is_node_best",
        id=row["id"],
    )
    latent_rows = query(
        ready.service,
        "SELECT monosemanticity FROM latent WHERE analysis_id = :id AND basis = 'sae' ORDER BY latent",
        id=row["id"],
    )
    tokens = stored_rows(ready.service, patches).activations
    of_node = {r["synset_id"]: (r["latent"], r["f1"]) for r in best if r["f1"] is not None}
    best_latent, best_f1 = zip(*(of_node.get(synset, (-1, 0.0)) for synset in ids), strict=True)
    ranked = rank_activations(latents.z, threshold=THRESHOLD)
    edges, families = latent_hierarchy(
        ranked,
        ranked,
        taxonomy,
        NodeLatents(np.array(best_latent), np.array(best_f1), np.array(best_f1)),
        LatentTraits(
            monosemanticity=np.array([r["monosemanticity"] for r in latent_rows], dtype=np.float64),
            decoder=trained_sae(ready.service, patches, RELU).decoder_weight.detach().numpy(),
            embeddings=tokens.view(latents.z.shape[0], -1, tokens.shape[1]).mean(1).numpy(),
        ),
        EdgeRules(),
    )
    # Hardly a latent fires on the 20 images that a pair by activations needs, and on no more than half of all.
    assert {"taxonomy"} <= set(edges.source) <= set(EDGE_SOURCES)
    columns = edges.columns()
    for name in ("parent", "child"):
        nodes = columns.pop(f"{name}_node")
        columns[f"{name}_synset_id"] = np.where(nodes < 0, np.nan, ids[nodes])
    assert_stored(ready.service, "latent_edge", row["id"], ("source", "parent", "child"), columns)
    assert_stored(ready.service, "latent_family", row["id"], ("source", "parent"), families.columns())
    counts = query(
        ready.service,
        "SELECT basis, seed, source FROM latent_edge WHERE analysis_id = :id GROUP BY 1, 2, 3",
        id=row["id"],
    )
    assert {r["source"] for r in counts if r["basis"].startswith("shuffled")} <= {"taxonomy"}


def test_stored_absorption_is_that_of_the_stored_activations(ready, patches):
    plan = plan_analysis(ready.service)
    run_jobs(ready.service, plan)
    row, latents = analysis_of(ready.service, plan)
    taxonomy, ids = stored_taxonomy(ready.service)
    sae = trained_sae(ready.service, plan, TINY_SAE)
    raw = stored_rows(ready.service, plan).activations
    with torch.no_grad():
        torch.testing.assert_close(sae(raw), sae.decode(torch.from_numpy(latents.z.toarray())))
        inputs = (sae.scale_inputs(raw) - sae.pre_bias).numpy()
    best = query(
        ready.service,
        "SELECT synset_id, latent FROM node_score WHERE analysis_id = :id AND basis = 'sae' AND is_node_best",
        id=row["id"],
    )
    of_node = {r["synset_id"]: r["latent"] for r in best}
    nodes = np.array([node for node in np.argsort(ids) if taxonomy.height[node] > 0 and ids[node] in of_node])
    position = {taxonomy.synsets[node].id: place for place, node in enumerate(taxonomy.classes.tolist())}
    labels = np.array([position[label] for label in ready.labels])
    everywhere = np.arange(len(raw))
    columns = node_absorption(
        WrittenImages(inputs, latents.z, sae.decoder_weight.detach().numpy(), everywhere, everywhere, everywhere),
        ImagesUnder(labels, taxonomy.closure.tocsc()),
        nodes,
        np.array([of_node[ids[node]] for node in nodes]),
    ).columns()
    columns["synset_id"] = ids[columns.pop("node")]
    columns["carrier"] = np.where(columns["carrier"] < 0, np.nan, columns["carrier"])
    assert columns["n_silent"].sum() > 0
    assert_stored(ready.service, "node_absorption", row["id"], ("synset_id",), columns)
    bases = "SELECT DISTINCT basis FROM node_absorption WHERE analysis_id = :id"
    assert {r["basis"] for r in query(ready.service, bases, id=row["id"])} == {"sae", "shuffled_taxonomy"}
    of_patches, _ = analysis_of(ready.service, patches)
    assert not query(ready.service, bases, id=of_patches["id"]), "several tokens: not defined"


def test_the_untrained_sae_is_the_one_that_training_starts_from(ready, patches):
    row, latents = analysis_of(ready.service, patches)
    rows = stored_rows(ready.service, patches)
    sae = untrained_sae(RELU, rows)
    with torch.no_grad():
        z = sae.encode(rows.activations).view(len(ready.paths), -1, sae.n_latents).amax(1).numpy()
    fired = at_densities(z, (latents.z.toarray() > THRESHOLD).sum(axis=0))
    stored = query(
        ready.service,
        "SELECT n_fire, max_activation FROM latent WHERE analysis_id = :id AND basis = 'untrained' ORDER BY latent",
        id=row["id"],
    )
    # Another batch size, other last bits: an activation may fall on the other side of 0 or of a cut.
    n_fire = np.array([r["n_fire"] for r in stored])
    assert np.abs(n_fire - (fired > 0).sum(axis=0)).sum() <= 0.02 * n_fire.sum()
    is_same = (n_fire == (fired > 0).sum(axis=0)) & (n_fire > 0)
    found = np.array([r["max_activation"] or 0 for r in stored])
    assert found[is_same] == pytest.approx(fired.max(axis=0)[is_same], rel=1e-3, abs=1e-4)
    ((l0,), (l0_sae,)) = (
        [r["l0"] for r in query(ready.service, "SELECT l0 FROM layer_score WHERE analysis_id = :id AND basis = :basis",
                                id=row["id"], basis=basis)] for basis in ("untrained", "sae")
    )  # fmt: skip
    assert 0.9 * l0_sae < l0 <= l0_sae


def test_controls_are_scored_with_their_seeds_and_can_be_left_out(ready):
    many = quick_scoring(n_shuffles=2, n_random=5, seed=7, embeddings="own")
    with_controls = plan_analysis(ready.service, scoring=many)
    without = plan_analysis(ready.service, scoring=quick_scoring(n_shuffles=0, controls=("neuron",), embeddings="own"))
    assert job_id(with_controls, "train") == job_id(without, "train")
    run_jobs(ready.service, with_controls)
    assert run_jobs(ready.service, without, "analyze") == ["succeeded"]
    found = []
    for plan in (with_controls, without):
        row, _ = analysis_of(ready.service, plan)
        scores = query(ready.service, "SELECT * FROM layer_score WHERE analysis_id = :id", id=row["id"])
        found.append({(r["basis"], r["seed"]): r for r in scores})
    assert set(found[1]) == {("sae", 0), ("neuron", 0)}
    assert set(found[0]) == {
        ("sae", 0), ("neuron", 0), ("pca", 0), *(("random", draw) for draw in range(5)), ("untrained", 0),
        ("exemplar", 0), ("kmeans", 0), ("shuffled_labels", 7), ("shuffled_labels", 8), ("shuffled_taxonomy", 7),
        ("shuffled_taxonomy", 8),
    }  # fmt: skip
    for key, value in found[1]["sae", 0].items():
        if key not in ("analysis_id", "share_nodes_rarefied", "n_rarefied"):  # these hang on the other bases
            assert found[0]["sae", 0][key] == value, key
