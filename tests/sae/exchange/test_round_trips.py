"""What is written for a package and read again is the same SAE; our own format keeps every bit."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tests.sae.exchange.peer_files import D_MODEL, rows, saelens_config, weights, write

from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.exchange.hook_points import TrainedAt
from hsae.sae.exchange.place import SaePlace
from hsae.sae.exchange.read import read_sae
from hsae.sae.exchange.write import WRITTEN_FORMATS, write_folder, written_files
from hsae.sae.model import SparseAutoencoder
from hsae.sae.variants import VARIANTS

SETTINGS = {
    "topk": {"k": 5}, "batch_topk": {"k": 5}, "frozen": {"k": 4}, "soft_frozen": {"k": 4}, "archetypal": {"k": 5},
    "matching_pursuit": {"k": 3},
}  # fmt: skip
OURS_ALONE = {"matching_pursuit"}
"""Kinds that no other package encodes like."""
WRITTEN = [kind for kind in VARIANTS if kind not in OURS_ALONE]
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


@pytest.mark.parametrize("kind", VARIANTS)
def test_our_own_format_keeps_every_bit(tmp_path, kind):
    sae = an_sae(kind)
    sae.save_pretrained(tmp_path, layer=8, model="facebook/dinov2-base")
    again = SparseAutoencoder.from_pretrained(tmp_path)
    assert again.config == sae.config
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in sae.state_dict().items())
    assert read_sae(SaePlace(str(tmp_path))).trained_at.layer == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("kind", WRITTEN)
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


@pytest.mark.parametrize("kind", sorted(OURS_ALONE))
@pytest.mark.parametrize("format_name", [name for name in WRITTEN_FORMATS if name != "hsae"])
def test_what_no_package_encodes_like_is_written_in_our_own_format_alone(tmp_path, kind, format_name):
    with pytest.raises(UserError, match=f"no other package here encodes like a {kind} SAE: .*--format hsae"):
        an_sae(kind).save_pretrained(tmp_path / "sae", format=format_name)
    assert not (tmp_path / "sae").exists()


@pytest.mark.parametrize("format_name", WRITTEN_FORMATS)
@pytest.mark.parametrize(
    ("hook", "hook_point"),
    [
        ("mlp", "blocks.8.hook_mlp_out"),
        ("attention", "blocks.8.hook_attn_out"),
        ("encoder.layer.*.mlp.fc1", "encoder.layer.8.mlp.fc1"),
        ("layers.*.blocks.*.mlp", "layers.*.blocks.*.mlp"),
        ("embedding", "embedding"),
    ],
)
def test_the_hook_point_is_read_again(tmp_path, format_name, hook, hook_point):
    """In sparsify's files the folder alone says it."""
    folder = tmp_path / hook_point
    an_sae("topk").save_pretrained(folder, format=format_name, layer=8, hook=hook)
    is_told = format_name != "sparsify" or "." in hook_point
    layer = 8 if format_name == "sparsify" else None
    found = read_sae(SaePlace(str(folder)), name="mine", layer=layer, hook=None if is_told else hook)
    origin = found.config.imported
    assert (origin.hook, origin.layer, origin.hook_point) == (hook, 8, hook_point if is_told else None)
    again = SparseAutoencoder.from_tensors(found.tensors, found.config)
    second = read_sae(SaePlace(str(again.save_pretrained(tmp_path / "again")))).trained_at
    assert (second.hook, second.layer, second.hook_point) == (hook, 8, hook_point)


@pytest.mark.parametrize("format_name", ["saelens", "dictionary_learning"])
def test_a_module_outside_the_blocks_is_named_again(tmp_path, format_name):
    """Our own format says that it is a hook point of ours; others have a name that could be of any program."""
    an_sae("topk").save_pretrained(tmp_path / "a", layer=5, hook="layernorm")
    assert read_sae(SaePlace(str(tmp_path / "a"))).trained_at.hook == "layernorm"
    an_sae("topk").save_pretrained(tmp_path / "b", format=format_name, layer=5, hook="layernorm")
    with pytest.raises(UserError, match="trained on layernorm, a place that hsae does not know"):
        read_sae(SaePlace(str(tmp_path / "b")))
    found = read_sae(SaePlace(str(tmp_path / "b")), hook="layernorm")
    assert (found.trained_at.hook, found.trained_at.layer) == ("layernorm", 5)


def test_files_of_the_residual_stream_are_as_they_were_before_hook_points(tmp_path):
    an_sae("topk").save_pretrained(tmp_path, layer=8)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["trained_at"] == {"hook_point": "blocks.8.hook_resid_post", "layer": 8}
    imported = read_sae(SaePlace(str(tmp_path)), name="mine").config.model_dump(mode="json")["imported"]
    assert "hook" not in imported


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


def peer(folder, hook_name):
    metadata = {"hook_name": hook_name, "hook_layer": 3}
    return write(folder, saelens_config("standard", metadata=metadata), weights())


@pytest.mark.parametrize(("hook_name", "hook"), [("resid_8", "residual"), ("resid_8", "mlp"), ("trunk", "layernorm")])
def test_a_place_that_only_the_user_knew_is_written_and_read_again(tmp_path, hook_name, hook):
    first = SparseAutoencoder.from_pretrained(peer(tmp_path / "a", hook_name), hook=hook)
    first.save_pretrained(tmp_path / "b")
    assert SparseAutoencoder.from_pretrained(tmp_path / "b").config == first.config
    named = read_sae(SaePlace(str(tmp_path / "b")), name="mine").config.imported
    assert (named.hook, named.hook_point, named.layer) == (hook, hook_name, 3)


def test_folders_that_left_the_residual_stream_out_are_read(tmp_path):
    first = SparseAutoencoder.from_pretrained(peer(tmp_path / "a", "resid_8"), hook="residual")
    first.save_pretrained(tmp_path / "b")
    config = tmp_path / "b" / "config.json"
    content = json.loads(config.read_text())
    assert content["trained_at"].pop("hook") == "residual"
    config.write_text(json.dumps(content))
    assert SparseAutoencoder.from_pretrained(tmp_path / "b").config == first.config
    assert read_sae(SaePlace(str(tmp_path / "b"))).trained_at.hook == "residual"
    corrected = read_sae(SaePlace(str(tmp_path / "b")), name="mine", hook="mlp")
    assert corrected.config.imported.hook == "mlp", "nobody had said the residual stream of an old one"


@pytest.mark.parametrize("hook_point", ["resid_8", "transformer.resblocks.3.mlp"])
def test_a_stored_sae_that_was_taken_for_the_residual_stream_is_exported_readably(tmp_path, hook_point):
    first = SparseAutoencoder.from_pretrained(peer(tmp_path / "a", "blocks.3.hook_resid_post"))
    origin = first.config.imported.model_copy(update={"hook_point": hook_point})
    config = first.config.model_copy(update={"imported": origin})
    trained_at = TrainedAt(hook_point=hook_point, layer=3, hook=origin.hook)
    write_folder(written_files(config, first.to_tensors(), trained_at), tmp_path / "b")
    found = read_sae(SaePlace(str(tmp_path / "b")))
    assert (found.config, found.trained_at.hook, found.trained_at.layer) == (config, "residual", 3)
