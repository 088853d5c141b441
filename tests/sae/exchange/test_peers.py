"""SAEs that the packages' own code makes and writes, where it can be imported: `make test-peers`.

Latents and reconstructions of the imported SAE equal those of the package to 1e-5, it is scored against a tree, and
what we write for a package is read by its own code.
"""

import importlib
import json
import os
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.sae.exchange.peer_files import D_MODEL, N_LATENTS, K, rows
from tests.sae.exchange.test_round_trips import an_sae

import hsae
from hsae.sae.model import SparseAutoencoder
from hsae.sae.variants import VARIANTS

X = rows(n=256)
TREE = [("a", "left"), ("b", "left"), ("c", "right"), ("d", "right"), ("left", "all"), ("right", "all")]


def module_of(package: str, module: str) -> Any:
    """A module of a package; without the package the test is skipped, unless `make test-peers` runs it."""
    if os.environ.get("HSAE_PEERS") == "required":
        return importlib.import_module(module)
    return pytest.importorskip(module, reason=f"{package} is not installed: make test-peers", exc_type=ImportError)


def filled(module: Any, seed: int = 0) -> Any:
    """Random parameters; directions keep the length that the package gives them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not ("dec" in name.lower() and parameter.ndim == 2) and "dictionary" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module.eval()


def agrees(sae: SparseAutoencoder, latents: torch.Tensor, x_hat: torch.Tensor, lengths) -> None:
    """To 1e-5 of the greatest value."""
    with torch.no_grad():
        assert (sae.encode(X) - latents * lengths).abs().max() <= 1e-5 * max(1, float((latents * lengths).abs().max()))
        assert (sae(X) - x_hat).abs().max() <= 1e-5 * max(1, float(x_hat.abs().max()))
    assert bool((latents != 0).any())
    is_scored(sae)


def is_scored(sae: SparseAutoencoder) -> None:
    """Every latent that fires gets its row, beside shuffled labels and trees."""
    with torch.no_grad():
        z = sae.encode(X)
    labels = ["abcd"[number % 4] for number in range(len(X))]
    scoring = hsae.ScoringConfig(controls=(), n_shuffles=1, n_replicates=2, n_tree_shuffles=2)
    scores = hsae.score(z, labels, taxonomy=TREE, scoring=scoring)
    assert {row["latent"] for row in scores.latent_rows()} == set((z > 0).any(0).nonzero().flatten().tolist())
    assert {row["synset"] for row in scores.node_rows()} >= {"a", "b", "c", "d", "left", "right"}
    assert scores.headline_rows()


def skip_without(kind: str) -> None:
    if kind not in VARIANTS:
        pytest.skip(f"there is no kind {kind}")


# First, as its beartype must be imported before what other packages change.
def test_saev(tmp_path):
    peer = module_of("saev", "saev.nn")
    config = peer.config.SparseAutoencoder(d_vit=D_MODEL, exp_factor=4)
    sae = filled(peer.SparseAutoencoder(config))
    save_file(sae.state_dict(), tmp_path / "sae.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(vars(config)))
    ours = SparseAutoencoder.from_pretrained(tmp_path)
    with torch.no_grad():
        x_hat, latents, _ = sae(X)
        agrees(ours, latents, x_hat, sae.W_dec.norm(dim=1))


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated"])
@pytest.mark.parametrize("subtracts", [True, False])
def test_sae_lens(tmp_path, architecture, subtracts):
    peer = module_of("SAELens", "sae_lens.saes")
    skip_without({"standard": "relu"}.get(architecture, architecture))
    more = {"k": K, "rescale_acts_by_decoder_norm": True} if architecture == "topk" else {}
    name = {"standard": "Standard", "topk": "TopK", "jumprelu": "JumpReLU", "gated": "Gated"}[architecture] + "SAE"
    made, config_class = getattr(peer, name), getattr(peer, f"{name}Config")
    metadata = peer.sae.SAEMetadata(hook_name="blocks.3.hook_resid_post", model_name="vit")
    config = config_class(d_in=D_MODEL, d_sae=N_LATENTS, apply_b_dec_to_input=subtracts, metadata=metadata, **more)
    sae = filled(made(config))
    sae.save_model(tmp_path)
    ours = SparseAutoencoder.from_pretrained(tmp_path)
    with torch.no_grad():
        latents = sae.encode(X)
        # With rescaling its latents are multiplied by the lengths already.
        lengths = 1.0 if architecture == "topk" else sae.W_dec.norm(dim=1)
        agrees(ours, latents, sae.decode(latents), lengths)
    assert ours.config.imported.layer == 3


@pytest.mark.parametrize("kind", ["relu", "topk", "jumprelu", "gated"])
def test_sae_lens_reads_ours(tmp_path, kind):
    peer = module_of("SAELens", "sae_lens")
    skip_without(kind)
    ours = an_sae(kind)
    theirs = peer.SAE.load_from_disk(ours.save_pretrained(tmp_path, format="saelens", layer=3, model="vit"))
    with torch.no_grad():
        latents = ours.encode(X) / ours.input_scale
        assert (theirs.encode(X) - latents).abs().max() <= 1e-5 * latents.abs().max()
        assert (theirs(X) - ours(X)).abs().max() <= 1e-5 * ours(X).abs().max()


@pytest.mark.parametrize(
    "name",
    ["AutoEncoder", "AutoEncoderNew", "AutoEncoderTopK", "JumpReluAutoEncoder", "GatedAutoEncoder", "BatchTopKSAE",
     "MatryoshkaBatchTopKSAE"],
)  # fmt: skip
def test_dictionary_learning(tmp_path, name):
    classes = module_of("dictionary_learning", "dictionary_learning.dictionary")
    skip_without({"JumpReluAutoEncoder": "jumprelu", "GatedAutoEncoder": "gated", "BatchTopKSAE": "batch_topk",
                  "MatryoshkaBatchTopKSAE": "matryoshka"}.get(name, "relu"))  # fmt: skip
    trainers = module_of("dictionary_learning", "dictionary_learning.trainers")
    if name == "AutoEncoderTopK":
        made = trainers.top_k.AutoEncoderTopK(D_MODEL, N_LATENTS, K)
    elif name == "BatchTopKSAE":
        made = trainers.batch_top_k.BatchTopKSAE(D_MODEL, N_LATENTS, K)
    elif name == "MatryoshkaBatchTopKSAE":
        nested = importlib.import_module("dictionary_learning.trainers.matryoshka_batch_top_k")
        made = nested.MatryoshkaBatchTopKSAE(D_MODEL, N_LATENTS, K, [8, 12, 20])
    else:
        made = getattr(classes, name)(D_MODEL, N_LATENTS)
    peer = filled(made)
    if "threshold" in dict(peer.named_buffers()):
        peer.threshold.fill_(1.5)
    state = {key: value.contiguous() for key, value in peer.state_dict().items()}
    save_file(state, tmp_path / "ae.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": name, "k": K, "layer": 4}}))
    ours = SparseAutoencoder.from_pretrained(tmp_path)
    with torch.no_grad():
        latents = peer.encode(X)
        agrees(ours, latents, peer.decode(latents), _lengths(peer))
    again = ours.save_pretrained(tmp_path / "again", format="dictionary_learning", layer=4)
    if name == "AutoEncoderNew":  # it subtracts no bias; ours does, as the older class
        peer = classes.AutoEncoder(D_MODEL, N_LATENTS)
        state = peer.state_dict()
    peer.load_state_dict({key: value.to(state[key]) for key, value in load_file(again / "ae.safetensors").items()})
    with torch.no_grad():
        assert (peer.encode(X) - ours.encode(X)).abs().max() <= 2e-5 * ours.encode(X).abs().max()


def _lengths(peer: Any) -> torch.Tensor:
    return peer.W_dec.norm(dim=1) if hasattr(peer, "W_dec") else peer.decoder.weight.norm(dim=0)


def test_sparsify(tmp_path):
    peer = module_of("sparsify", "sparsify")
    coder = peer.SparseCoder(D_MODEL, peer.SparseCoderConfig(num_latents=N_LATENTS, k=K))
    with torch.no_grad():
        coder.encoder.bias.normal_()
        coder.b_dec.normal_()
    coder.save_to_disk(tmp_path / "layers.5")
    ours = SparseAutoencoder.from_pretrained(tmp_path / "layers.5")
    with torch.no_grad():
        found = coder.encode(X)
        latents = torch.zeros(len(X), N_LATENTS).scatter_(1, found.top_indices, found.top_acts)
        agrees(ours, latents, coder.decode(found.top_acts, found.top_indices), coder.W_dec.norm(dim=1))
    assert ours.config.imported.layer == 5
    written = an_sae("topk")
    again = peer.SparseCoder.load_from_disk(written.save_pretrained(tmp_path / "out", format="sparsify"))
    with torch.no_grad():
        found = again.encode(X)
        latents = written.encode(X) / written.input_scale
        read = torch.zeros_like(latents).scatter_(1, found.top_indices, found.top_acts)
        assert (read - latents).abs().max() <= 1e-5 * latents.abs().max()


@pytest.mark.parametrize("name", ["SAE", "TopKSAE", "JumpSAE", "BatchTopKSAE"])
@pytest.mark.parametrize("encoder", ["linear", "mlp_bn_1"])
def test_overcomplete(tmp_path, name, encoder):
    try:
        peer = importlib.import_module("overcomplete.sae")
    except (ImportError, RuntimeError) as error:  # the latter: a torchvision that does not fit torch
        pytest.skip(f"overcomplete cannot be imported ({error}): make test-peers")
    skip_without({"JumpSAE": "jumprelu", "BatchTopKSAE": "batch_topk"}.get(name, "relu"))
    more = {"top_k": K} if "TopK" in name else {}
    sae = getattr(peer, name)(D_MODEL, N_LATENTS, encoder_module=encoder, **more)
    sae.train()
    with torch.no_grad():
        for _ in range(3):
            sae(3 * torch.randn(64, D_MODEL))
    filled(sae)
    config: dict[str, Any] = {"class": name, "top_k": K}
    if name == "BatchTopKSAE":
        sae.running_threshold = torch.tensor(1.5)
        config["running_threshold"] = 1.5
    save_file({key: value.contiguous() for key, value in sae.state_dict().items()}, tmp_path / "sae.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours = SparseAutoencoder.from_pretrained(tmp_path)
    with torch.no_grad():
        _, latents, x_hat = sae(X)
        agrees(ours, latents, x_hat, sae.get_dictionary().norm(dim=1))
