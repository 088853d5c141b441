"""Edits of a few images of anybody's: an analysis' SAE, the whole backbone, and a frozen probe of its last layer.

The probe is the readout of the stage `intervene`, trained on the same images: those that train in the analysis' split,
their rows read from the stored activations of the last layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from sqlalchemy import text
from torch import Tensor

from hsae.backbones.backbone import Backbone
from hsae.backbones.hooks.names import RESIDUAL
from hsae.catalog import Dataset
from hsae.catalog.queries.analyses import extraction_of, find_analysis
from hsae.errors import UserError
from hsae.interventions.alone.distributions import moved_distributions
from hsae.interventions.config import EditKind, InterveneSettings, Place
from hsae.interventions.edits import LatentEdit, TokenPlaces, visited
from hsae.interventions.effects import Tree
from hsae.interventions.passes import Intervention, LayerEdit
from hsae.interventions.readouts import LabelledRows, LinearReadout, ReadRows, train_probe
from hsae.pipeline.inputs.dataset_ref import DatasetRef, dataset_ref
from hsae.pipeline.inputs.labels import listed_labels
from hsae.pipeline.inputs.stored import read_listing, read_taxonomy
from hsae.pipeline.kinds.extract import ExtractRequest
from hsae.pipeline.stages.activation_reader import Reading, open_activation_set, read_plain_rows
from hsae.pipeline.stages.interventions.scene import SEVERAL_CLASSES, parts_of, some_images
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.split_config import split_of
from hsae.store.keys import weights_key
from hsae.store.tensors import get_tensors
from hsae.taxonomy import InducedTaxonomy

_LAST_SET = """
    SELECT s.key FROM activation_set s JOIN analysis_input i ON i.model_id = s.model_id AND i.dataset_id = s.dataset_id
    JOIN job j ON j.id = s.job_id
    WHERE i.analysis_id = :analysis AND s.layer = :last AND s.hook = 'residual' AND s.tokens = ANY(:tokens)
      AND s.manifest_sha256 IS NOT NULL
    ORDER BY s.dropped_at IS NOT NULL, coalesce(j.request -> 'extraction' ->> 'decode', 'exact') != :decode,
        array_position(CAST(:tokens AS text[]), s.tokens), s.id DESC LIMIT 1
"""


SaeTokens = Literal["cls", "patches", "mean"]


class BackboneAbsentError(UserError):
    """The backbone's files are not on this machine."""


@dataclass(frozen=True, slots=True, eq=False)
class EditedImages:
    """How a readout moves where latents of some images are edited.

    Attributes:
        before: the probability of every node of the taxonomy, unedited: the sum over its classes.
        after: the same after the edit.
        activations: of the edited latents, the greatest over an image's edited tokens, unedited.
    """

    before: Float64[np.ndarray, "n_images n_nodes"]
    after: Float64[np.ndarray, "n_images n_nodes"]
    activations: Float64[np.ndarray, "n_images n_chosen"]


@dataclass(frozen=True, slots=True)
class FrozenProbe:
    """The readout, and how good it is on unedited images that score.

    Attributes:
        probe: trained on unedited activations of the last layer.
        accuracy: share of the scored images whose class it names.
        chance: the same of always naming the class with most of them.
    """

    probe: LinearReadout
    accuracy: float
    chance: float


@dataclass(frozen=True, eq=False)
class ImageEditor:
    """Everything that edits of single images need.

    Attributes:
        layer: the layer of the SAE.
        tokens: what the SAE was trained on.
        backbone: the whole of it, with the streams of that layer and of the last one.
        sae: on its device.
        readout: what is read.
        taxonomy: of the classes.
        tree: the same as arrays.
    """

    layer: int
    tokens: str
    backbone: Backbone
    sae: SparseAutoencoder
    readout: FrozenProbe
    taxonomy: InducedTaxonomy
    tree: Tree

    def edit(
        self,
        pixel_values: Float[Tensor, "batch 3 height width"],
        latents: Mapping[int, float],
        *,
        kind: EditKind = "scale",
        place: Place | Sequence[int] = "own",
    ) -> EditedImages:
        """Edit latents of images in the layer, and read the last one.

        Args:
            pixel_values: the preprocessed images.
            latents: by latent the factor (`scale`), the value (`clamp`), or what is added (`add`).
            kind: how they change.
            place: the tokens, as the setting `tokens` of `intervene`.

        Raises:
            UserError: a latent is of another SAE, a number is not finite, there is no such kind, or the backbone has no
                such token.
        """
        edit = LatentEdit.of(self.sae, latents, kind)
        spec = self.backbone.spec
        places = TokenPlaces.of(place if isinstance(place, str) else tuple(place), self.tokens, spec)
        recorded = self.backbone.recorded(pixel_values)
        stream = recorded.streams[self.layer]
        intervention = Intervention((LayerEdit(self.layer, places, edit),))
        moved = moved_distributions(recorded, stream, intervention, spec.n_layers - 1, self.readout.probe)
        with torch.no_grad():
            z = edit.strongest(visited(stream, places), len(stream))
        inside = self.tree.inside
        return EditedImages(moved.before @ inside, moved.after @ inside, z.double().cpu().numpy())


def moved_nodes(editor: ImageEditor, moved: EditedImages, image: int) -> list[dict[str, Any]]:
    """The nodes of the taxonomy by how far their probability moves on an image, the farthest first; without the root.

    Each row has `synset`, `wnid`, `is_class`, and the probabilities `before` and `after` with their difference,
    `change`. Of nodes that move equally far the one with the fewest classes comes first.
    """
    before, after = moved.before[image], moved.after[image]
    n_classes, classes = editor.tree.inside.sum(axis=0), set(editor.taxonomy.classes.tolist())
    nodes = np.flatnonzero(editor.tree.has_outside)
    order = nodes[np.lexsort((n_classes[nodes], -np.abs(after - before)[nodes].round(12)))]
    return [
        {
            "synset": editor.taxonomy.synsets[node].name,
            "wnid": editor.taxonomy.synsets[node].id,
            "is_class": node in classes,
            "before": float(before[node]),
            "after": float(after[node]),
            "change": float(after[node] - before[node]),
        }
        for node in order.tolist()
    ]


def open_image_editor(reading: Reading, analysis: int, device: torch.device, cache_dir: Path | None) -> ImageEditor:
    """Load what edits of an analysis' latents need, and train the readout.

    Args:
        reading: the catalog and the store.
        analysis: its number.
        device: where it computes.
        cache_dir: cache of hub downloads; None: the hub's own.

    Raises:
        UserError: the activations are of another hook point or family, the last layer's are not stored, images have
            several classes, or the backbone's or the SAE's files are missing.
    """
    with reading.reading() as session:
        about = find_analysis(session, analysis)
        request, layer = extraction_of(session, analysis)
        extraction = ExtractRequest.model_validate(request)
        dataset = dataset_ref(session.get_one(Dataset, about["dataset_id"]))
    spec, tokens = extraction.model, edited_tokens(extraction, analysis)
    taxonomy = read_taxonomy(reading.store, dataset)
    readout = _frozen_probe(reading, about, extraction, dataset, taxonomy, device)
    tensors, _ = get_tensors(
        reading.store, weights_key(about["sae_key"], about["weights_sha256"]), sha256=about["weights_sha256"]
    )
    sae = SparseAutoencoder.from_tensors(tensors, SaeConfig.parse(about["sae_config"])).requires_grad_(False)
    try:
        backbone = Backbone.load(
            spec,
            layers=sorted({layer, spec.n_layers - 1}),
            device=device,
            cache_dir=cache_dir,
            precision=extraction.extraction.precision,
        )
    except UserError as error:
        raise BackboneAbsentError(str(error)) from error
    return ImageEditor(layer, tokens, backbone, sae.to(device), readout, taxonomy, Tree.of(taxonomy))


def edited_tokens(extraction: ExtractRequest, analysis: int) -> SaeTokens:
    """What an analysis' SAE was trained on, where that can be edited.

    Raises:
        UserError: it is of registers, or not of the residual stream.
    """
    tokens, hook = extraction.extraction.tokens, extraction.extraction.hook
    if hook != RESIDUAL or tokens == "registers":
        raise UserError(
            f"edits change class and patch tokens of the residual stream: analysis {analysis} is of {tokens} at {hook}"
        )
    return tokens


def _frozen_probe(
    reading: Reading,
    about: Mapping[str, Any],
    extraction: ExtractRequest,
    dataset: DatasetRef,
    taxonomy: InducedTaxonomy,
    device: torch.device,
) -> FrozenProbe:
    spec = extraction.model
    last = spec.n_layers - 1
    tokens = ["cls"] if spec.has_class_token else ["mean", "patches"]
    with reading.reading() as session:
        values = {"analysis": about["id"], "last": last, "tokens": tokens, "decode": extraction.extraction.decode}
        key = session.execute(text(_LAST_SET), values).scalar_one_or_none()
    if key is None:
        raise UserError(
            f"edits are read in the last layer, {last}, of which no {tokens[0]} activations of {dataset.name} are"
            f" stored: submit the study with --layer {last}, too"
        )
    _, manifest = open_activation_set(reading, key)
    listing = read_listing(reading.store, dataset)
    labels = listed_labels(listing, taxonomy)
    if not isinstance(labels, np.ndarray):
        raise UserError(SEVERAL_CLASSES)
    images, x = read_plain_rows(reading, manifest)
    settings = InterveneSettings()
    parts = parts_of(settings, split_of(about["split"]), listing, labels, images)
    place = np.full(len(labels), -1)
    place[images] = np.arange(len(images))

    def rows(wanted: np.ndarray) -> LabelledRows:
        return LabelledRows(x[place[wanted]], labels[wanted])

    select = some_images(parts.select, labels, settings.n_train, settings.seed)
    n_classes = len(taxonomy.classes)
    probe = train_probe(
        rows(parts.train), rows(select), n_classes, ReadRows(spec.n_prefix_tokens, spec.has_class_token), device
    )
    scored = rows(parts.score)
    logits = scored.x.astype(np.float64) @ probe.weight.cpu().numpy() + probe.intercept.cpu().numpy()
    chance = np.bincount(scored.labels).max() / len(scored.labels)
    return FrozenProbe(probe, float((logits.argmax(axis=1) == scored.labels).mean()), float(chance))
