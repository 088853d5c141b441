"""Networks in stages, whose blocks differ in width and number of patches, against the model's own hidden states."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from hsae.backbones.architectures import ARCHITECTURES
from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.backbones.spec import check_equal_rows, check_tokens, n_tokens
from hsae.errors import UserError

from .conftest import STAGED, image_processor, new_model, random_images, save

CPU = torch.device("cpu")
WIDTHS = (12, 24, 24)
N_PATCHES = (64, 16, 16)


def tokens_of(hidden: torch.Tensor) -> torch.Tensor:
    """A map of channels first as tokens, place by place."""
    if hidden.ndim == 3:
        return hidden
    rows, columns = hidden.shape[2:]
    return torch.stack([hidden[:, :, row, column] for row in range(rows) for column in range(columns)], dim=1)


def block_outputs(kind: str, folder: Path, pixel_values: torch.Tensor) -> list[torch.Tensor]:
    """What every block of the whole model gives, in the order in which the model runs them."""
    model = getattr(transformers, STAGED[kind][1]).from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for module in model.modules():
        if type(module).__name__ in ("SwinLayer", "ConvNextLayer", "ConvNextV2Layer", "DINOv3ConvNextLayer"):
            module.register_forward_hook(
                lambda module, given, output: found.append(output[0] if isinstance(output, tuple) else output)
            )
    with torch.no_grad():
        model(pixel_values)
    return found


@pytest.mark.parametrize("kind", STAGED)
def test_layers_are_the_blocks_of_all_stages(kind: str, model_folder: Callable[[str], Path]) -> None:
    folder = model_folder(kind)
    spec = inspect_backbone(str(folder))
    assert (spec.n_layers, spec.d_model, spec.n_patches) == (3, 24, 16)
    assert [spec.shape(layer).width for layer in range(3)] == list(WIDTHS)
    assert [spec.shape(layer).n_patches for layer in range(3)] == list(N_PATCHES)
    backbone = Backbone.load(spec, layers=range(3), device=CPU)
    pixel_values = backbone.pixel_values(random_images(3))
    expected = block_outputs(kind, folder, pixel_values)
    patches, mean = (backbone.activations(pixel_values, tokens) for tokens in ("patches", "mean"))
    for layer in range(3):
        assert patches[layer].shape == (3, N_PATCHES[layer], WIDTHS[layer])
        torch.testing.assert_close(patches[layer], tokens_of(expected[layer]), rtol=0, atol=0)
        torch.testing.assert_close(mean[layer][:, 0], patches[layer].mean(1), rtol=0, atol=0)
    assert not torch.allclose(patches[2], patches[1])


@pytest.mark.parametrize("kind", STAGED)
def test_the_last_block_of_a_stage_is_the_model_s_hidden_state(kind: str, model_folder: Callable[[str], Path]) -> None:
    folder = model_folder(kind)
    model = getattr(transformers, STAGED[kind][1]).from_pretrained(folder, dtype=torch.float32).eval()
    backbone = Backbone.load(inspect_backbone(str(folder)), layers=range(3), device=CPU)
    pixel_values = backbone.pixel_values(random_images(2))
    with torch.no_grad():
        hidden_states = model(pixel_values, output_hidden_states=True).hidden_states
    found = backbone.activations(pixel_values, "patches")
    states = [tokens_of(state) for state in hidden_states]
    torch.testing.assert_close(found[2], states[-1], rtol=0, atol=0)
    if kind != "swin":  # whose other states come after the merging of patches
        assert any(state.shape == found[0].shape and torch.equal(state, found[0]) for state in states)


@pytest.mark.parametrize("kind", STAGED)
def test_a_layer_does_not_depend_on_the_others_and_later_blocks_are_freed(
    kind: str, model_folder: Callable[[str], Path]
) -> None:
    spec = inspect_backbone(str(model_folder(kind)))
    everything = Backbone.load(spec, layers=range(3), device=CPU)
    pixel_values = everything.pixel_values(random_images(3))
    expected = everything.activations(pixel_values, "patches")
    n_parameters = []
    for layers in ([0], [1], [0, 2], [2]):
        backbone = Backbone.load(spec, layers=layers, device=CPU)
        n_parameters.append(sum(each.numel() for each in backbone._model.parameters()))
        got = backbone.activations(pixel_values, "patches")
        assert set(got) == set(layers)
        for layer in got:
            assert torch.equal(got[layer], expected[layer])
    assert n_parameters[0] < n_parameters[1] < n_parameters[2] == n_parameters[3]


@pytest.mark.parametrize("kind", STAGED)
def test_random_weights_are_the_same_at_every_depth(kind: str, model_folder: Callable[[str], Path]) -> None:
    spec = inspect_backbone(str(model_folder(kind)), random_seed=5)
    whole, first = (Backbone.load(spec, layers=layers, device=CPU) for layers in (range(3), [0]))
    pixel_values = whole.pixel_values(random_images(2))
    assert torch.equal(whole.activations(pixel_values, "patches")[0], first.activations(pixel_values, "patches")[0])
    other = Backbone.load(inspect_backbone(str(model_folder(kind)), random_seed=6), layers=[0], device=CPU)
    assert not torch.allclose(
        other.activations(pixel_values, "patches")[0], first.activations(pixel_values, "patches")[0]
    )


@pytest.mark.parametrize("kind", STAGED)
def test_an_image_of_another_size(kind: str, tmp_path: Path) -> None:
    folder = save(tmp_path, new_model(kind), image_processor(STAGED[kind][3], 64))
    spec = inspect_backbone(str(folder))
    assert [spec.shape(layer).n_patches for layer in range(3)] == [256, 64, 64]
    backbone = Backbone.load(spec, layers=[1], device=CPU)
    pixel_values = backbone.pixel_values(random_images(1))
    expected = block_outputs(kind, folder, pixel_values)
    torch.testing.assert_close(backbone.activations(pixel_values, "patches")[1], tokens_of(expected[1]), rtol=0, atol=0)


def test_tokens_of_stages(model_folder: Callable[[str], Path]) -> None:
    spec = inspect_backbone(str(model_folder("swin")))
    with pytest.raises(UserError, match="has no class token: choose tokens mean or patches"):
        check_tokens(spec, "cls")
    with pytest.raises(UserError, match="has no register tokens"):
        check_tokens(spec, "registers")
    check_tokens(spec, "patches", n_sampled=16)
    with pytest.raises(UserError, match="17 patches cannot be drawn of the 16"):
        check_tokens(spec, "patches", n_sampled=17)
    assert [n_tokens(spec, "patches", layer=layer) for layer in range(3)] == list(N_PATCHES)
    assert n_tokens(spec, "patches", n_sampled=5) == 5
    check_equal_rows(spec, [1, 2], "patches")
    check_equal_rows(spec, [0, 1, 2], "mean")
    check_equal_rows(spec, [0, 1, 2], "patches", n_sampled=16)
    with pytest.raises(UserError, match=r"64 at layer 0, 16 at layer 1\): ask for them one by one"):
        check_equal_rows(spec, [0, 1], "patches")


def test_what_sums_up_is_the_mean() -> None:
    for kind in STAGED:
        assert not ARCHITECTURES[kind].has_class_token
