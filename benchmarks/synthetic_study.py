"""Fills a catalog with a study as large as one wants: random scores in the shape that real analyses store.

The taxonomy is WordNet's, induced by leaf synsets chosen like ImageNet's (many dogs, other animals, artifacts, food).
Every latent prefers a node, knows its hypernyms too and some nodes by chance, better in later layers. The rows have
the numbers and widths of real ones; the scores mean nothing.
"""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from sqlalchemy import func
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import (
    BASES,
    ActivationSet,
    Analysis,
    Comparison,
    Dataset,
    Job,
    LayerScore,
    Model,
    Sae,
    Study,
    StudyJob,
    transaction,
)
from hsae.catalog.bulk import copy_rows, load_node_scores
from hsae.hierarchy.comparison import (
    LATENT_METRICS,
    NODE_METRICS,
    ComparedAnalysis,
    Difference,
    Score,
    compared_pairs,
)
from hsae.pipeline.stages.compare import difference_rows, score_rows
from hsae.taxonomy import InducedTaxonomy, Taxonomy, induce, load_taxonomy

# Leaf synsets under each of these, of 1,000 in all; the sizes are about ImageNet-1k's.
_SHARES = {
    "dog.n.01": 100, "cat.n.01": 8, "bird.n.01": 60, "animal.n.01": 230, "vehicle.n.01": 60, "artifact.n.01": 460,
    "food.n.01": 40, "fruit.n.01": 20, "geological_formation.n.01": 12, "person.n.01": 10,
}  # fmt: skip
_N_NEAR, _N_CHANCE, _N_OF_NODE, _N_TOP = 5, 4, 10, 16
_DEAD_SHARE = 0.05
_RULES = ("topk", "rate", "mass")


@dataclass(frozen=True, slots=True)
class StudySize:
    """How much is filled in; `d_model` makes 2 x d_model raw-neuron columns beside the latents of each analysis."""

    n_classes: int = 1_000
    images_per_class: int = 50
    n_layers: int = 12
    n_latents: int = 12_288
    d_model: int = 1_536
    sae_kinds: tuple[str, ...] = ("relu",)
    n_seeds: int = 2


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """The induced taxonomy in the catalog: `ids` are the synsets', `n_images` the images under every node."""

    taxonomy: InducedTaxonomy
    ids: np.ndarray
    n_images: np.ndarray
    near: np.ndarray
    """int[n_nodes, _N_NEAR]: every node, then its nearest ancestors."""
    dataset_id: int
    n_total: int


def imagenet_like(n_classes: int, seed: int = 0) -> InducedTaxonomy:
    """The taxonomy of `n_classes` leaf synsets of WordNet, spread as ImageNet's are."""
    wordnet = load_taxonomy()
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for name, share in _SHARES.items():
        leaves = sorted(_leaves(wordnet, wordnet.resolve(name).id) - chosen)
        wanted = max(2, round(share * n_classes / sum(_SHARES.values())))
        chosen |= {leaves[place] for place in rng.permutation(len(leaves))[:wanted]}
    return induce(wordnet, chosen)


def _leaves(taxonomy: Taxonomy, root: str) -> set[str]:
    found, seen, pending = set(), {root}, [root]
    while pending:
        node = pending.pop()
        below = taxonomy.hyponyms(node)
        if not below:
            found.add(node)
        pending.extend(child for child in below if child not in seen)
        seen.update(below)
    return found


def fill_study(sessions: sessionmaker[Session], size: StudySize) -> Nodes:
    """Enter the data set, one analysis per layer and SAE kind, and their comparison; each in its own transaction."""
    with transaction(sessions) as session:
        nodes = _enter_inputs(session, size)
        model = Model(
            name="synthetic/vit-giant", revision="0", model_type="dinov2", n_layers=size.n_layers,
            d_model=size.d_model, n_patches=256, preprocessing={},
        )  # fmt: skip
        study = Study(name="synthetic", request={})
        session.add_all([model, study])
        session.flush()
        model_id, study_id = model.id, study.id
    rng = np.random.default_rng(1)
    analyses = []
    for kind in size.sae_kinds:
        for layer in range(size.n_layers):
            with transaction(sessions) as session:
                analysis = _enter_analysis(session, nodes, size, model_id, study_id, layer, kind)
                _enter_scores(session, analysis, nodes, size, layer, rng)
                analyses.append(ComparedAnalysis(analysis, f"{kind}-{layer}", layer, kind))
    with transaction(sessions) as session:
        _enter_comparison(session, nodes, study_id, analyses, rng)
    return nodes


def _enter_inputs(session: Session, size: StudySize) -> Nodes:
    induced = imagenet_like(size.n_classes)
    n_nodes, n_classes = len(induced.synsets), len(induced.classes)
    n_images = induced.leaf_counts.astype(np.int64) * size.images_per_class
    n_total = n_classes * size.images_per_class
    dataset = Dataset(
        name="synthetic", fingerprint="0", root="/nowhere", taxonomy="wordnet-3.0", taxonomy_key=induced.key,
        n_images=n_total, n_classes=n_classes, n_nodes=n_nodes, listing_sha256="0",
    )  # fmt: skip
    session.add(dataset)
    session.flush()
    ids = np.arange(n_nodes) + 1
    closure = induced.node_closure()
    lemmas = [f"{{{','.join(json.dumps(lemma) for lemma in synset.lemmas)}}}" for synset in induced.synsets]
    copy_rows(
        session,
        "synset",
        pa.table(
            {
                "id": ids,
                "taxonomy": ["wordnet-3.0"] * n_nodes,
                "wnid": [synset.id for synset in induced.synsets],
                "name": [synset.name for synset in induced.synsets],
                "lemmas": lemmas,
                "definition": [synset.definition for synset in induced.synsets],
            }
        ),
    )
    edges = ids[induced.hypernym_edges]
    copy_rows(session, "hypernym", pa.table({"synset_id": edges[:, 0], "hypernym_id": edges[:, 1]}))
    copy_rows(
        session,
        "hypernym_closure",
        pa.table({"descendant_id": ids[closure[:, 0]], "ancestor_id": ids[closure[:, 1]], "distance": closure[:, 2]}),
    )
    copy_rows(
        session,
        "dataset_class",
        pa.table(
            {
                "dataset_id": np.full(n_classes, dataset.id),
                "position": np.arange(n_classes),
                "synset_id": ids[induced.classes],
                "label": [induced.synsets[node].id for node in induced.classes],
                "n_images": np.full(n_classes, size.images_per_class),
            }
        ),
    )
    copy_rows(
        session,
        "dataset_node",
        pa.table(
            {
                "dataset_id": np.full(n_nodes, dataset.id),
                "synset_id": ids,
                "height": induced.height,
                "depth": induced.depth,
                "n_classes": induced.leaf_counts,
                "n_images": n_images,
                "is_class": np.isin(np.arange(n_nodes), induced.classes),
            }
        ),
    )
    near = np.full((n_nodes, _N_NEAR), induced.root)
    order = np.lexsort((closure[:, 2], closure[:, 0]))
    starts = np.searchsorted(closure[order, 0], np.arange(n_nodes))
    place = np.arange(len(order)) - starts[closure[order, 0]]
    kept = order[place < _N_NEAR]
    near[closure[kept, 0], place[place < _N_NEAR]] = closure[kept, 1]
    return Nodes(induced, ids, n_images, near, dataset.id, n_total)


def _enter_analysis(
    session: Session, nodes: Nodes, size: StudySize, model_id: int, study_id: int, layer: int, kind: str
) -> int:
    jobs = [
        Job(key=f"{name}-{kind}-{layer}", kind=name, title=f"{name} {kind} layer {layer}", request={},
            state="succeeded", max_attempts=3, started_at=func.now(), finished_at=func.now())
        for name in ("extract", "train", "analyze")
    ]  # fmt: skip
    session.add_all(jobs)
    session.flush()
    session.add_all([StudyJob(study_id=study_id, job_id=job.id, reused=False) for job in jobs])
    activations = ActivationSet(
        key=jobs[0].key, model_id=model_id, dataset_id=nodes.dataset_id, job_id=jobs[0].id, layer=layer, tokens="cls",
        dtype="float32", n_views=1,
    )  # fmt: skip
    session.add(activations)
    session.flush()
    sae = Sae(
        key=jobs[1].key, activation_set_id=activations.id, job_id=jobs[1].id, kind=kind, config={"kind": kind},
        expansion=size.n_latents // size.d_model, n_latents=size.n_latents, seed=0, n_steps=1, fvu=0.2, cosine=0.9,
        l0=64.0, dead_share=_DEAD_SHARE, metrics={}, weights_sha256="0",
    )  # fmt: skip
    session.add(sae)
    session.flush()
    analysis = Analysis(
        key=jobs[2].key, sae_id=sae.id, dataset_id=nodes.dataset_id, job_id=jobs[2].id,
        config={"association": "topk"}, n_images=nodes.n_total, activations_sha256="0", class_sums_sha256="0",
    )  # fmt: skip
    session.add(analysis)
    session.flush()
    return analysis.id


def _enter_scores(
    session: Session, analysis: int, nodes: Nodes, size: StudySize, layer: int, rng: np.random.Generator
) -> None:
    depth = (layer + 1) / size.n_layers
    tables = []
    for basis, n_columns, quality in (("sae", size.n_latents, depth), ("neuron", 2 * size.d_model, depth / 2)):
        columns = _Columns(nodes, n_columns, quality, rng)
        tables.append(columns.node_scores(analysis, basis))
        copy_rows(session, "latent", columns.latents(analysis, basis))
        copy_rows(session, "latent_place", columns.places(analysis, basis))
    for basis, quality in (("shuffled_labels", 0.1), ("shuffled_taxonomy", 0.2)):
        for seed in range(size.n_seeds):
            tables.append(best_of_nodes(analysis, basis, seed, nodes, size.n_latents, quality * depth, rng))
    bases = [("sae", 0), ("neuron", 0)]
    bases += [(basis, seed) for basis in ("shuffled_labels", "shuffled_taxonomy") for seed in range(size.n_seeds)]
    heights = np.bincount(nodes.taxonomy.height).tolist()
    for basis, seed in bases:
        session.add(_layer_score(analysis, basis, seed, size, len(nodes.ids), heights, depth))
    session.flush()
    load_node_scores(session, analysis, pa.concat_tables(tables))


def _enter_comparison(
    session: Session, nodes: Nodes, study_id: int, analyses: list[ComparedAnalysis], rng: np.random.Generator
) -> None:
    job = Job(key="compare", kind="compare", title="compare", request={}, state="succeeded", max_attempts=3,
              started_at=func.now(), finished_at=func.now())  # fmt: skip
    session.add(job)
    session.flush()
    comparison = Comparison(key="compare", job_id=job.id, dataset_id=nodes.dataset_id, config={"n_resamples": 1000})
    session.add_all([comparison, StudyJob(study_id=study_id, job_id=job.id, reused=False)])
    session.flush()
    columns = [(analysis.number, basis) for analysis in analyses for basis in BASES]
    scores, differences = [], []
    for metric in (*NODE_METRICS, *LATENT_METRICS.values()):
        for number, basis in columns:
            value = rng.random()
            scores.append(Score(number, basis, metric, value, value - 0.02, value + 0.02, len(nodes.ids)))
        for one, other in compared_pairs(analyses, columns):
            value = rng.normal(0, 0.1)
            differences.append(Difference(metric, *one, *other, value, value - 0.03, value + 0.03, len(nodes.ids)))
    copy_rows(session, "comparison_score", score_rows(comparison.id, scores))
    copy_rows(session, "comparison_difference", difference_rows(comparison.id, differences))


def _layer_score(
    analysis: int, basis: str, seed: int, size: StudySize, n_nodes: int, heights: list[int], depth: float
) -> LayerScore:
    value = depth * {"sae": 0.6, "neuron": 0.4, "shuffled_taxonomy": 0.2, "shuffled_labels": 0.1}[basis]
    return LayerScore(
        analysis_id=analysis, basis=basis, seed=seed, n_latents=size.n_latents, n_dead=0, dead_share=0.0, l0=64.0,
        lch_height_mean=8 - 4 * value, coverage_mean=value, n_nodes=n_nodes, share_nodes_f1=value,
        share_nodes_q=value, best_f1_mean=value, best_f1_inner_mean=value, fvu=0.2, cosine=0.9, probe_accuracy=depth,
        by_height=[
            {"height": height, "n_nodes": count, "n_f1": round(count * value), "n_q": round(count * value)}
            for height, count in enumerate(heights)
        ],
    )  # fmt: skip


class _Columns:
    """The latents of one basis: the node that each prefers, how well it knows it, and where it fires."""

    def __init__(self, nodes: Nodes, n: int, quality: float, rng: np.random.Generator) -> None:
        self.nodes, self.rng, self.n = nodes, rng, n
        self.preferred = rng.integers(0, len(nodes.ids), n)
        self.quality = rng.beta(1 + 3 * quality, 4, n)
        wanted = nodes.n_images[self.preferred] * rng.uniform(0.3, 3.0, n)
        self.n_fire = np.clip(wanted, 1, nodes.n_total).astype(np.int64)
        self.n_fire[rng.random(n) < _DEAD_SHARE] = 0

    def node_scores(self, analysis: int, basis: str) -> pa.Table:
        """The best nodes of every latent that fires, and the best latents of every node."""
        n_nodes = len(self.nodes.ids)
        latents = np.arange(self.n)
        near = self.nodes.near[self.preferred]
        chance = self.rng.integers(0, n_nodes, (self.n, _N_CHANCE))
        knows = self.quality[:, None] * 0.8 ** np.arange(_N_NEAR)
        of_node = self.rng.integers(0, self.n, (n_nodes, _N_OF_NODE))
        latent = np.concatenate((np.repeat(latents, _N_NEAR + _N_CHANCE), of_node.ravel()))
        node = np.concatenate(
            (np.concatenate((near, chance), axis=1).ravel(), np.repeat(np.arange(n_nodes), _N_OF_NODE))
        )
        by_chance = self.rng.uniform(0, 0.3, (self.n, _N_CHANCE))
        share = np.concatenate(
            (np.concatenate((knows, by_chance), axis=1).ravel(), self.rng.uniform(0, 0.5, n_nodes * _N_OF_NODE))
        )
        _, first = np.unique(latent * n_nodes + node, return_index=True)
        first = first[self.n_fire[latent[first]] > 0]
        latent, node, share = latent[first], node[first], share[first]
        return _node_rows(analysis, basis, 0, self.nodes, latent, node, self.n_fire[latent], share, self.rng)

    def latents(self, analysis: int, basis: str) -> pa.Table:
        """Rows of latent, with 16 images each."""
        taxonomy, ids, fires = self.nodes.taxonomy, self.nodes.ids, self.n_fire > 0
        lch = self.nodes.near[self.preferred, self.rng.integers(0, _N_NEAR, self.n)]
        n_node = self.nodes.n_images[self.preferred]
        n_both = np.maximum(self.quality * np.minimum(self.n_fire, n_node), fires)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = {
                "mean_activation": self.rng.exponential(1.0, self.n),
                "max_activation": self.rng.exponential(5.0, self.n),
                "coverage": self.rng.beta(1, 4, self.n),
                "label_f1": 2 * n_both / (self.n_fire + n_node),
                "label_precision": n_both / self.n_fire,
                "label_recall": n_both / n_node,
                "label_auroc": 0.5 + self.quality / 2,
                "class_entropy": self.rng.uniform(0, 9, self.n),
                "monosemanticity": self.rng.uniform(0, 1, self.n),
                "lca_depth_mean": self.rng.uniform(0, 12, self.n),
                "lch_height_relative": taxonomy.height[lch] / taxonomy.height.max(),
            }
        floats = {name: pa.array(column, mask=~fires) for name, column in values.items()}
        images = self.rng.integers(0, self.nodes.n_total, (self.n, _N_TOP)).tolist()
        strengths = np.sort(self.rng.exponential(5.0, (self.n, _N_TOP)))[:, ::-1].tolist()
        top = [
            "["
            + ", ".join(
                f'{{"image": {image}, "path": "val/n{image % 1000:08d}/ILSVRC2012_val_{image:08d}.JPEG",'
                f' "activation": {activation:.6g}}}'
                for image, activation in zip(*row, strict=True)
            )
            + "]"
            for row in zip(images, strengths, strict=True)
        ]
        return pa.table(
            {
                "analysis_id": np.full(self.n, analysis),
                "basis": [basis] * self.n,
                "latent": np.arange(self.n),
                "is_dead": ~fires,
                "n_fire": self.n_fire,
                "density": self.n_fire / self.nodes.n_total,
                "n_associated": np.where(fires, self.rng.integers(1, _N_TOP + 1, self.n), 0),
                "lch_synset_id": pa.array(ids[lch], mask=~fires),
                "lch_height": pa.array(taxonomy.height[lch], mask=~fires),
                "lch_depth": pa.array(taxonomy.depth[lch], mask=~fires),
                "label_synset_id": pa.array(ids[self.preferred], mask=~fires),
                **floats,
                "top_images": top,
            }
        )

    def places(self, analysis: int, basis: str) -> pa.Table:
        """Rows of latent_place by all rules."""
        taxonomy, fires = self.nodes.taxonomy, np.tile(self.n_fire > 0, len(_RULES))
        n_rows = len(fires)
        preferred = np.tile(self.preferred, len(_RULES))
        lch = self.nodes.near[preferred, self.rng.integers(0, _N_NEAR, n_rows)]
        return pa.table(
            {
                "analysis_id": np.full(n_rows, analysis),
                "basis": [basis] * n_rows,
                "latent": np.tile(np.arange(self.n), len(_RULES)),
                "rule": np.repeat(_RULES, self.n).tolist(),
                "n_associated": np.where(fires, self.rng.integers(1, _N_TOP + 1, n_rows), 0),
                "lch_synset_id": pa.array(self.nodes.ids[lch], mask=~fires),
                "lch_height": pa.array(taxonomy.height[lch], mask=~fires),
                "lch_height_relative": pa.array(taxonomy.height[lch] / taxonomy.height.max(), mask=~fires),
                "lch_depth": pa.array(taxonomy.depth[lch], mask=~fires),
                "coverage": pa.array(self.rng.beta(1, 4, n_rows), mask=~fires),
            }
        )


def best_of_nodes(
    analysis: int, basis: str, seed: int, nodes: Nodes, n_latents: int, quality: float, rng: np.random.Generator
) -> pa.Table:
    """One latent per node, as a shuffled control stores them."""
    n_nodes = len(nodes.ids)
    n_fire = np.clip(nodes.n_images * rng.uniform(0.3, 3.0, n_nodes), 1, nodes.n_total).astype(np.int64)
    share = rng.uniform(0, quality, n_nodes)
    latents = rng.integers(0, n_latents, n_nodes)
    return _node_rows(analysis, basis, seed, nodes, latents, np.arange(n_nodes), n_fire, share, rng)


def random_pairs(analysis: int, n_rows: int, nodes: Nodes, rng: np.random.Generator) -> pa.Table:
    """Rows of node_score of `n_rows` different pairs of one SAE."""
    n_nodes = len(nodes.ids)
    latent, node = np.divmod(np.arange(n_rows), n_nodes)
    n_fire = rng.integers(1, nodes.n_total, n_rows)
    return _node_rows(analysis, "sae", 0, nodes, latent, node, n_fire, rng.uniform(0, 1, n_rows), rng)


def _node_rows(
    analysis: int,
    basis: str,
    seed: int,
    nodes: Nodes,
    latent: np.ndarray,
    node: np.ndarray,
    n_fire: np.ndarray,
    share: np.ndarray,
    rng: np.random.Generator,
) -> pa.Table:
    """Rows of node_score; `share` is how many of the images that could be both under the node and fired on are."""
    n_rows, n_node = len(latent), nodes.n_images[node]
    least = np.maximum(n_fire + n_node - nodes.n_total, 0)
    n_both = np.maximum((share * np.minimum(n_fire, n_node)).astype(np.int64), least)
    z = rng.normal(3, 3, n_rows)
    whole = n_node == nodes.n_total
    nothing = np.ones(n_rows, dtype=bool)
    floats = {
        "precision": pa.array(n_both / n_fire),
        "recall": pa.array(n_both / n_node),
        "f1": pa.array(2 * n_both / (n_fire + n_node)),
        "auroc": pa.array(0.5 + share / 2, mask=whole),
        "auroc_dense": pa.array(0.5 + share / 2, mask=whole if basis == "neuron" else nothing),
        "z": pa.array(z, mask=whole),
        "p": pa.array(np.exp(-np.abs(z)), mask=whole),
        "q": pa.array(np.exp(-np.abs(z) / 2), mask=whole),
        "mass_share": pa.array(share),
        "mean_inside": pa.array(rng.exponential(1.0, n_rows)),
        "mean_outside": pa.array(rng.exponential(0.1, n_rows), mask=whole),
        "average_precision": pa.array(share, mask=whole),
        "best_f1": pa.array(np.minimum(1.0, 2.2 * n_both / (n_fire + n_node))),
        "best_threshold": pa.array(rng.exponential(1.0, n_rows)),
    }
    return pa.table(
        {
            "analysis_id": np.full(n_rows, analysis),
            "basis": [basis] * n_rows,
            "seed": np.full(n_rows, seed),
            "latent": latent,
            "synset_id": nodes.ids[node],
            "n_images": n_node,
            "n_fire": n_fire,
            "n_both": n_both,
            **floats,
        }
    )
