"""What a linear probe of the classes reads from an SAE's reconstructions, beside the activations themselves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32, Int, Int64
from torch import Tensor

from hsae.devices.uploads import uploaded
from hsae.hierarchy.probes.ridge_probe import ridge_probes
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.random_streams import PROBE_STREAM, generator
from hsae.sae.rows.source import ChunkedRows, TrainingRows
from hsae.sae.rows.split import split_rows
from hsae.sae.rows.streamed_rows import StreamedRows
from hsae.sae.rows.training_data import split_of_stream

MOST_TRAIN_IMAGES = 10_000
MOST_SCORED_IMAGES = 2_000
_BATCH_ROWS = 2_048


@dataclass(frozen=True, slots=True)
class ProbedReconstruction:
    """Shares of the held-out images whose class is named.

    Attributes:
        class_accuracy: by the probe from the activations.
        class_accuracy_reconstructed: by the same probe from their reconstructions.
        class_accuracy_chance: by always naming the class with most training images.
    """

    class_accuracy: float
    class_accuracy_reconstructed: float
    class_accuracy_chance: float


@dataclass(frozen=True, slots=True)
class ProbedRows:
    """The plain rows of a training; of one that streams its rows, samples of them.

    Attributes:
        rows: where they are.
        train: ascending positions of those of the images that train.
        holdout: of those of the images that are held out.
        image_of: the number in the listing, int64, of the image of each row at some positions.
    """

    rows: ChunkedRows
    train: Int[Tensor, "n_train"]
    holdout: Int[Tensor, "n_evaluation"]
    image_of: Callable[[Int[Tensor, "n"]], Int[Tensor, "n"]]

    @classmethod
    def of(cls, rows: TrainingRows | StreamedRows, config: SaeConfig) -> Self:
        """Those of a training with this config."""
        if isinstance(rows, StreamedRows):
            per_image, streamed = rows.layout.rows_per_image, split_of_stream(config, rows)
            plain, holdout = streamed.samples.plain, streamed.samples.holdout
            return cls(rows, plain[streamed.is_trained[plain // per_image]], holdout, lambda at: at // per_image)
        split = split_rows(rows, holdout_share=config.holdout_share, seed=config.seed)
        images = rows.image_index.to("cpu", torch.int64)
        is_held_out = torch.isin(images[split.plain], torch.unique(images[split.holdout]))
        return cls(rows, split.plain[~is_held_out], split.holdout, lambda at: images[at])


def image_classes(listing: pa.Table) -> Int64[np.ndarray, "n_listed"] | None:
    """The class of every image of a listing, numbered from 0; None where images have several."""
    if "class_ids" in listing.column_names:
        return None
    classes: Int64[np.ndarray, "n_listed"] = np.unique(listing["class_id"].to_numpy(), return_inverse=True)[1]
    return classes


def probe_reconstruction(
    sae: SparseAutoencoder, probed: ProbedRows, classes: Int64[np.ndarray, "n_listed"], device: torch.device
) -> ProbedReconstruction | None:
    """Train a ridge probe on the activations of training images, and let it name the classes of held-out ones (ours).

    The probe is that of `ridge_probes`: one row per image (of several tokens their mean, of activations as of
    reconstructions). It never sees a reconstruction in training, so that what it loses is what the SAE lost of the
    directions by which the layer separates classes. At most 10,000 images train and 2,000 are scored, drawn with the
    SAE's seed.

    Args:
        sae: on any device; it is used on `device` and left there.
        probed: the rows that the SAE was trained on.
        classes: the class of every image of the listing.
        device: where reconstructions are computed.

    Returns:
        None where nothing is held out, or the images that train are of one class.
    """
    if not probed.holdout.shape[0]:
        return None
    drawn = generator(sae.config.seed, PROBE_STREAM)
    train_rows = _of_some_images(probed.train, probed.image_of(probed.train), MOST_TRAIN_IMAGES, drawn)
    scored_rows = _of_some_images(probed.holdout, probed.image_of(probed.holdout), MOST_SCORED_IMAGES, drawn)
    train_images, x_train, _ = _means(probed, train_rows, None, device)
    scored_images, x, x_hat = _means(probed, scored_rows, sae.to(device), device)
    names, y_train = np.unique(classes[train_images], return_inverse=True)
    if len(names) < 2:
        return None
    both = np.concatenate((x, x_hat))
    (probe,) = ridge_probes(x_train, y_train, both, [np.arange(len(names))])
    is_right = names[probe.predicted] == np.tile(classes[scored_images], 2)
    most = names[np.bincount(y_train).argmax()]
    return ProbedReconstruction(
        float(is_right[: len(x)].mean()),
        float(is_right[len(x) :].mean()),
        float((classes[scored_images] == most).mean()),
    )


def _of_some_images(
    positions: Int[Tensor, "n"], images: Int[Tensor, "n"], most: int, drawn: np.random.Generator
) -> Int[Tensor, "m"]:
    """The rows of at most so many of the images."""
    different = torch.unique(images)
    if different.shape[0] <= most:
        return positions
    chosen = different[torch.from_numpy(drawn.permutation(different.shape[0])[:most])]
    return positions[torch.isin(images, chosen)]


@torch.no_grad()
def _means(
    probed: ProbedRows, positions: Int[Tensor, "n"], sae: SparseAutoencoder | None, device: torch.device
) -> tuple[
    Int64[np.ndarray, "n_images"], Float32[np.ndarray, "n_images d_model"], Float32[np.ndarray, "n_images d_model"]
]:
    """The images of some rows, the mean of the rows of each, and with an SAE the mean of their reconstructions."""
    rows = probed.rows
    images, place = torch.unique(probed.image_of(positions), return_inverse=True)
    n_rows = torch.bincount(place, minlength=images.shape[0]).unsqueeze(1)
    sums = torch.zeros(2, images.shape[0], rows.d_model, dtype=torch.float64)
    start = 0
    for chunk in rows.chunks(positions, _BATCH_ROWS):
        at = place[start : start + len(chunk)]
        start += len(chunk)
        sums[0].index_add_(0, at, chunk.to("cpu", torch.float64))
        if sae is not None:
            sums[1].index_add_(0, at, sae(uploaded(chunk, device)).to("cpu", torch.float64))
    x, x_hat = (sums / n_rows).to(torch.float32).numpy()
    return images.numpy(), x, x_hat
