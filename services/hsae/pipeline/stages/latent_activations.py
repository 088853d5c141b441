"""Every latent's activation on every image: computed, stored and read back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float32, Int32
from torch import Tensor

from hsae.hierarchy.kernels.back_off import in_parts
from hsae.hierarchy.kernels.device import is_cpu, to_device
from hsae.hierarchy.kernels.nonzeros import NonZeros, joined, to_sparse
from hsae.pipeline.stages.activation_reader import iterate_plain_images
from hsae.pipeline.stages.context import StageContext
from hsae.sae.model import SparseAutoencoder
from hsae.store.activations import ActivationManifest
from hsae.store.keys import latents_key
from hsae.store.objects import ObjectStore, StoredObject
from hsae.store.tensors import get_tensors, put_tensors

_ROWS_PER_BATCH = 4096
_ROWS_PER_PRODUCT_GPU = 512
"""Rows that are encoded as one product. Its size decides last digits, so that it never changes; on a processor a batch
is one product."""


@dataclass(frozen=True, slots=True)
class RawActivations:
    """The input of the SAE.

    Attributes:
        rows: float32[n_images + n_further, d_model]; for patch tokens their mean. The last rows are room for further
            images, so that nobody needs a copy of all rows to put others behind them.
        n_images: how many images were encoded.
        pooled: for patch tokens, every neuron's greatest positive part over an image's patches, then the greatest
            negative parts, float32[n_images, 2 * d_model]: pooled like the latents. None for one token per image.
    """

    rows: Float32[np.ndarray, "n d_model"]
    n_images: int
    pooled: "sp.csr_array[np.float32] | None"

    @property
    def mean(self) -> Float32[np.ndarray, "n_images d_model"]:
        """Those of the images that were encoded."""
        return self.rows[: self.n_images]

    def followed_by(self, further: Float32[np.ndarray, "n_further d_model"]) -> Float32[np.ndarray, "n d_model"]:
        """The same rows, then those of further images, for which there must be room."""
        self.rows[self.n_images :] = further
        return self.rows


@dataclass(frozen=True, slots=True)
class LatentActivations:
    """The activations that are scored.

    Attributes:
        z: float32[n_images, n_latents], each latent's activation on each image (patch tokens: its maximum over them).
        images: int32[n_images], each row's image in the data set's listing.
    """

    z: "sp.csr_array[np.float32]"
    images: Int32[np.ndarray, "n_images"]


def encode_images(
    saes: Sequence[SparseAutoencoder], manifest: ActivationManifest, context: StageContext, *, n_further: int = 0
) -> tuple[list[LatentActivations], RawActivations]:
    """Encode the plain view of every image with each SAE; also returns the raw activations.

    The maximum over an image's patches is this project's definition: a latent fires on an image if it fires on any part
    of it.

    Memory holds the raw activations once, the latents' non-zeros at most twice, and one shard. Where a GPU runs out of
    memory, it holds fewer latents at a time. Products are of the same rows nevertheless: cuBLAS chooses by their number
    how it adds up a product. The SAEs come back to the CPU.

    Args:
        saes: on the CPU.
        manifest: of the activations.
        context: the job's.
        n_further: rows for which there is room behind the raw activations.
    """
    n_tokens, device = manifest.n_tokens, context.device
    n_images = manifest.n_rows // (n_tokens * manifest.n_views)
    rows = np.empty((n_images + n_further, manifest.d_model), np.float32)
    image_index = np.empty(n_images, np.int32)
    latents: list[list[sp.csr_array]] = [[] for _ in saes]
    pooled: list[sp.csr_array] = []
    encoder = _Encoder(saes, device)
    n_most = max(1, _ROWS_PER_BATCH // n_tokens)
    width = n_most if is_cpu(device) else max(1, _ROWS_PER_PRODUCT_GPU // n_tokens)
    at_once = max(1, n_most // width)
    end = 0
    with torch.inference_mode():
        for plain in iterate_plain_images(context, manifest):
            x = plain.activations
            first, end = end, end + len(x)
            rows[first:end], image_index[first:end] = plain.means().numpy(), plain.image_index.numpy()
            if n_tokens > 1:
                greatest = torch.cat((x.amax(1), -x.amin(1)), dim=1).clamp(min=0)
                pooled.append(sp.csr_array(greatest.numpy()))
            n_products = -(-len(x) // width)
            blocks = (slice(one, min(one + at_once, n_products)) for one in range(0, n_products, at_once))
            for of_block in in_parts(encoder.on(x.numpy(), width), blocks, device):
                for encoded, z in zip(latents, of_block, strict=True):
                    encoded.append(z)
            context.check()
    encoder.free()
    activations = [
        LatentActivations(joined(encoded, sae.n_latents), image_index)
        for sae, encoded in zip(saes, latents, strict=True)
    ]
    whole = joined(pooled, 2 * manifest.d_model) if pooled else None
    return activations, RawActivations(rows, n_images, whole)


class _Encoder:
    """Encodes images with several SAEs on a device; only what is not 0 comes back."""

    def __init__(self, saes: Sequence[SparseAutoencoder], device: torch.device) -> None:
        self._saes = [sae.to(device) for sae in saes]
        self._densities = [NonZeros() for _ in saes]
        self._device = device

    def on(
        self, x: Float32[np.ndarray, "n_images n_tokens d_model"], width: int
    ) -> Callable[[slice], list[sp.csr_array]]:
        """What encodes some of these images, given the numbers of their products, of `width` images each."""
        n_tokens = x.shape[1]

        def encode(products: slice) -> list[sp.csr_array]:
            part = to_device(x[products.start * width : products.stop * width], self._device)
            rows = [images.flatten(0, 1) for images in torch.split(part, width)]
            return to_sparse(self._densities, [partial(_encoded, sae, rows, n_tokens) for sae in self._saes])

        return encode

    def free(self) -> None:
        """Leave the device: what follows needs its memory."""
        for sae in self._saes:
            sae.to("cpu")
        self._saes = []


def _encoded(
    sae: SparseAutoencoder, products: list[Float32[Tensor, "n d_model"]], n_tokens: int
) -> Float32[Tensor, "n_images n_latents"]:
    """Latents of the images of some products: of each the maximum over the image's `n_tokens` rows."""
    parts = [sae.encode(rows).view(-1, n_tokens, sae.n_latents).amax(1) for rows in products]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def put_latent_activations(store: ObjectStore, analysis_key: str, latents: LatentActivations) -> StoredObject:
    """Store as CSR: indptr int64, indices int32, data float32, images int32; metadata n_latents."""
    z = latents.z
    tensors = {
        "indptr": torch.from_numpy(z.indptr.astype(np.int64)),
        "indices": torch.from_numpy(z.indices.astype(np.int32)),
        "data": torch.from_numpy(z.data.astype(np.float32)),
        "images": torch.from_numpy(latents.images.astype(np.int32)),
    }
    return put_tensors(store, latents_key(analysis_key), tensors, {"n_latents": str(z.shape[1])})


def get_latent_activations(store: ObjectStore, analysis_key: str, sha256: str) -> LatentActivations:
    """Read back what `put_latent_activations` stored, verified against its checksum."""
    tensors, metadata = get_tensors(store, latents_key(analysis_key, sha256), sha256=sha256)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    shape = (len(arrays["images"]), int(metadata["n_latents"]))
    z = sp.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
    return LatentActivations(z, arrays["images"])
