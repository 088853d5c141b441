"""Real images through a real backbone, in process: class tokens of some blocks, the split of the images, SAEs on them.

For benchmarks of findings. The functions are those that the stages call; only queue, store and database are left out.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from transformers import BitImageProcessorPil

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.datasets import source_at
from hsae.datasets.split import split_images
from hsae.demo import backbone_folder, images_folder
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.listed import ListedImage
from hsae.extraction.shards import extract_shard
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.labelled_parts import chosen_pairs, labelled_parts
from hsae.hierarchy.resampled_basis import measured_basis, resampled_headlines
from hsae.hierarchy.resampling.measured import Measured
from hsae.hierarchy.resampling.resampled import Resampled
from hsae.hierarchy.scored_activations import BasisActivations, ImageParts, LabelledImages, SaeActivations
from hsae.hierarchy.scores.associations import associated_classes
from hsae.hierarchy.statistics.distinct_nodes import distinct_nodes
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import TrainingRows
from hsae.sae.training.initialisation import untrained_sae
from hsae.sae.training.trainer import TrainedSae, train
from hsae.split_config import NamedGroups, SplitConfig
from hsae.taxonomy import InducedTaxonomy, induce, load_taxonomy

N_VIEWS = 2
"""The plain image and one augmented view of it, as in the demo: these data sets are small."""


@dataclass(frozen=True, slots=True)
class RealData:
    """A folder of class folders and a backbone for it.

    Attributes:
        name: for people.
        images: the folder; classes are named by wnid.
        backbone: the backbone's folder.
        split: how the images are divided.
    """

    name: str
    images: Path
    backbone: Path
    split: SplitConfig


def known_data(shared: Path | None) -> list[RealData]:
    """The demo's images and, where a folder with them is given, the emoji and Fashion-MNIST with their backbones."""
    styles = SplitConfig(groups=NamedGroups(select=("noto",), score=("fxemoji",)))
    found = [RealData("demo", images_folder(), backbone_folder(), styles)]
    if shared is not None:
        found += [
            RealData("emoji", shared / "emoji", shared / "dinov2-small", SplitConfig()),
            RealData("fashion", shared / "fashion", shared / "tiny-dinov2-fashion", SplitConfig()),
        ]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class RealLayers:
    """The class tokens of a data set.

    Attributes:
        activations: by block, float32[n_rows, d_model], rows of the plain images and of their augmented views.
        image: int64[n_rows], the image of every row.
        view: int64[n_rows], 0 for the plain image.
        labels: int64[n_images], positions in `taxonomy.classes`.
        taxonomy: of the images' classes.
        parts: what every image is used for.
    """

    activations: dict[int, Float32[Tensor, "n_rows d_model"]]
    image: Int64[Tensor, "n_rows"]
    view: Int64[Tensor, "n_rows"]
    labels: Int64[np.ndarray, "n_images"]
    taxonomy: InducedTaxonomy
    parts: ImageParts

    @classmethod
    def of(cls, data: RealData, blocks: tuple[int, ...] | None = None) -> "RealLayers":
        """Extract the class tokens after some blocks (None: all)."""
        with TemporaryDirectory() as folder:
            return cls._of(data, _with_processor(data.backbone, Path(folder)), blocks)

    @classmethod
    def _of(cls, data: RealData, backbone_folder: Path, blocks: tuple[int, ...] | None) -> "RealLayers":
        spec = inspect_backbone(str(backbone_folder))
        blocks = tuple(range(spec.n_layers)) if blocks is None else blocks
        paths = sorted(path.relative_to(data.images).as_posix() for path in data.images.glob("n*/*"))
        listed = [
            ListedImage(number, path, hashlib.sha256((data.images / path).read_bytes()).hexdigest())
            for number, path in enumerate(paths)
        ]
        backbone = Backbone.load(spec, layers=blocks, device=torch.device("cpu"))
        extraction = ExtractionConfig(batch_size=32, max_image_pixels=10**6, n_views=N_VIEWS)
        extracted = extract_shard(backbone, source_at(data.images), listed, extraction, on_batch=lambda n_done: None)
        if extracted.skipped:
            raise RuntimeError(f"{len(extracted.skipped)} images of {data.images} cannot be read")
        wnids = [path.split("/")[0] for path in paths]
        taxonomy = induce(load_taxonomy(), sorted(set(wnids)))
        position = {taxonomy.synsets[node].id: place for place, node in enumerate(taxonomy.classes.tolist())}
        groups = [path.split(".")[1] for path in paths] if data.split.groups is not None else [None] * len(paths)
        listing = pa.table({"class_id": wnids, "group": pa.array(groups, pa.string())})
        split = split_images(listing, data.split)
        parts = ImageParts(*(np.flatnonzero(part) for part in (split.train, split.select, split.score)))
        return cls(
            {block: values.float() for block, values in extracted.activations.items()},
            extracted.image_index.long(),
            extracted.view.long(),
            np.array([position[wnid] for wnid in wnids]),
            taxonomy,
            parts,
        )

    def images(self, *, in_sample: bool = False) -> LabelledImages:
        """Labels, taxonomy and parts; `in_sample` makes every image train, select and score."""
        return LabelledImages(self.labels, self.taxonomy, parts=None if in_sample else self.parts)

    def rows(self, block: int, *, in_sample: bool = False) -> TrainingRows:
        """The rows that SAEs are trained on: all views of the train images."""
        chosen = torch.ones(len(self.image), dtype=torch.bool)
        if not in_sample:
            chosen = torch.isin(self.image, torch.from_numpy(self.parts.train))
        return TrainingRows(self.activations[block][chosen], self.image[chosen], self.view[chosen])

    def plain(self, block: int) -> Float32[Tensor, "n_images d_model"]:
        """The class tokens of the plain images, in their order."""
        rows = torch.nonzero(self.view == 0).flatten()
        return self.activations[block][rows[torch.argsort(self.image[rows])]]

    def train(self, block: int, config: SaeConfig, *, in_sample: bool = False) -> TrainedSae:
        """Train an SAE on a block."""
        return train(config, self.rows(block, in_sample=in_sample), device=torch.device("cpu"))

    def scored(self, block: int, sae: SparseAutoencoder, *, in_sample: bool = False) -> SaeActivations:
        """The SAE's latents on all images, with what its controls are made of."""
        plain = self.plain(block)
        untrained = untrained_sae(sae.config, self.rows(block, in_sample=in_sample))
        return SaeActivations(
            _latents(sae, plain),
            plain.numpy(),
            decoder=sae.decoder_weight.detach().numpy(),
            untrained=_latents(untrained, plain),
        )


def _with_processor(backbone: Path, folder: Path) -> Path:
    """The backbone's folder, or a copy of it: the shared one for Fashion-MNIST has no image processor; its input is
    28 pixels wide."""
    if (backbone / "preprocessor_config.json").is_file():
        return backbone
    copy = Path(shutil.copytree(backbone, folder / backbone.name, copy_function=shutil.copyfile))
    copy.chmod(0o755)
    side = 28
    BitImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side}).save_pretrained(copy)
    return copy


def _latents(sae: SparseAutoencoder, x: Float32[Tensor, "n_images d_model"]) -> "sp.csr_array[np.float32]":
    with torch.inference_mode():
        return sp.csr_array(sae.encode(x).numpy())


def headlines(given: BasisActivations, images: LabelledImages, scoring: ScoringConfig) -> tuple[Resampled, Measured]:
    """The headline numbers of a basis with their replicates, without the rest of an analysis."""
    taxonomy = images.taxonomy
    parts = labelled_parts(given, images, device="cpu")
    chosen = chosen_pairs(parts, taxonomy, everything=False, device="cpu")
    scored = parts.scored
    nodes = distinct_nodes(scored.sets, scored.labels, taxonomy)
    top = associated_classes("topk", scored.ranked, scored.sums, scored.labels)
    measured = measured_basis(parts, chosen, nodes, {"topk": top}, images, scoring)
    return resampled_headlines(given, measured, scoring, check=lambda: None), measured
