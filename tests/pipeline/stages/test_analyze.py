"""Stage analyze: what is scored, and the stored scores against slow references."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from sqlalchemy import select, text
from tests.pipeline.in_process import TINY_SAE, CountingStore, attempt, job_id, plan_small, run_jobs, run_study
from tests.small import link_classes, quick_scoring, register_small

from hsae.catalog import Dataset, transaction
from hsae.demo import backbone_folder
from hsae.extraction.config import ExtractionConfig
from hsae.hierarchy.config import CONTROL_BASES, EDGE_SOURCES
from hsae.hierarchy.latent_hierarchy.absorption import WrittenImages, node_absorption
from hsae.hierarchy.latent_hierarchy.directions import ImagesUnder
from hsae.hierarchy.latent_hierarchy.edges import EdgeRules, NodeLatents, latent_hierarchy
from hsae.hierarchy.latent_hierarchy.families import LatentTraits
from hsae.hierarchy.statistics.ranks import rank_activations
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.stored import node_ids, read_taxonomy
from hsae.pipeline.stages.analyze import analyze
from hsae.pipeline.stages.latent_activations import get_latent_activations
from hsae.sae.config import SaeConfig
from hsae.sae.initialisation import untrained_sae
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows import TrainingRows
from hsae.store.keys import weights_key
from hsae.store.tensors import get_tensors
from hsae.taxonomy import InducedTaxonomy

N_CLASSES = 5
THRESHOLD = 2.0
N_REFERENCE = 60
RELU = SaeConfig(kind="relu", expansion=2, n_steps=40)


def plan_analysis(service, *, sae=TINY_SAE, layer=3, scoring=None, **extraction):
    """With the layer's own embeddings unless `scoring` says otherwise."""
    return plan_small(
        service,
        layers=(layer,),
        saes=(sae,),
        extraction=ExtractionConfig(**{"shard_images": 9, "batch_size": 6, **extraction}),
        scoring=scoring or quick_scoring(n_shuffles=1, embeddings="own"),
    )


def query(service, statement, **values):
    with transaction(service.sessions) as session:
        return [dict(row) for row in session.execute(text(statement), values).mappings()]


def analysis_of(service, plan):
    """Row of the analysis that a plan's job made, and what it scored."""
    (row,) = query(service, "SELECT * FROM analysis WHERE job_id = :id", id=job_id(plan, "analyze"))
    return row, get_latent_activations(service.store, row["key"], row["activations_sha256"])


def trained_sae(service, plan, config) -> SparseAutoencoder:
    (row,) = query(service, "SELECT key, weights_sha256 FROM sae WHERE job_id = :id", id=job_id(plan, "train"))
    tensors, _ = get_tensors(
        service.store, weights_key(row["key"], row["weights_sha256"]), sha256=row["weights_sha256"]
    )
    return SparseAutoencoder.from_tensors(tensors, config)


def stored_rows(service, plan) -> TrainingRows:
    """All activation rows that a plan extracted."""
    shards = query(
        service,
        "SELECT object_key FROM activation_shard h JOIN activation_set s ON s.id = h.activation_set_id"
        " WHERE job_id = :id ORDER BY shard",
        id=job_id(plan, "extract"),
    )
    tensors = [get_tensors(service.store, shard["object_key"], sha256=None)[0] for shard in shards]
    return TrainingRows(
        *(torch.cat([part[name] for part in tensors]) for name in ("activations", "image_index", "view"))
    )


def stored_taxonomy(service) -> tuple[InducedTaxonomy, np.ndarray]:
    """The data set's taxonomy, and the catalog's id of every node of it."""
    with transaction(service.sessions) as session:
        dataset = dataset_ref(session.execute(select(Dataset)).scalar_one())
        taxonomy = read_taxonomy(service.store, dataset)
        return taxonomy, node_ids(session, dataset.id, taxonomy)


def assert_stored(service, table, analysis_id, keys, columns) -> None:
    """Rows of the SAE's basis, sorted by `keys`, are `columns`; NaN is stored as NULL."""
    where = "analysis_id = :id AND basis = 'sae'"
    stored = query(service, f"SELECT * FROM {table} WHERE {where} ORDER BY {', '.join(keys)}", id=analysis_id)
    n_rows = len(columns[keys[0]])
    assert len(stored) == n_rows > 0
    assert set(stored[0]) - {"analysis_id", "basis", "seed"} == set(columns)
    for name, values in columns.items():
        found = [r[name] for r in stored]
        if values.dtype.kind == "f":
            np.testing.assert_allclose(np.array(found, dtype=np.float64), values, rtol=1e-12, err_msg=name)
        else:
            assert found == values.tolist(), name


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with a data set of five classes, and the paths and classes of its images in order."""
    service = make_service()
    register_small(service, n_classes=N_CLASSES)
    root = link_classes(service.folder, N_CLASSES)
    paths = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*"))
    return SimpleNamespace(service=service, root=root, paths=paths, labels=[path.split("/")[0] for path in paths])


@pytest.fixture(scope="module")
def patches(ready):
    """A finished analysis of patch tokens, with a firing threshold."""
    plan = plan_analysis(
        ready.service,
        sae=RELU,
        tokens="patches",
        scoring=quick_scoring(n_shuffles=1, threshold=THRESHOLD, embeddings="own"),
    )
    assert run_jobs(ready.service, plan) == ["succeeded"] * len(plan.jobs)
    return plan


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


def test_stored_edges_and_families_are_those_of_the_stored_activations(ready, patches):
    row, latents = analysis_of(ready.service, patches)
    taxonomy, ids = stored_taxonomy(ready.service)
    best = query(
        ready.service,
        "SELECT synset_id, latent, f1 FROM node_score WHERE analysis_id = :id AND basis = 'sae' AND is_node_best",
        id=row["id"],
    )
    alike = query(
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
            monosemanticity=np.array([r["monosemanticity"] for r in alike], dtype=np.float64),
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


def test_controls_are_scored_with_their_seeds_and_can_be_left_out(ready):
    with_controls = plan_analysis(ready.service, scoring=quick_scoring(n_shuffles=2, seed=7, embeddings="own"))
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


def test_a_crash_after_publishing_scores_nothing_again(ready):
    plan = plan_analysis(ready.service, layer=1)
    run_jobs(ready.service, plan, "extract", "train")
    results, stores = [], [CountingStore.of(ready.service) for _ in range(2)]
    for store in stores:
        with attempt(ready.service, job_id(plan, "analyze"), store=store) as given:
            results.append(analyze(*given))
    assert results[0]["analysis"] == results[1]["analysis"]
    assert [len(store.keys_put) for store in stores] == [2, 0]
    assert run_jobs(ready.service, plan, "analyze") == ["succeeded"]


@pytest.mark.parametrize("damage", ["one byte", "deleted"])
def test_a_damaged_sae_is_named_and_made_again_and_nothing_is_published_meanwhile(ready, damage):
    plan = plan_analysis(ready.service, sae=TINY_SAE.model_copy(update={"seed": 1 + (damage == "deleted")}))
    run_jobs(ready.service, plan, "extract", "train")
    (sae,) = query(ready.service, "SELECT key, weights_sha256 FROM sae WHERE job_id = :id", id=job_id(plan, "train"))
    key = weights_key(sae["key"], sae["weights_sha256"])
    if damage == "one byte":
        content = bytearray(ready.service.store.get(key))
        content[-5] ^= 0x40
        ready.service.store.put(key, bytes(content))
    else:
        ready.service.store.delete(key)
    before = set(ready.service.store.list("analyses/"))
    assert run_jobs(ready.service, plan, "analyze") == ["waiting"]
    (job,) = query(ready.service, "SELECT error FROM job WHERE id = :id", id=job_id(plan, "analyze"))
    assert key in job["error"]
    assert "\n" not in job["error"]
    assert query(ready.service, "SELECT 1 FROM analysis WHERE job_id = :id", id=job_id(plan, "analyze")) == []
    assert set(ready.service.store.list("analyses/")) == before
    assert {job["state"] for job in run_study(ready.service, plan.study_id)} == {"succeeded"}
