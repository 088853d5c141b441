"""What is written for a package and read again is the same SAE; our own format keeps every bit."""

import pytest
import torch
from safetensors.torch import load_file
from tests.sae.exchange.peer_files import D_MODEL, rows

from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.exchange.place import SaePlace
from hsae.sae.exchange.read import read_sae
from hsae.sae.exchange.write import WRITTEN_FORMATS
from hsae.sae.model import SparseAutoencoder
from hsae.sae.variants import VARIANTS

SETTINGS = {"topk": {"k": 5}, "batch_topk": {"k": 5}, "frozen": {"k": 4}, "soft_frozen": {"k": 4},
            "archetypal": {"k": 5}}  # fmt: skip
KINDS = [kind for kind in ("relu", "topk", "frozen", "soft_frozen", "jumprelu", "batch_topk", "gated", "matryoshka",
                           "matryoshka_topk", "archetypal") if kind in VARIANTS]  # fmt: skip
NOT_WRITTEN = {"sparsify": {"relu", "jumprelu", "batch_topk", "gated", "matryoshka"}}


def an_sae(kind: str, *, scale: float = 0.37) -> SparseAutoencoder:
    """Random weights with unit directions, and every tensor of the kind filled."""
    sae = SparseAutoencoder(SaeConfig(kind=kind, expansion=3, seed=7, **SETTINGS.get(kind, {})), D_MODEL)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in sae.state_dict().items():
            drawn = torch.randn(value.shape, generator=generator)
            value.copy_(0.3 * drawn.abs() if name == "threshold" else drawn)
        sae.decoder_weight.div_(sae.decoder_weight.norm(dim=1, keepdim=True))
        sae.input_scale.fill_(scale)
    return sae


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_format_keeps_every_bit(tmp_path, kind):
    sae = an_sae(kind)
    sae.save_pretrained(tmp_path, layer=8, model="facebook/dinov2-base")
    again = SparseAutoencoder.from_pretrained(tmp_path)
    assert again.config == sae.config
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in sae.state_dict().items())
    assert read_sae(SaePlace(str(tmp_path))).trained_at.layer == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format_name", [name for name in WRITTEN_FORMATS if name != "hsae"])
def test_written_and_read_again(tmp_path, kind, format_name):
    sae, x = an_sae(kind), rows()
    if kind in NOT_WRITTEN.get(format_name, ()):
        with pytest.raises(UserError, match=f"no SAE like a {kind} one"):
            sae.save_pretrained(tmp_path / "layers.8", format=format_name)
        assert not (tmp_path / "layers.8").exists()
        return
    folder = sae.save_pretrained(tmp_path / "layers.8", format=format_name, layer=8, model="m")
    once = SparseAutoencoder.from_pretrained(folder)
    latents = sae.encode(x) / sae.input_scale
    assert (once.encode(x) - latents).abs().max() < 1e-5 * latents.abs().max()
    assert (once(x) - sae(x)).abs().max() < 1e-5 * sae(x).abs().max()
    assert once.config.imported.layer == 8
    twice = SparseAutoencoder.from_pretrained(once.save_pretrained(tmp_path / "again", format=format_name, layer=8))
    assert all((value - twice.state_dict()[name]).abs().max() <= 1e-6 for name, value in once.state_dict().items())
    if kind in ("relu", "topk"):
        assert twice.config.imported.key == once.config.imported.key


@pytest.mark.parametrize("format_name", [name for name in WRITTEN_FORMATS if name != "hsae"])
def test_matching_pursuit_is_written_in_our_own_format_alone(tmp_path, format_name):
    with pytest.raises(UserError, match="no other package here encodes like a matching_pursuit SAE: .*--format hsae"):
        an_sae("matching_pursuit").save_pretrained(tmp_path / "sae", format=format_name)
    assert not (tmp_path / "sae").exists()


def test_an_imported_sae_in_our_own_format_says_where_it_is_from(tmp_path):
    sae = an_sae("topk")
    first = SparseAutoencoder.from_pretrained(sae.save_pretrained(tmp_path / "a", format="saelens", layer=2, model="m"))
    again = SparseAutoencoder.from_pretrained(first.save_pretrained(tmp_path / "b"))
    assert again.config == first.config
    named = read_sae(SaePlace(str(tmp_path / "b")), name="mine")
    assert (named.config.imported.key, named.config.imported.name) == (first.config.imported.key, "mine")
    assert (named.config.imported.layer, named.config.imported.format) == (2, "hsae")


def test_one_of_ours_becomes_an_imported_one_by_a_name(tmp_path):
    sae = an_sae("relu")
    sae.save_pretrained(tmp_path, layer=3)
    config = read_sae(SaePlace(str(tmp_path)), name="ours").config
    assert config.imported.layer == 3
    assert set(config.model_dump()) == {"kind", "expansion", "imported"}
    assert SaeConfig.parse(config.model_dump(mode="json")) == config


def test_writing_over_another_sae_replaces_both_files(tmp_path):
    an_sae("relu").save_pretrained(tmp_path)
    sae = an_sae("topk", scale=1.0)
    sae.save_pretrained(tmp_path)
    assert SparseAutoencoder.from_pretrained(tmp_path).config.kind == "topk"
    assert set(load_file(tmp_path / "model.safetensors")) == set(sae.state_dict())


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        an_sae("relu").save_pretrained(tmp_path / "file")
    with pytest.raises(UserError, match="SAEs are not written as msae"):
        an_sae("relu").save_pretrained(tmp_path / "x", format="msae")
