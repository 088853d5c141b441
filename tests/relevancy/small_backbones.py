"""Tiny backbones with random weights, an SAE for them, and the slow way to make a map."""

from pathlib import Path

import torch
import transformers
from tests.backbones.conftest import MODELS, image_processor, new_model, random_images, save

from hsae.backbones.architectures import ARCHITECTURES
from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder

CPU = torch.device("cpu")


def saved(kind: str, folder: Path) -> Path:
    """The folder of a backbone of 4 blocks on 4 x 4 patches."""
    return save(folder / kind, new_model(kind), image_processor(MODELS[kind][3]))


def loaded(folder: Path, layer: int) -> Backbone:
    return Backbone.load(inspect_backbone(str(folder)), layers=[layer], device=CPU)


def pixels(backbone: Backbone, n_images: int) -> torch.Tensor:
    return backbone.pixel_values(random_images(n_images))


def random_sae(kind: str = "relu", n_latents: int = 48, d_model: int = 24, seed: int = 1) -> SparseAutoencoder:
    sae = SparseAutoencoder(
        SaeConfig(kind=kind, expansion=n_latents // d_model, **({"k": 4} if kind == "topk" else {})), d_model
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        sae.input_scale.fill_(0.5)
    return sae.requires_grad_(False)


def slow_chefer(
    kind: str, folder: Path, image: torch.Tensor, layer: int, sae: SparseAutoencoder, latent: int, tokens: str
) -> torch.Tensor:
    """The paper's steps for one image and one latent, with the whole model and the whole matrix R."""
    model_class = getattr(transformers, MODELS[kind][1])
    model = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    flag = {"interpolate_pos_encoding": False} if ARCHITECTURES[kind].interpolation_flag else {}
    out = model(image[None], output_attentions=True, output_hidden_states=True, **flag)
    attentions = out.attentions[: layer + 1]
    for attention in attentions:
        attention.retain_grad()
    stream = out.hidden_states[layer + 1][0]
    n_patches = 16
    n_prefix = len(stream) - n_patches
    patches = stream[n_prefix:]
    x = {"cls": stream[:1], "mean": patches.mean(0, keepdim=True), "patches": patches}[tokens]
    pre = (x * sae.input_scale - sae.pre_bias) @ sae.encoder_weight.T + sae.encoder_bias
    z = sae.encode(x)[:, latent].detach()
    which = int(z.argmax()) if bool((z > 0).any()) else int(pre[:, latent].argmax())
    pre[which, latent].backward()
    R = torch.eye(len(stream))
    for attention in attentions:
        A = torch.zeros_like(R)
        n_heads = attention.shape[1]
        for head in range(n_heads):
            for i in range(len(stream)):
                for j in range(len(stream)):
                    product = attention.grad[0, head, i, j] * attention[0, head, i, j].detach()
                    A[i, j] += max(product, torch.zeros(())) / n_heads
        R = R + A @ R
    row = {"cls": R[0], "mean": R[n_prefix:].mean(0), "patches": R[n_prefix + which]}[tokens]
    return row[n_prefix:].view(4, 4)
