"""What interventions act on: the SAEs of the edited layers, the images in their parts, and the nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32, Int64
from sqlalchemy import select

from hsae.catalog import Analysis, Sae
from hsae.datasets.split import split_images, split_scored_images
from hsae.errors import UserError
from hsae.hierarchy.probes.image_parts import split_by_class, stratified_split
from hsae.interventions.config import InterveneSettings
from hsae.interventions.effects import Tree
from hsae.pipeline.inputs.image_split import WantedImages
from hsae.pipeline.inputs.labels import listed_labels
from hsae.pipeline.inputs.stored import read_listing, read_taxonomy
from hsae.pipeline.kinds.interventions.intervene import EditedLayer, InterveneRequest
from hsae.pipeline.stages.activation_reader import open_activation_set
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.stages.latent_activations import LatentActivations, get_latent_activations
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.split_config import ScoreSplit, SplitConfig
from hsae.store.activations import ActivationManifest
from hsae.store.keys import weights_key
from hsae.store.tensors import get_tensors
from hsae.taxonomy import InducedTaxonomy

SEVERAL_CLASSES = (
    "images of this data set have several classes, and interventions are defined for one class per image: register them"
    " with one class each"
)


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The images of a job, by their numbers in the listing, ascending; no scored image is in another part.

    Attributes:
        train: that train readouts and the controls' directions.
        select: on which latents are chosen.
        score: that every number is of.
    """

    train: Int64[np.ndarray, "n_train"]
    select: Int64[np.ndarray, "n_select"]
    score: Int64[np.ndarray, "n_score"]


@dataclass(frozen=True, slots=True, eq=False)
class SceneLayer:
    """A layer that is edited.

    Attributes:
        layer: the layer.
        analysis_id: number of the analysis.
        sae: its SAE, on the job's device.
        manifest: the activations of the images in the layer.
        analysis_key: the analysis' key.
        latents_sha256: checksum of its latents' activations, which are large: `read_latents` has them.
        images: the analysed images, by their numbers in the listing.
    """

    layer: int
    analysis_id: int
    sae: SparseAutoencoder
    manifest: ActivationManifest
    analysis_key: str
    latents_sha256: str
    images: Int32[np.ndarray, "n_images"]

    def read_latents(self, context: StageContext) -> LatentActivations:
        """Every latent's activation on the analysed images."""
        return get_latent_activations(context.store, self.analysis_key, self.latents_sha256)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Everything that is read before the first pass.

    Attributes:
        layers: the layers that are edited in one pass, ascending.
        listing: of the images.
        taxonomy: of their classes.
        tree: the same as arrays.
        labels: class of every listed image.
        parts: the images.
        nodes: the targets.
    """

    layers: tuple[SceneLayer, ...]
    listing: pa.Table
    taxonomy: InducedTaxonomy
    tree: Tree
    labels: Int64[np.ndarray, "n_listed"]
    parts: Parts
    nodes: tuple[int, ...]

    @property
    def own(self) -> SceneLayer:
        """The layer to whose analysis the set belongs: the deepest."""
        return self.layers[-1]

    def name(self, node: int) -> str:
        """The node's name."""
        return self.taxonomy.synsets[node].name

    def is_inside(self, node: int) -> Bool[np.ndarray, "n_classes"]:
        """Which classes are at or under a node."""
        return np.asarray(self.tree.inside[:, node] > 0)

    def wanted(self, images: Int64[np.ndarray, "n"]) -> WantedImages:
        """The same images as a mask over the listing."""
        mask = np.zeros(len(self.labels), np.bool_)
        mask[images] = True
        return mask


def read_scene(request: InterveneRequest, context: StageContext) -> Scene:
    """Read all that a job acts on.

    Raises:
        UserError: something is not there, a node is none of the data set's, or has no images where it needs some.
    """
    layers = tuple(_read_layer(edited, context) for edited in request.edited)
    listing = read_listing(context.store, request.dataset)
    taxonomy = read_taxonomy(context.store, request.dataset)
    labels = listed_labels(listing, taxonomy)
    if not isinstance(labels, np.ndarray):
        raise UserError(SEVERAL_CLASSES)
    tree = Tree.of(taxonomy)
    analysed = reduce(np.intersect1d, (layer.images for layer in layers))
    parts = parts_of(request.intervene, request.split, listing, labels, analysed)
    nodes = _nodes(request.intervene.nodes, taxonomy)
    _check_images(nodes, taxonomy, tree, labels, parts)
    return Scene(layers, listing, taxonomy, tree, labels, parts, nodes)


def _read_layer(edited: EditedLayer, context: StageContext) -> SceneLayer:
    with context.reading() as session:
        analysis = session.execute(select(Analysis).where(Analysis.key == edited.analysis_key)).scalar_one_or_none()
        sae_row = session.execute(select(Sae).where(Sae.key == edited.sae_key)).scalar_one_or_none()
    if analysis is None or sae_row is None:
        raise UserError(f"analysis {edited.analysis_key} is not there: submit the request again to make it")
    sha256 = sae_row.weights_sha256
    tensors, _ = get_tensors(context.store, weights_key(edited.sae_key, sha256), sha256=sha256)
    sae = SparseAutoencoder.from_tensors(tensors, SaeConfig.parse(sae_row.config)).requires_grad_(False)
    _, manifest = open_activation_set(context, edited.activation_key)
    checksum = analysis.activations_sha256
    images = get_latent_activations(context.store, analysis.key, checksum).images.copy()  # not a view of what is large
    return SceneLayer(edited.layer, analysis.id, sae.to(context.device), manifest, analysis.key, checksum, images)


def parts_of(
    settings: InterveneSettings,
    split: SplitConfig | ScoreSplit | None,
    listing: pa.Table,
    labels: Int64[np.ndarray, "n_listed"],
    analysed: np.ndarray,
) -> Parts:
    """The parts, of images that could be read (`analysed`), and at most as many as the settings say.

    Where another data set trains, or in-sample, the images that select also train the readouts; in-sample a quarter of
    every class is scored, as the probes do.
    """
    is_there = np.zeros(len(labels), np.bool_)
    is_there[analysed] = True
    if split is None:
        halves = split_by_class(labels, settings.seed)
        train, score = (np.isin(np.arange(len(labels)), part) for part in (halves.train, halves.score))
        select_ = train
    elif isinstance(split, ScoreSplit):
        scored = split_scored_images(listing, split)
        train, select_, score = scored.select, scored.select, scored.score
    else:
        own = split_images(listing, split)
        train, select_, score = own.train, own.select, own.score
    seed = settings.seed
    found = Parts(
        some_images(np.flatnonzero(train & is_there), labels, settings.n_train, seed),
        np.flatnonzero(select_ & is_there),
        some_images(np.flatnonzero(score & is_there), labels, settings.n_images, seed),
    )
    for images, use in ((found.train, "train"), (found.select, "select"), (found.score, "score")):
        if not len(images):
            raise UserError(f"no image is left to {use} on: give more images, or another split")
    return found


def some_images(
    images: Int64[np.ndarray, "n"], labels: Int64[np.ndarray, "n_listed"], most: int, seed: int
) -> Int64[np.ndarray, "m"]:
    """So many of the images, about, the same share of every class; all if there are fewer."""
    if len(images) <= most:
        return images
    y = np.unique(labels[images], return_inverse=True)[1]
    return np.asarray(images[stratified_split(y, most / len(images), seed)])


def _nodes(names: Sequence[str], taxonomy: InducedTaxonomy) -> tuple[int, ...]:
    """The numbers of nodes that are given by name or id; each once."""
    known = {synset.id: node for node, synset in enumerate(taxonomy.synsets)}
    known |= {synset.name: node for node, synset in enumerate(taxonomy.synsets)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            f"the data set has no node {', '.join(unknown)}: `hsae-admin results nodes` lists its nodes, such as"
            f" {taxonomy.synsets[int(taxonomy.classes[0])].name}"
        )
    return tuple(dict.fromkeys(known[name] for name in names))


def _check_images(
    nodes: Sequence[int], taxonomy: InducedTaxonomy, tree: Tree, labels: Int64[np.ndarray, "n_listed"], parts: Parts
) -> None:
    problems = []
    for node in nodes:
        name = taxonomy.synsets[node].name
        if not tree.has_outside[node]:
            problems.append(f"{name} has all classes under it, so that nothing is outside: choose a node below it")
            continue
        for images, use in ((parts.select, "select latents on"), (parts.score, "score")):
            if not (tree.inside[labels[images], node] > 0).any():
                problems.append(f"{name} has no image to {use}: choose another node, or give more images")
                break
    if problems:
        raise UserError("; ".join(problems))
