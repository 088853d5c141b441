"""Randomly initialised weights: the same bits for the same seed at every depth, and an identity that says so."""

import importlib.metadata
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import transformers

from hsae.backbones import random_init
from hsae.backbones.architectures import ARCHITECTURES
from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.backbones.names import short_model_name
from hsae.backbones.sources import Source
from hsae.backbones.spec import BackboneSpec, RandomInit
from hsae.errors import UserError

from .conftest import MODELS, N_SPECIAL, edit_json, image_processor, new_model, random_images
from .test_layers import inputs

CPU = torch.device("cpu")


@pytest.fixture
def described(model_folder: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Makes a folder of a type without its weights."""

    def make(kind: str) -> Path:
        return Path(
            shutil.copytree(model_folder(kind), tmp_path / kind, ignore=shutil.ignore_patterns("*.safetensors"))
        )

    return make


def activations(spec: BackboneSpec, layers: Sequence[int], n_images: int = 2) -> dict[int, torch.Tensor]:
    backbone = Backbone.load(spec, layers=layers, device=CPU)
    return backbone.activations(backbone.pixel_values(random_images(n_images)), "patches")


def same(first: dict[int, torch.Tensor], second: dict[int, torch.Tensor]) -> bool:
    return all(torch.equal(first[layer], second[layer]) for layer in first.keys() & second.keys())


@pytest.mark.parametrize("kind", MODELS)
def test_a_seed_gives_the_same_bits_at_every_depth(kind: str, described: Callable[[str], Path]) -> None:
    folder = described(kind)
    spec = inspect_backbone(str(folder), random_seed=7)
    assert (spec.n_layers, spec.d_model) == (4, 24)
    whole = activations(spec, range(4))
    assert same(whole, activations(spec, range(4)))
    for layers in ((0,), (1,), (2, 0), (3,)):
        assert same(activations(spec, layers), whole), layers
    for layer, other in activations(inspect_backbone(str(folder), random_seed=8), range(4)).items():
        assert not torch.allclose(other, whole[layer])
        assert torch.isfinite(other).all()


@pytest.mark.parametrize("kind", MODELS)
def test_the_weights_are_those_of_a_new_model_of_transformers(kind: str, described: Callable[[str], Path]) -> None:
    folder = described(kind)
    architecture = ARCHITECTURES[kind]
    config = getattr(transformers, architecture.config_class).from_pretrained(folder)
    for name, value in architecture.config_changes.items():
        setattr(config, name, value)
    spec = inspect_backbone(str(folder), random_seed=7)
    backbone = Backbone.load(spec, layers=range(4), device=CPU)
    pixel_values = backbone.pixel_values(random_images(2))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(7)
        model = getattr(transformers, architecture.model_class)(config, **architecture.model_options).eval()
        hidden_states = model(**inputs(kind, model, pixel_values), output_hidden_states=True).hidden_states
    found = backbone.activations(pixel_values, "patches")
    for layer in range(3):  # some types apply their final norm to the last entry
        assert torch.equal(found[layer], hidden_states[layer + 1][:, N_SPECIAL.get(kind, 1) :])


def test_the_random_numbers_of_the_process_stay_as_they_are(described: Callable[[str], Path]) -> None:
    spec = inspect_backbone(str(described("dinov2")), random_seed=7)
    before = torch.get_rng_state()
    Backbone.load(spec, layers=[0], device=CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_of_its_own(described: Callable[[str], Path], model_folder: Callable[[str], Path]) -> None:
    folder = described("dinov2")
    spec = inspect_backbone(str(folder), random_seed=7)
    assert spec.name == f"{folder} (random init, seed 7)"
    assert short_model_name(spec.name) == "dinov2 (random init, seed 7)"
    assert spec.revision.startswith("random-")
    assert spec.random_init is not None
    assert set(spec.random_init.libraries) == {"torch", "transformers"}
    assert BackboneSpec.model_validate_json(spec.model_dump_json()) == spec
    whole = model_folder("dinov2")  # with weights, which do not matter
    assert inspect_backbone(str(whole), random_seed=7).revision == spec.revision
    trained = inspect_backbone(str(whole))
    assert trained.random_init is None
    seen = {spec.revision, trained.revision, inspect_backbone(str(folder), random_seed=8).revision}
    (folder / "README.md").write_text("not part of the model")
    assert inspect_backbone(str(folder), random_seed=7) == spec
    edit_json(folder / "config.json", layer_norm_eps=1e-3)
    seen.add(inspect_backbone(str(folder), random_seed=7).revision)
    edit_json(folder / "preprocessor_config.json", image_mean=[0, 0, 0])
    seen.add(inspect_backbone(str(folder), random_seed=7).revision)
    assert len(seen) == 5
    message = f"the files in {folder} have revision sha256-.*, not {spec.random_init.files_revision}: put the former"
    with pytest.raises(UserError, match=message):
        Backbone.load(spec, layers=[0], device=CPU)


def test_libraries_of_other_versions_draw_other_weights(
    described: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = described("dinov2")
    spec = inspect_backbone(str(folder), random_seed=7)
    installed = importlib.metadata.version
    builds = {"torch": f"{installed('torch').partition('+')[0]}+cu130"}
    monkeypatch.setattr(random_init, "version", lambda name: builds.get(name, installed(name)))
    assert inspect_backbone(str(folder), random_seed=7) == spec  # another build of the same version
    Backbone.load(spec, layers=[0], device=CPU)
    builds["torch"] = "1.0"
    assert inspect_backbone(str(folder), random_seed=7).revision != spec.revision
    with pytest.raises(UserError, match="here are torch 1.0 and transformers .*: install the same versions"):
        Backbone.load(spec, layers=[0], device=CPU)


def test_the_revision_is_an_address_of_what_users_have_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where other weights are meant, raise the format."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "preprocessor_config.json").write_text("{}")
    monkeypatch.setattr(random_init, "version", {"torch": "2.13.0+cpu", "transformers": "5.23.0"}.__getitem__)
    source, random = random_init.as_random(Source("somebody/tiny", "main", tmp_path), 3)
    assert source.revision == "random-859c753c66f1f7ae720253d126359270ce3393a7e26e81a129f46a8c635fd07b"
    assert random == RandomInit(
        seed=3,
        files="somebody/tiny",
        files_revision="main",
        libraries={"torch": "2.13.0", "transformers": "5.23.0"},
    )


def test_only_the_vision_tower_is_drawn(described: Callable[[str], Path], tmp_path: Path) -> None:
    """What the text model of such a pair is like must not change the numbers."""
    folder = tmp_path / "pair"
    config = transformers.CLIPConfig(vision_config=MODELS["clip_vision_model"][2])
    config.save_pretrained(folder)
    image_processor(MODELS["clip_vision_model"][3]).save_pretrained(folder)
    pair, tower = (inspect_backbone(str(each), random_seed=7) for each in (folder, described("clip_vision_model")))
    assert pair.model_type == tower.model_type == "clip_vision_model"
    assert same(activations(pair, [1]), activations(tower, range(4)))


def test_what_is_refused(tmp_path: Path) -> None:
    new_model("dinov2").config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"has no preprocessor_config\.json"):
        inspect_backbone(str(tmp_path), random_seed=0)
    image_processor("BitImageProcessorPil").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no weights in safetensors format.*random weights with --random-init SEED"):
        inspect_backbone(str(tmp_path))
    edit_json(tmp_path / "config.json", initializer_range=-1.0)
    with pytest.raises(
        UserError, match=r"seed 0\) cannot be initialised \(.*found std -1.*\): correct its config\.json"
    ) as error:
        Backbone.load(inspect_backbone(str(tmp_path), random_seed=0), layers=[0], device=CPU)
    assert "\n" not in str(error.value)
    edit_json(tmp_path / "config.json", model_type="vision_transformer", architecture="vit_base_patch14")
    with pytest.raises(UserError, match="is of type vision_transformer, which is no supported vision model"):
        inspect_backbone(str(tmp_path), random_seed=0)
