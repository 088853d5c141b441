"""Every latent's activation on every image: computed, stored and read back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float32, Int32

from hsae.pipeline.stages.activation_reader import iterate_plain_images
from hsae.pipeline.stages.context import StageContext
from hsae.sae.model import SparseAutoencoder
from hsae.store.activations import ActivationManifest
from hsae.store.keys import latents_key
from hsae.store.objects import ObjectStore, StoredObject
from hsae.store.tensors import get_tensors, put_tensors

_ROWS_PER_BATCH = 4096


@dataclass(frozen=True, slots=True)
class RawActivations:
    """The input of the SAE.

    Attributes:
        mean: float32[n_images, d_model]; for patch tokens their mean.
        pooled: for patch tokens, every neuron's greatest positive part over an image's patches, then the greatest
            negative parts, float32[n_images, 2 * d_model]: pooled like the latents. None for one token per image.
    """

    mean: Float32[np.ndarray, "n_images d_model"]
    pooled: "sp.csr_array[np.float32] | None"


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
    saes: Sequence[SparseAutoencoder], manifest: ActivationManifest, context: StageContext
) -> tuple[list[LatentActivations], RawActivations]:
    """Encode the plain view of every image with each SAE; also returns the raw activations.

    The maximum over an image's patches is this project's definition: a latent fires on an image if it fires on any part
    of it.
    """
    n_tokens = manifest.n_tokens
    saes = [sae.to(context.device) for sae in saes]
    latents: list[list[sp.csr_array]] = [[] for _ in saes]
    raw: list[torch.Tensor] = []
    pooled: list[sp.csr_array] = []
    images: list[torch.Tensor] = []
    with torch.inference_mode():
        for plain in iterate_plain_images(context, manifest):
            x = plain.activations
            raw.append(plain.means())
            if n_tokens > 1:
                greatest = torch.cat((x.amax(1), -x.amin(1)), dim=1).clamp(min=0)
                pooled.append(sp.csr_array(greatest.numpy()))
            images.append(plain.image_index)
            for part_cpu in torch.split(x, max(1, context.micro_batch(_ROWS_PER_BATCH) // n_tokens)):
                part = part_cpu.to(context.device)
                for sae, encoded in zip(saes, latents, strict=True):
                    z = sae.encode(part.flatten(0, 1)).view(-1, n_tokens, sae.n_latents).amax(1)
                    encoded.append(sp.csr_array(z.cpu().numpy()))
            context.check()
    image_index = torch.cat(images).numpy()
    activations = [
        LatentActivations(sp.csr_array(sp.vstack(encoded, format="csr")), image_index) for encoded in latents
    ]
    whole = sp.csr_array(sp.vstack(pooled, format="csr")) if pooled else None
    return activations, RawActivations(torch.cat(raw).numpy(), whole)


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
