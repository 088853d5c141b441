"""Small SAEs in the files of other packages, written from their documented layout, with the packages' formulas."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

D_MODEL, N_LATENTS, K = 12, 40, 5
Encode = Callable[[torch.Tensor], torch.Tensor]


def weights(seed: int = 0, *, unit: bool = False) -> dict[str, torch.Tensor]:
    """`W_enc` [d, n], `b_enc`, `W_dec` [n, d], `b_dec`; without `unit`, directions of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    decoder = torch.randn(N_LATENTS, D_MODEL, generator=generator)
    decoder = decoder / decoder.norm(dim=1, keepdim=True)
    if not unit:
        decoder = decoder * torch.linspace(0.2, 3, N_LATENTS)[:, None]
    return {
        "W_enc": torch.randn(D_MODEL, N_LATENTS, generator=generator),
        "b_enc": torch.randn(N_LATENTS, generator=generator),
        "W_dec": decoder,
        "b_dec": 2 * torch.randn(D_MODEL, generator=generator),
    }


def rows(seed: int = 1, n: int = 64) -> torch.Tensor:
    """Activations."""
    return 3 * torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(seed))


def keep_largest(pre: torch.Tensor, k: int, by: torch.Tensor | None = None) -> torch.Tensor:
    """The k largest of each row, a row at a time, after a ReLU."""
    kept = torch.zeros_like(pre)
    for row, values in enumerate(pre if by is None else pre * by):
        for latent in sorted(range(len(values)), key=lambda j: (-float(values[j]), j))[:k]:
            kept[row, latent] = pre[row, latent].clamp_min(0)
    return kept


def write(
    folder: Path, config: dict | None, tensors: dict[str, torch.Tensor], *, name: str = "sae", config_name="cfg.json"
):
    """One safetensors file and, unless None, its config."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / f"{name}.safetensors")
    if config is not None:
        (folder / config_name).write_text(json.dumps(config))
    return folder


def saelens_config(architecture: str, **more: object) -> dict:
    """`cfg.json` of SAELens 6."""
    return {
        "architecture": architecture, "d_in": D_MODEL, "d_sae": N_LATENTS, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": {"hook_name": "blocks.8.hook_resid_post", "model_name": "some-vit"}, **more,
    }  # fmt: skip
