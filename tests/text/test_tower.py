"""The text tower: unit embeddings, ensembles, words that it knows, and models that have none."""

import shutil

import numpy as np
import pytest
import torch
import transformers

from hsae.demo import backbone_folder, clip_folder
from hsae.errors import ServiceError, UserError
from hsae.text.models import find_text_model
from hsae.text.tower import TextTower


def test_embeddings_are_those_of_the_whole_model(tower):
    texts = ["a drawing of a dog", "owl", "a bird: warm-blooded egg-laying vertebrate"]
    model = transformers.CLIPModel.from_pretrained(clip_folder(), dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(clip_folder())
    found = tower.embed(texts)
    for text, row in zip(texts, found, strict=True):
        with torch.no_grad():
            alone = model.get_text_features(**{
                name: value for name, value in tokenizer([text], truncation=True, return_tensors="pt").items()
                if name in ("input_ids", "attention_mask")
            }).pooler_output[0]  # fmt: skip
        np.testing.assert_allclose(row, alone / alone.norm(), atol=1e-5)
    assert torch.equal(found, tower.embed(texts))


def test_an_ensemble_is_the_mean_of_unit_embeddings_at_length_one(tower):
    groups = [["dog", "a photo of a dog"], ["owl"], ["a cat", "cat", "a drawing of a cat"]]
    found = tower.ensembled(groups)
    for group, row in zip(groups, found, strict=True):
        total = sum(tower.embed([text])[0].double() for text in group)
        np.testing.assert_allclose(row, total / total.norm(), atol=1e-5)


def test_a_text_of_any_length_is_read(tower):
    assert tower.embed(["dog " * 500]).shape == (1, 64)


def test_which_words_it_knows(tower):
    assert tower.knows("dog")
    assert tower.knows("qqqq dog")
    assert not tower.knows("qqqq")
    assert not tower.knows("")


def test_a_siglip_model_reads_full_length(tmp_path):
    """Random weights: what counts is that its texts are filled up, and that nothing else is needed."""
    folder = _small_siglip(tmp_path)
    model = find_text_model(str(folder))
    tower = TextTower.load(model, torch.device("cpu"))
    whole = transformers.SiglipModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(["a dog"], padding="max_length", max_length=12, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = whole.get_text_features(input_ids=ids).pooler_output[0]
    np.testing.assert_allclose(tower.embed(["a dog"])[0], expected / expected.norm(), atol=1e-5)


def test_a_model_without_text_tower_is_one_line(tmp_path):
    with pytest.raises(UserError, match="is of type dinov2 and has no text tower: choose a CLIP or SigLIP model"):
        find_text_model(str(backbone_folder()))
    with pytest.raises(UserError, match="is no model of transformers"):
        find_text_model("timm:vit_tiny_patch16_224")
    with pytest.raises(UserError, match=f"there is no folder {tmp_path}/none"):
        find_text_model(f"{tmp_path}/none")


def test_missing_and_changed_files_are_one_line(tmp_path, text_model):
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder(), folder)
    copied = find_text_model(str(folder), revision=text_model.revision, tokenizer=text_model.tokenizer)
    assert (copied.revision, copied.tokenizer) == (text_model.revision, text_model.tokenizer)
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(UserError, match="is another one than at submit"):
        find_text_model(str(folder), tokenizer=text_model.tokenizer)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="has no tokenizer"):
        find_text_model(str(folder))


def test_a_model_in_the_hub_s_cache_is_known_by_its_commit(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--somebody--tiny-clip"
    shutil.copytree(clip_folder(), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    found = find_text_model("somebody/tiny-clip", cache_dir=tmp_path)
    assert (found.name, found.revision, found.tokenizer) == ("somebody/tiny-clip", commit, "")
    (repository / "snapshots" / commit / "tokenizer.json").unlink()
    with pytest.raises((ServiceError, UserError), match="tokenizer"):
        find_text_model("somebody/tiny-clip", cache_dir=tmp_path)


def test_weights_without_text_tower_are_one_line(tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder(), folder)
    vision = transformers.CLIPVisionModelWithProjection.from_pretrained(folder)
    config = (folder / "config.json").read_text()
    vision.save_pretrained(folder)
    (folder / "config.json").write_text(config)
    with pytest.raises(UserError, match="the files of .* have no text tower"):
        TextTower.load(find_text_model(str(folder)), torch.device("cpu"))


def _small_siglip(folder):
    text = {
        "vocab_size": 2000, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 12, "projection_size": 16,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 16, "patch_size": 8,
    }  # fmt: skip
    torch.manual_seed(0)
    transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(clip_folder() / file, folder)
    return folder
