"""A catalog with a few known scores, for tests of the questions that are asked of it.

entity.n.01 has animal.n.01 and pet.n.01 below it; dog.n.01 is both, cow.n.01 an animal, doll.n.01 a pet.
"""

import numpy as np
import pyarrow as pa
from sqlalchemy import text

from hsae.catalog import (
    ActivationSet,
    Analysis,
    ClassProbe,
    ClassProbeLevel,
    Dataset,
    Job,
    LayerScore,
    Model,
    Sae,
    Study,
    StudyJob,
    transaction,
)  # fmt: skip
from hsae.catalog.server.bulk_copy import copy_rows, load_node_scores

IMAGES = {"entity.n.01": 40, "animal.n.01": 30, "pet.n.01": 20, "dog.n.01": 10, "cow.n.01": 20, "doll.n.01": 10}
HEIGHTS = {"entity.n.01": 2, "animal.n.01": 1, "pet.n.01": 1, "dog.n.01": 0, "cow.n.01": 0, "doll.n.01": 0}
HYPERNYMS = {
    "entity.n.01": (), "animal.n.01": ("entity.n.01",), "pet.n.01": ("entity.n.01",),
    "dog.n.01": ("animal.n.01", "pet.n.01"), "cow.n.01": ("animal.n.01",), "doll.n.01": ("pet.n.01",),
}  # fmt: skip
ABOVE = {
    name: {name, *parents, *(["entity.n.01"] if parents else [])} for name, parents in HYPERNYMS.items()
}  # every node is within two edges of the root
ID = {name: number for number, name in enumerate(IMAGES, start=11)}
CLASSES = ("dog.n.01", "cow.n.01", "doll.n.01")
LAYERS = {1: 2, 2: 5}
"""Layer of each analysis; both are of relu SAEs."""
SCORES = {
    (1, "sae", 0): {"entity.n.01": 0.7, "animal.n.01": 0.5, "pet.n.01": 0.6, "dog.n.01": 0.9, "cow.n.01": 0.8},
    (1, "neuron", 0): {"dog.n.01": 0.3},
    (1, "exemplar", 0): {"dog.n.01": 0.6},
    (1, "random", 0): {"animal.n.01": 0.4},
    (1, "random", 1): {"dog.n.01": 0.5},
    (1, "shuffled_taxonomy", 0): {"dog.n.01": 0.2, "animal.n.01": 0.1},
    (1, "shuffled_taxonomy", 1): {"dog.n.01": 0.4},
    (2, "sae", 0): {
        "entity.n.01": 0.7, "animal.n.01": 0.8, "pet.n.01": 0.2, "dog.n.01": 0.7, "cow.n.01": 0.8, "doll.n.01": 0.4,
    },
    (2, "shuffled_taxonomy", 0): {"cow.n.01": 0.3},
}  # fmt: skip
"""Best F1 of each node by analysis, basis and seed; latent 100 + the node's id, and latent 1 is 0.1 behind."""


def plant(service) -> None:
    """Data set `planted`, study 1 with analysis 1, study 2 with analysis 2."""
    with transaction(service.sessions) as session:
        _plant_inputs(session)
        for analysis, layer in LAYERS.items():
            _plant_analysis(session, analysis, layer)


def plant_probe(session, analysis: int, levels) -> None:
    """A class probe of an analysis' activations: of each level its depth, groups, probe, chance and k-NN."""
    row = session.get_one(Analysis, analysis)
    sae = session.get_one(Sae, row.sae_id)
    *_, (_, _, accuracy, chance, knn) = levels
    probe = ClassProbe(
        key=f"probe-{analysis}", activation_set_id=sae.activation_set_id, dataset_id=row.dataset_id, job_id=row.job_id,
        config={}, classifier="ridge", n_images=40, n_neighbours=10, probe_accuracy=accuracy, probe_chance=chance,
        knn_accuracy=knn,
    )  # fmt: skip
    session.add(probe)
    session.flush()
    session.add_all(
        ClassProbeLevel(class_probe_id=probe.id, level=level, n_groups=n_groups, n_train=30, n_test=10,
                        probe_accuracy=accuracy, probe_chance=chance, probe_l2=0.1, knn_accuracy=knn,
                        nn_accuracy=0.65 - level / 10)
        for level, n_groups, accuracy, chance, knn in levels
    )  # fmt: skip


def _plant_inputs(session) -> None:
    session.add(
        Model(id=1, name="planted/vit", revision="0", model_type="vit", n_layers=6, d_model=4, n_patches=4,
              preprocessing={})
    )  # fmt: skip
    session.add(
        Dataset(id=1, name="planted", fingerprint="0", root="/nowhere", taxonomy="wordnet-3.0", taxonomy_key="0",
                n_images=40, n_classes=3, n_nodes=6, listing_sha256="0")
    )  # fmt: skip
    session.flush()
    names = list(IMAGES)
    copy_rows(
        session,
        "synset",
        pa.table(
            {
                "id": [ID[name] for name in names],
                "taxonomy": ["wordnet-3.0"] * len(names),
                "wnid": [f"n{ID[name]:08d}" for name in names],
                "name": names,
                "lemmas": [f"{{{name.split('.')[0]}}}" for name in names],
                "definition": [""] * len(names),
            }
        ),
    )
    edges = [(ID[name], ID[parent]) for name in names for parent in HYPERNYMS[name]]
    closure = [
        (ID[name], ID[above], 0 if above == name else 1 if above in HYPERNYMS[name] else 2)
        for name in names
        for above in sorted(ABOVE[name])
    ]
    session.execute(text("INSERT INTO hypernym VALUES (:c, :p)"), [{"c": c, "p": p} for c, p in edges])
    session.execute(
        text("INSERT INTO hypernym_closure (descendant_id, ancestor_id, distance) VALUES (:d, :a, :n)"),
        [{"d": d, "a": a, "n": n} for d, a, n in closure],
    )
    for name in names:
        session.execute(
            text(
                "INSERT INTO dataset_node (dataset_id, synset_id, height, depth, n_classes, n_images, is_class)"
                " VALUES (1, :id, :height, :depth, :classes, :images, :is_class)"
            ),
            {
                "id": ID[name], "height": HEIGHTS[name], "depth": 2 - HEIGHTS[name], "images": IMAGES[name],
                "classes": sum(name in ABOVE[one] for one in CLASSES), "is_class": name in CLASSES,
            },
        )  # fmt: skip


def _plant_analysis(session, analysis: int, layer: int) -> None:
    kinds = ("extract", "train", "analyze")
    jobs = [
        Job(key=f"{kind}-{layer}", kind=kind, queue="cpu", title=kind, request={}, state="succeeded", max_attempts=3)
        for kind in kinds
    ]
    study = Study(id=analysis, name="planted", request={})
    session.add_all([*jobs, study])
    session.flush()
    activations = ActivationSet(
        key=f"activations-{layer}", model_id=1, dataset_id=1, job_id=jobs[0].id, layer=layer, tokens="cls",
        dtype="float32", n_views=1,
    )  # fmt: skip
    session.add_all([activations, *(StudyJob(study_id=analysis, job_id=job.id, reused=False) for job in jobs)])
    session.flush()
    sae = Sae(
        key=f"sae-{layer}", activation_set_id=activations.id, job_id=jobs[1].id, kind="relu", config={}, expansion=2,
        n_latents=200, seed=0, n_steps=1, cosine=0.9, l0=3.0, dead_share=0.0, metrics={}, weights_sha256="0",
    )  # fmt: skip
    session.add(sae)
    session.flush()
    session.add(
        Analysis(id=analysis, key=f"analysis-{layer}", sae_id=sae.id, dataset_id=1, job_id=jobs[2].id, config={},
                 n_images=40, activations_sha256="0", class_sums_sha256="0")
    )  # fmt: skip
    session.flush()
    scores = {key: f1 for key, f1 in SCORES.items() if key[0] == analysis}
    session.add_all(
        LayerScore(analysis_id=analysis, basis=basis, seed=seed, n_latents=200, n_dead=0, dead_share=0.0, l0=3.0,
                   n_nodes=5, by_height=[])
        for _, basis, seed in scores
    )  # fmt: skip
    rows = [
        {
            "analysis_id": analysis, "basis": basis, "seed": seed, "latent": latent, "synset_id": ID[name],
            "is_node_best": latent > 1,
            "n_images": IMAGES[name], "n_fire": 5, "n_both": 4, "precision": value, "recall": value, "f1": value,
            "q_node": (0.001 if value > 0.5 else 0.1) if latent > 1 else None,
        }
        for (_, basis, seed), values in scores.items()
        for name, f1 in values.items()
        for latent, value in ((1, f1 - 0.1), (100 + ID[name], f1))
    ]  # fmt: skip
    load_node_scores(session, analysis, pa.Table.from_pylist(rows))
    copy_rows(session, "layer_replicate", _replicates(analysis, scores))
    label = "dog.n.01"
    session.execute(
        text(
            "INSERT INTO latent (analysis_id, basis, latent, is_dead, n_fire, density, n_associated, lch_synset_id,"
            " label_synset_id, label_f1, label_q, coherence, coherence_excess, top_images)"
            " VALUES (:a, 'sae', :latent, false, 5, 0.1, 1, :label, :label, :f1, 0.001, 1, 0.1 * :a, '[]')"
        ),
        {"a": analysis, "latent": 100 + ID[label], "label": ID[label], "f1": SCORES[analysis, "sae", 0][label]},
    )


def replicates_of(analysis: int, basis: str, seed: int) -> tuple[float, np.ndarray]:
    """The planted coherence excess and its ten replicates: half of what moves them is the same for all bases."""
    shared = np.random.default_rng(0).normal(0, 0.02, 10)
    own = np.random.default_rng([analysis, len(basis), seed]).normal(0, 0.02, 10)
    value = sum(SCORES[analysis, basis, seed].values()) / len(IMAGES)
    return value, value + shared + own


def _replicates(analysis: int, scores) -> pa.Table:
    rows = []
    for _, basis, seed in scores:
        value, replicates = replicates_of(analysis, basis, seed)
        head = {"analysis_id": analysis, "basis": basis, "seed": seed}
        rows += [
            head | {"metric": "coherence_excess", "value": value, "n": 150 - analysis,
                    "replicates": "{" + ",".join(map(repr, replicates.tolist())) + "}"},
            head | {"metric": "purity_mean", "value": None, "n": 0, "replicates": "{NULL,NULL}"},
        ]  # fmt: skip
    return pa.Table.from_pylist(rows)
