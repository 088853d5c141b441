"""Hook points that users say: by any form of their name, beside what the files say, and written again."""

import importlib
import json

import pytest
from tests.sae.exchange.test_round_trips import an_sae

from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.exchange.hook_points import TrainedAt, settled_place
from hsae.sae.exchange.place import SaePlace
from hsae.sae.exchange.read import read_sae
from hsae.sae.origin import SaeOrigin


@pytest.mark.parametrize(
    ("said", "hook"),
    [
        ("encoder.layer.8.mlp", "encoder.layer.*.mlp"),
        ("encoder.layer.8", "residual"),
        ("blocks.8.hook_mlp_out", "mlp"),
        ("encoder.layer.*.mlp", "encoder.layer.*.mlp"),
    ],
)
def test_a_hook_point_is_written_by_our_name(tmp_path, said, hook):
    an_sae("topk").save_pretrained(tmp_path / "a", hook=said, layer=8)
    an_sae("topk").save_pretrained(tmp_path / "b", hook=said, layer=None if "8" in said else 8)
    an_sae("topk").save_pretrained(tmp_path / "c", hook=hook, layer=8)
    written = [json.loads((tmp_path / name / "config.json").read_text())["trained_at"] for name in "abc"]
    assert written[0] == written[1] == written[2]
    found = read_sae(SaePlace(str(tmp_path / "a"))).trained_at
    assert (found.hook, found.layer) == (hook, 8)


def test_a_hook_point_of_another_layer_is_not_written(tmp_path):
    with pytest.raises(UserError, match=r"encoder\.layer\.8\.mlp is of layer 8, not 5: correct the layer or the hook"):
        an_sae("topk").save_pretrained(tmp_path / "a", hook="encoder.layer.8.mlp", layer=5)
    assert not (tmp_path / "a").exists()
    with pytest.raises(UserError, match="is of layer 8, not 5"):
        settled_place(TrainedAt(), hook="encoder.layer.8.mlp", layer=5)


def test_a_file_that_names_one_block_is_of_every_block():
    found = settled_place(TrainedAt("encoder.layer.8.mlp", layer=8, hook="encoder.layer.8.mlp"))
    assert (found.hook, found.layer) == ("encoder.layer.*.mlp", 8)
    outside = settled_place(TrainedAt("encoder.layers.1.downsample", layer=3, hook="encoder.layers.1.downsample"))
    assert (outside.hook, outside.layer) == ("encoder.layers.1.downsample", 3), "the number is that of a stage"


@pytest.mark.parametrize(
    ("hook", "starred"),
    [
        ("encoder.layers.1.blocks.2.mlp", "encoder.layers.*.blocks.*.mlp"),
        ("encoder.stages.0.layers.2.mlp", "encoder.stages.*.layers.*.mlp"),
        ("layers.1.blocks.2", "layers.*.blocks.*"),
        ("encoder.layer.8.mlp.layers.0", "encoder.layer.*.mlp.layers.0"),
    ],
)
def test_one_block_of_a_stage_is_given_with_stars(hook, starred):
    with pytest.raises(UserError) as caught:
        settled_place(TrainedAt(), hook=hook)
    assert f"give {starred} and the layer (--layer)" in str(caught.value)
    found = settled_place(TrainedAt(), hook=starred, layer=2)
    assert (found.hook, found.layer) == ("residual" if starred.endswith("*") else starred, 2)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ("layers.8.mlp", "mlp"),
        ("encoder.layer.8.output", "mlp"),
        ("blocks.8.hook_mlp_out", "encoder.layer.*.mlp"),
        ("blocks.8.hook_attn_out", "encoder.layer.8.attention"),
    ],
)
def test_a_name_and_a_path_may_be_one_place_and_the_user_says_which(files, said):
    found = settled_place(TrainedAt(files), hook=said)
    assert (found.hook, found.layer) == (said.replace("8", "*"), 8)
    with pytest.raises(UserError, match="which is layer 8 here, not 9"):
        settled_place(TrainedAt(files), hook=said.replace("8", "*"), layer=9)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ("layers.8.mlp", "attention"), ("layers.8.self_attn", "mlp"), ("blocks.8.hook_mlp_out", "layers.*.attn"),
        ("layers.8.mlp", "residual"), ("layers.8.mlp", "embedding"), ("blocks.8.hook_resid_post", "layers.*.mlp"),
        ("layers.8.mlp", "layers.*.norm1"),
    ],
)  # fmt: skip
def test_places_that_differ_for_sure_are_refused(files, said):
    with pytest.raises(UserError, match="correct --hook"):
        settled_place(TrainedAt(files), hook=said)


@pytest.mark.parametrize("hook", ["reisdual", "Residual", "attentions", "mlps", "embeding", ""])
def test_a_misspelt_hook_point(hook):
    with pytest.raises(UserError) as caught:
        settled_place(TrainedAt(), hook=hook)
    listed = "give residual, attention, mlp, embedding, or the path of a module"
    assert str(caught.value) == f"there is no hook point {hook!r}: {listed}"


@pytest.mark.parametrize("hook", ["embeddings", "layernorm", "patch_embed", "rope_embeddings", "head", "pooler"])
def test_a_module_outside_the_blocks_is_no_misspelling(hook):
    assert settled_place(TrainedAt(), hook=hook).hook == hook


def test_the_command_that_an_import_prints_can_be_pasted(capsys):
    origin = SaeOrigin(name="peer", format="saelens", key="0" * 64, d_model=4, n_latents=8, layer=8,
                       hook="encoder.layers.*.mlp")  # fmt: skip
    printed = importlib.import_module("hsae.cli.saes.import_")
    printed._print(SaeConfig(kind="topk", k=2, imported=origin), is_new=True)
    assert "`hsae-admin submit --sae-from peer --layer 8 --hook 'encoder.layers.*.mlp'`" in capsys.readouterr().out
