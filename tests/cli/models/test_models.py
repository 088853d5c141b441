"""hsae-admin models: the families, and what a model is made of."""

import json

import pytest
import torch
import transformers

from hsae.backbones.architectures import ARCHITECTURES, LANGUAGE_MODELS, TOWERS
from hsae.demo import backbone_folder


def test_every_family_is_listed(admin):
    rows = json.loads(admin(None, "models", "list", "--json").output)
    by_type = {(row["library"], row["type"]): row for row in rows}
    transformers_types = {name for library, name in by_type if library == "transformers"}
    assert transformers_types == {*ARCHITECTURES, *TOWERS, *LANGUAGE_MODELS}
    assert by_type["transformers", "dinov2_with_registers"]["tokens"] == "cls, registers, patches, mean"
    assert by_type["transformers", "swin"]["tokens"] == "patches, mean"
    assert by_type["transformers", "convnext"]["hooks"] == ["residual", "mlp"]
    assert "embedding" in by_type["transformers", "clip"]["hooks"]
    assert ("timm", "Eva") in by_type
    text = admin(None, "models", "list").output
    for word in ("dinov2", "timm:vit_base_patch14_dinov2", "open_clip:ViT-B-32/", "llava", "residual, attention, mlp"):
        assert word in text


def test_what_a_model_is_made_of(admin):
    shown = json.loads(admin(None, "models", "show", backbone_folder(), "--json").output)
    assert (shown["model_type"], shown["n_layers"], shown["d_model"], shown["n_patches"]) == ("dinov2", 6, 192, 64)
    assert shown["tokens"] == ["cls", "patches", "mean"]
    assert [row["layer"] for row in shown["layers"]] == list(range(6))
    assert shown["layers"][2] == {
        "layer": 2, "module": "encoder.layer.2", "width": 192, "n_patches": 64, "prisma": "blocks.2.hook_resid_post",
    }  # fmt: skip
    hooks = {row["hook"]: row for row in shown["hooks"]}
    assert set(hooks) == {"residual", "attention", "mlp"}
    assert hooks["mlp"]["module"] == "encoder.layer.*.layer_scale2"
    assert hooks["attention"]["prisma"] == "blocks.N.hook_attn_out"
    text = admin(None, "models", "show", backbone_folder()).output
    for word in ("dinov2", "6 blocks, width 192", "64 x 64", "tokens: cls, patches, mean",
                 "encoder.layer.*.layer_scale1", "blocks.5.hook_resid_post", "path of any module"):  # fmt: skip
        assert word in text


def test_a_model_in_stages_says_the_width_of_every_block(admin, tmp_path):
    config = transformers.ConvNextConfig(hidden_sizes=[12, 24], depths=[1, 2], num_stages=2, image_size=32)
    transformers.ConvNextModel(config).save_pretrained(tmp_path)
    processor = transformers.ViTImageProcessorPil(size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path)
    shown = json.loads(admin(None, "models", "show", tmp_path, "--json").output)
    assert [(row["width"], row["n_patches"]) for row in shown["layers"]] == [(12, 64), (24, 16), (24, 16)]
    assert shown["tokens"] == ["patches", "mean"]
    assert {row["hook"]: row["width"] for row in shown["hooks"]} == {"residual": "12 to 24", "mlp": "12 to 24"}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./nowhere", "Error: there is no folder ./nowhere"),
        ("{bert}", "is of type bert, which is no supported vision model with blocks: choose one of type"),
        ("timm:some_model", "timm"),
    ],
)
def test_what_cannot_be_shown(model, message, admin, tmp_path):
    transformers.BertConfig().save_pretrained(tmp_path)
    result = admin(None, "models", "show", model.format(bert=tmp_path))
    assert result.exit_code == 1
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert torch.is_grad_enabled()
