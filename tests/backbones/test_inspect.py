import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import transformers

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.backbones.spec import BackboneSize, BackboneSpec, check_layers
from hsae.errors import UserError

from .conftest import MODELS, edit_json, image_processor, new_model, save

CPU = torch.device("cpu")


@pytest.fixture
def folder(model_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """A tiny Dinov2 to spoil."""
    return Path(shutil.copytree(model_folder("dinov2"), tmp_path / "model"))


def refusal(folder: Path | str) -> str:
    with pytest.raises(UserError) as error:
        inspect_backbone(str(folder))
    line = str(error.value)
    assert "\n" not in line
    return line


def test_a_spec_is_json_and_back(folder: Path) -> None:
    spec = inspect_backbone(str(folder))
    assert BackboneSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.preprocessing["processor"] == "BitImageProcessor"
    assert spec.preprocessing["backend"] == "pil"
    assert spec.preprocessing["image_size"] == [32, 32]
    assert json.loads(json.dumps(spec.preprocessing)) == spec.preprocessing


def test_the_path_is_absolute_and_the_way_to_it_does_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = inspect_backbone(str(folder))
    assert spec.name == str(folder.resolve())
    monkeypatch.chdir(folder.parent)
    assert inspect_backbone("model") == inspect_backbone("./model/") == spec
    monkeypatch.setenv("HOME", str(folder.parent))
    assert inspect_backbone("~/model") == spec


def test_the_revision_follows_the_files(folder: Path, tmp_path: Path) -> None:
    spec = inspect_backbone(str(folder))
    assert spec.revision.startswith("sha256-")
    assert len(spec.revision) == 7 + 64
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    (moved / "README.md").write_text("not part of the model")
    assert inspect_backbone(str(moved)).revision == spec.revision
    seen = {spec.revision}
    for file in ("config.json", "preprocessor_config.json", "model.safetensors"):
        content = (moved / file).read_bytes()
        if file.endswith("json"):
            (moved / file).write_bytes(content + b"\n")
        else:
            (moved / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        seen.add(inspect_backbone(str(moved)).revision)
    assert len(seen) == 4


def test_files_that_changed_since_are_not_loaded(folder: Path) -> None:
    spec = inspect_backbone(str(folder))
    edit_json(folder / "preprocessor_config.json", image_mean=[0, 0, 0])
    with pytest.raises(UserError, match=f"the files in {folder} have revision sha256-.*, not {spec.revision}"):
        Backbone.load(spec, layers=[0], device=CPU)
    with pytest.raises(UserError, match="submit anew"):
        inspect_backbone(str(folder), revision=spec.revision)
    again = inspect_backbone(str(folder))
    assert again.preprocessing["image_mean"] == [0, 0, 0]
    assert inspect_backbone(str(folder), revision=again.revision) == again


def test_preprocessing_that_differs_between_machines(folder: Path) -> None:
    spec = inspect_backbone(str(folder))
    other = spec.model_copy(update={"preprocessing": spec.preprocessing | {"backend": "torchvision"}})
    with pytest.raises(UserError, match="is another one here than where the job was submitted"):
        Backbone.load(other, layers=[0], device=CPU)


def test_inspecting_reads_no_weights(folder: Path) -> None:
    """Bytes that are no weights at all are found when they are needed."""
    (folder / "model.safetensors").write_bytes(b"nonsense")
    spec = inspect_backbone(str(folder))
    with pytest.raises(UserError, match="the weights of .* cannot be loaded"):
        Backbone.load(spec, layers=[0], device=CPU)


def test_patches_come_from_what_the_processor_gives(folder: Path) -> None:
    edit_json(folder / "preprocessor_config.json", size={"shortest_edge": 40})  # crops to 32
    assert inspect_backbone(str(folder)).n_patches == 16
    edit_json(folder / "preprocessor_config.json", crop_size={"height": 24, "width": 44})
    assert inspect_backbone(str(folder)).n_patches == 3 * 5  # 44 pixels hold 5 patches of 8
    spec = inspect_backbone(str(folder))
    backbone = Backbone.load(spec, layers=[0], device=CPU)
    assert backbone.activations(torch.zeros(1, 3, 24, 44), "patches")[0].shape == (1, 15, 24)
    with pytest.raises(UserError, match="contradicts its preprocessor"):
        backbone.activations(torch.zeros(1, 3, 32, 32), "patches")


@pytest.mark.parametrize("model_type", MODELS)
def test_the_size_is_read_before_anything_else(
    model_folder: Callable[[str], Path], tmp_path: Path, model_type: str
) -> None:
    config = model_folder(model_type) / "config.json"
    spec = inspect_backbone(str(config.parent))
    shutil.copy(config, tmp_path)  # alone, so that whatever comes next fails

    def refuse(size: BackboneSize) -> None:
        raise UserError(f"{size.name}: {size.n_layers} blocks of width {size.d_model}")

    with pytest.raises(UserError) as refused:
        inspect_backbone(str(tmp_path), accept=refuse)
    assert str(refused.value) == f"{tmp_path}: {spec.n_layers} blocks of width {spec.d_model}"


@pytest.mark.parametrize("n_layers", [None, "4", True, 0])
def test_a_size_that_the_configuration_does_not_tell_is_not_asked_about(folder: Path, n_layers: object) -> None:
    edit_json(folder / "config.json", num_hidden_layers=n_layers)
    seen: list[BackboneSize] = []
    with suppress(UserError):
        inspect_backbone(str(folder), accept=seen.append)
    assert seen == []


def test_layers(folder: Path) -> None:
    spec = inspect_backbone(str(folder))
    assert check_layers(spec, [3, 0, 3]) == (0, 3)
    for wrong, named in (([4], "no layer 4"), ([-1, 0, 9], "no layer -1, 9"), ([], "no layer was asked")):
        with pytest.raises(UserError, match=f"{named}.* 0 to 3"):
            check_layers(spec, wrong)
    with pytest.raises(UserError, match="no layer 4"):
        Backbone.load(spec, layers=[4], device=CPU)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (transformers.BertConfig(), "bert"),
        (transformers.ResNetConfig(), "resnet"),
    ],
)
def test_what_is_no_vision_transformer(folder: Path, config: transformers.PretrainedConfig, kind: str) -> None:
    config.save_pretrained(folder)
    line = refusal(folder)
    assert f"is of type {kind}, which is no supported vision model" in line
    for supported in (*MODELS, "clip", "siglip"):
        assert supported in line


def test_code_of_a_model_is_never_run(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="own", auto_map={"AutoModel": "own.Model", "AutoConfig": "own.Config"})
    (folder / "own.py").write_text("raise SystemExit('ran')")
    assert "is of type own" in refusal(folder)
    edit_json(folder / "config.json", model_type="dinov2")
    edit_json(folder / "preprocessor_config.json", auto_map={"AutoImageProcessor": "own.Processor"})
    Backbone.load(inspect_backbone(str(folder)), layers=[0], device=CPU)


def test_folders_that_lack_something(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "no weights in safetensors format" in refusal(folder)
    (folder / "preprocessor_config.json").unlink()
    assert "has no preprocessor_config.json" in refusal(folder)
    assert "is a file" in refusal(folder / "config.json")
    (folder / "config.json").unlink()
    assert "has no config.json" in refusal(folder)
    assert "there is no folder" in refusal(folder / "nowhere")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "is no JSON file"),
        ("config.json", "[]", "holds no JSON object"),
        ("config.json", "{}", "names no model_type"),
        ("config.json", '{"model_type": 3}', "names no model_type"),
        ("config.json", '{"model_type": "dinov2", "hidden_size": "wide"}', "config.json is no good"),
        ("config.json", '{"model_type": "dinov2", "num_channels": 1}', "1 channels"),
        ("config.json", '{"model_type": "dinov2", "patch_size": 64}', "less than one patch"),
        ("preprocessor_config.json", "?", "is no JSON file"),
        ("preprocessor_config.json", '{"image_processor_type": "NoImageProcessor"}', "no image processor NoIm"),
        ("preprocessor_config.json", '{"image_processor_type": "AutoModel"}', "no image processor AutoModel"),
        (
            "preprocessor_config.json",
            '{"image_processor_type": "BitImageProcessor", "size": {"deep": 3}}',
            "settings are no good",
        ),
        (
            "preprocessor_config.json",
            '{"image_processor_type": "BitImageProcessor", "image_mean": [0.5]}',
            "settings are no good",
        ),
        (
            "preprocessor_config.json",
            '{"image_processor_type": "BitImageProcessor", "do_center_crop": false}',
            "another size for each image",
        ),
        (
            "preprocessor_config.json",
            '{"image_processor_type": "ViTImageProcessor", "do_resize": false}',
            "another size for each image",
        ),
    ],
)
def test_files_that_say_nonsense(folder: Path, file: str, content: str, message: str) -> None:
    (folder / file).write_text(content)
    assert message in refusal(folder)


def test_a_processor_that_exists_for_torchvision_only(folder: Path) -> None:
    if transformers.utils.import_utils.is_torchvision_available():
        pytest.skip("torchvision is installed, so that the processor can be used")
    edit_json(folder / "preprocessor_config.json", image_processor_type="DINOv3ViTImageProcessorFast")
    assert "DINOv3ViTImageProcessor needs torchvision" in refusal(folder)


@pytest.mark.parametrize("named", ["BitImageProcessorFast", "BitFeatureExtractor", "BitImageProcessorPil", None])
def test_names_of_old_processors(folder: Path, named: str | None) -> None:
    spec = inspect_backbone(str(folder))
    edit_json(folder / "preprocessor_config.json", image_processor_type=named)
    assert inspect_backbone(str(folder)).preprocessing == spec.preprocessing


def test_a_processor_inside_processor_config(folder: Path) -> None:
    """How transformers 5 saves the processors of image-and-text models."""
    spec = inspect_backbone(str(folder))
    inner = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": inner, "processor_class": "X"}))
    (folder / "preprocessor_config.json").unlink()
    assert inspect_backbone(str(folder)).preprocessing == spec.preprocessing
    (folder / "processor_config.json").write_text('{"processor_class": "X"}')
    assert "describes no image processor" in refusal(folder)


def test_weights_in_several_files(tmp_path: Path) -> None:
    model = new_model("dinov2")
    whole = inspect_backbone(str(save(tmp_path / "whole", model, image_processor("BitImageProcessorPil"))))
    (tmp_path / "parts").mkdir()
    model.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    image_processor("BitImageProcessorPil").save_pretrained(tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    parts = inspect_backbone(str(tmp_path / "parts"))
    assert parts.revision != whole.revision
    pixel_values = torch.rand(2, 3, 32, 32)
    first, second = (
        Backbone.load(spec, layers=[2], device=CPU).activations(pixel_values, "cls")[2] for spec in (whole, parts)
    )
    assert torch.equal(first, second)
