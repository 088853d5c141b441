"""Stage analyze: what is scored, and the stored scores against slow references."""

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from tests.pipeline.in_process import TINY_SAE, job_id, run_jobs
from tests.pipeline.stages.analyze.stored import (
    RELU,
    THRESHOLD,
    analysis_of,
    plan_analysis,
    query,
    stored_rows,
    trained_sae,
)
from tests.small import quick_scoring

from hsae.demo import backbone_folder
from hsae.store.tensors import get_tensors
from hsae.vocabulary.bases import CONTROL_BASES

N_REFERENCE = 60


def test_an_image_of_patches_is_scored_by_its_strongest_patch(ready, patches):
    from transformers import BitImageProcessorPil, Dinov2Model

    _, latents = analysis_of(ready.service, patches)
    assert latents.images.tolist() == list(range(len(ready.paths)))
    model = Dinov2Model.from_pretrained(backbone_folder(), dtype=torch.float32)
    processor = BitImageProcessorPil.from_pretrained(backbone_folder())
    sae = trained_sae(ready.service, patches, RELU)
    for image, path in enumerate(ready.paths):
        with Image.open(ready.root / path) as picture:
            rgba = picture.convert("RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        with torch.no_grad():
            hidden = model(**processor(rgb, return_tensors="pt"), output_hidden_states=True).hidden_states[3 + 1]
            expected = torch.stack([sae.encode(patch[None])[0] for patch in hidden[0, 1:]]).amax(0)
        stored = latents.z[[image], :].toarray()[0]
        np.testing.assert_allclose(stored, expected.numpy(), atol=2e-3, rtol=2e-3, err_msg=path)


def _f1(fires, truth):
    return 2 * int((fires & truth).sum()) / int(fires.sum() + truth.sum())


def test_stored_scores_equal_a_slow_reference(ready, patches):
    row, latents = analysis_of(ready.service, patches)
    z = latents.z.toarray().astype(np.float64)
    n_images = len(z)
    closure = query(
        ready.service,
        "SELECT d.wnid AS below, a.wnid AS above FROM hypernym_closure c JOIN synset d ON d.id = c.descendant_id"
        " JOIN synset a ON a.id = c.ancestor_id",
    )
    nodes = sorted({pair["above"] for pair in closure})
    under = {node: {pair["below"] for pair in closure if pair["above"] == node} for node in nodes}
    inside = {node: np.isin(ready.labels, list(under[node])) for node in nodes}

    rows = query(
        ready.service,
        "SELECT n.*, y.wnid FROM node_score n JOIN synset y ON y.id = n.synset_id"
        " WHERE n.analysis_id = :id AND n.basis = 'sae' AND n.latent < :n ORDER BY n.latent, y.wnid",
        id=row["id"],
        n=N_REFERENCE,
    )
    assert len(rows) > 100
    assert {r["n_fire"] for r in rows} != {n_images}  # the threshold matters
    for r in rows:
        values, truth = z[:, r["latent"]], inside[r["wnid"]]
        fires = values > THRESHOLD
        n_both = int((fires & truth).sum())
        assert (r["n_images"], r["n_fire"], r["n_both"]) == (truth.sum(), fires.sum(), n_both)
        precision = n_both / fires.sum() if fires.any() else None
        recall = n_both / truth.sum() if fires.any() else None
        expected = {
            "precision": precision,
            "recall": recall,
            "f1": 2 * n_both / (fires.sum() + truth.sum()) if fires.any() else None,
            "mass_share": values[truth].sum() / values.sum() if values.any() else None,
            "mean_inside": values[truth].mean() if values.any() else None,
            "mean_outside": values[~truth].mean() if values.any() and not truth.all() else None,
            "best_f1": max((_f1(values >= t, truth) for t in np.unique(values[values > 0])), default=None),
            "average_precision": None,
            "auroc": None,
            "p": None,
            "auroc_dense": None,
        }
        if n_both * n_images > fires.sum() * truth.sum():
            expected["p"] = scipy.stats.hypergeom.sf(n_both - 1, n_images, truth.sum(), fires.sum())
        if not truth.all() and np.ptp(values) > 0:
            higher = [(a > b) + (a == b) / 2 for a in values[truth] for b in values[~truth]]
            expected["auroc"] = np.mean(higher)
            expected["average_precision"] = average_precision_score(truth, values)
            assert np.sign(r["z"]) == np.sign(r["auroc"] - 0.5)
            test = scipy.stats.mannwhitneyu(values[truth], values[~truth], use_continuity=False, method="asymptotic")
            assert 2 * scipy.stats.norm.sf(abs(r["z"])) == pytest.approx(test.pvalue, rel=1e-9)
        else:
            assert r["z"] is None
        assert (r["p_node"] is None, r["q_node"] is None) == (not r["is_node_best"] or bool(truth.all()),) * 2
        for name, value in expected.items():
            assert r[name] == (None if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)), (r, name)
        if r["best_f1"]:
            assert _f1(values >= r["best_threshold"], truth) == r["best_f1"]


def test_best_nodes_of_a_latent_and_its_strongest_images(ready, patches):
    row, latents = analysis_of(ready.service, patches)
    z = latents.z.toarray()
    table = query(
        ready.service, "SELECT * FROM latent WHERE analysis_id = :id AND basis = 'sae' ORDER BY latent", id=row["id"]
    )
    assert [r["latent"] for r in table] == list(range(z.shape[1]))
    best = query(
        ready.service,
        "SELECT latent, max(f1) AS f1 FROM node_score WHERE analysis_id = :id AND basis = 'sae' GROUP BY 1",
        id=row["id"],
    )
    best_f1 = {r["latent"]: r["f1"] for r in best}
    for r in table:
        values = z[:, r["latent"]]
        fires = values > THRESHOLD
        assert (r["n_fire"], r["is_dead"]) == (fires.sum(), not fires.any())
        assert r["density"] == pytest.approx(fires.mean())
        if not fires.any():
            assert (r["label_synset_id"], r["label_f1"], r["lch_synset_id"]) == (None, None, None)
            continue
        assert r["label_f1"] == best_f1[r["latent"]]
        assert r["mean_activation"] == pytest.approx(values[fires].mean(), rel=1e-6)
        assert r["max_activation"] == pytest.approx(values.max(), rel=1e-6)
        top = r["top_images"]
        assert [entry["path"] for entry in top] == [ready.paths[entry["image"]] for entry in top]
        strongest = np.sort(values)[::-1][: len(top)]
        np.testing.assert_allclose([entry["activation"] for entry in top], strongest, rtol=1e-5)
    labelled = query(
        ready.service,
        "SELECT l.latent FROM latent l JOIN node_score n USING (analysis_id, basis, latent)"
        " WHERE l.analysis_id = :id AND l.basis = 'sae' AND n.synset_id = l.label_synset_id AND n.f1 = l.label_f1",
        id=row["id"],
    )
    assert len(labelled) == sum(r["label_f1"] is not None for r in table)


@pytest.mark.parametrize("space", ["own", "last"])
def test_monosemanticity_is_by_the_embeddings_asked_for(ready, patches, space):
    plan = patches
    if space == "last":  # in place of its patches the class token of another layer
        scoring = quick_scoring(n_shuffles=0, threshold=THRESHOLD)
        plan = plan_analysis(ready.service, sae=RELU, tokens="patches", scoring=scoring)
        assert set(run_jobs(ready.service, plan)) <= {"succeeded", "not queued"}
    row, latents = analysis_of(ready.service, plan)
    (used,) = query(
        ready.service, "SELECT id, layer, tokens FROM activation_set WHERE key = :key", key=row["config"]["embeddings"]
    )
    assert (used["layer"], used["tokens"]) == {"own": (3, "patches"), "last": (5, "cls")}[space]
    shards = query(
        ready.service,
        "SELECT object_key FROM activation_shard WHERE activation_set_id = :id ORDER BY shard",
        id=used["id"],
    )
    tensors = [get_tensors(ready.service.store, shard["object_key"], sha256=None)[0] for shard in shards]
    tokens = torch.cat([part["activations"] for part in tensors]).double()
    mean = tokens.view(len(ready.paths), -1, tokens.shape[1]).mean(1)
    unit = torch.nn.functional.normalize(mean, dim=1).numpy()
    pairs = np.triu_indices(len(unit), k=1)
    cosine = (unit @ unit.T)[pairs]
    stored = query(
        ready.service,
        "SELECT latent, monosemanticity FROM latent WHERE analysis_id = :id AND basis = 'sae' ORDER BY latent",
        id=row["id"],
    )
    n_defined = 0
    for r, z in zip(stored, latents.z.toarray().T.astype(np.float64), strict=True):
        weight = np.outer(z - z.min(), z - z.min())[pairs]
        if weight.sum() == 0:
            assert r["monosemanticity"] is None
        else:
            n_defined += 1
            assert r["monosemanticity"] == pytest.approx(weight @ cosine / weight.sum(), abs=1e-6)
    assert n_defined > 100


def test_latents_are_placed_by_every_association_rule(ready, patches):
    row, latents = analysis_of(ready.service, patches)
    places = query(
        ready.service,
        "SELECT p.*, y.wnid AS lch, l.lch_synset_id AS own_lch, l.coverage AS own_coverage, l.lca_depth_mean"
        " FROM latent_place p JOIN latent l USING (analysis_id, basis, latent)"
        " LEFT JOIN synset y ON y.id = p.lch_synset_id WHERE p.analysis_id = :id",
        id=row["id"],
    )
    n_latents = {basis: len({p["latent"] for p in places if p["basis"] == basis}) for basis in ("sae", *CONTROL_BASES)}
    assert n_latents["sae"] == n_latents["untrained"] == latents.z.shape[1]
    assert n_latents["neuron"] == 2 * stored_rows(ready.service, patches).activations.shape[1]
    scored = {basis for basis, n in n_latents.items() if n}
    assert scored == {"sae", "neuron", "untrained"}, "others are not scored on patches"
    assert len(places) == 3 * sum(n_latents.values())
    labels, fires = np.array(ready.labels), latents.z.toarray() > THRESHOLD
    for p in places:
        if p["rule"] == "topk":  # the rule of the request
            assert (p["lch_synset_id"], p["coverage"]) == (p["own_lch"], p["own_coverage"])
        if p["basis"] == "sae":
            assert (p["lca_depth_mean"] is None) == (fires[:, p["latent"]].sum() < 2)
        if p["basis"] == "sae" and p["rule"] == "rate":
            rate = {label: fires[labels == label, p["latent"]].mean() for label in set(ready.labels)}
            associated = [label for label, share in rate.items() if share >= 0.5]
            assert p["n_associated"] == len(associated)
            assert (p["lch"] is None) == (not associated)
            if len(associated) == 1:
                assert p["lch"] == associated[0]


def test_views_are_trained_on_and_never_scored(ready):
    plan = plan_analysis(ready.service, n_views=3)
    assert run_jobs(ready.service, plan) == ["succeeded"] * len(plan.jobs)
    n_images = len(ready.paths)
    (sae,) = query(ready.service, "SELECT metrics FROM sae WHERE job_id = :id", id=job_id(plan, "train"))
    n_held_out = sae["metrics"]["n_holdout_rows"]
    assert n_held_out == max(1, round(0.1 * n_images))
    assert sae["metrics"]["n_train_rows"] == 3 * (n_images - n_held_out)
    row, latents = analysis_of(ready.service, plan)
    assert row["n_images"] == n_images
    assert latents.images.tolist() == list(range(n_images))
    # What is scored is the plain view: the encoding of the plain rows, which a set without views has just so.
    plain = plan_analysis(ready.service, n_views=1)
    assert run_jobs(ready.service, plain, "extract") in (["succeeded"], ["not queued"])  # another test may have it
    shards = query(
        ready.service,
        "SELECT object_key FROM activation_shard h JOIN activation_set s ON s.id = h.activation_set_id"
        " WHERE job_id = :id ORDER BY shard",
        id=job_id(plain, "extract"),
    )
    sae_model = trained_sae(ready.service, plan, TINY_SAE)
    assert len(shards) == -(-n_images // 9)
    for number, shard in enumerate(shards):
        tensors, _ = get_tensors(ready.service.store, shard["object_key"], sha256=None)
        with torch.no_grad():
            expected = sae_model.encode(tensors["activations"]).numpy()
        stored = latents.z[number * 9 : (number + 1) * 9].toarray()
        np.testing.assert_allclose(stored, expected, atol=1e-5)
