"""A pass that restarts at a block has the bits of the whole pass, on every architecture; edits see the right tokens."""

import pytest
import torch
from tests.backbones.conftest import MODELS, N_SPECIAL
from tests.relevancy.small_backbones import CPU, pixels, random_sae, saved

from hsae.backbones.architectures import is_traceable
from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.errors import UserError
from hsae.interventions.choice import Attributed
from hsae.interventions.config import EditKind
from hsae.interventions.edits import LatentEdit, TokenPlaces, edited, visited
from hsae.interventions.passes import Intervention, LayerEdit, outcomes

LAST = 3
# The types whose blocks pass on the residual stream as tokens.
TRACED = [kind for kind in MODELS if is_traceable(kind)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    return {kind: saved(kind, root) for kind in TRACED}


def whole(folder, layers=(0, 1, 2, 3), precision="float32"):
    return Backbone.load(inspect_backbone(str(folder)), layers=layers, device=CPU, precision=precision)


def of_products():
    """How a GPU would multiply float32 now."""
    return torch.backends.cuda.matmul.fp32_precision


@pytest.mark.parametrize("kind", TRACED)
def test_a_restart_has_the_bits_of_the_whole_pass(kind, folders):
    backbone = whole(folders[kind])
    images = pixels(backbone, 3)
    recorded = backbone.recorded(images)
    patches = backbone.activations(images, "patches")
    n_prefix = N_SPECIAL.get(kind, 1)
    for layer in range(LAST + 1):
        assert torch.equal(recorded.streams[layer][:, n_prefix:], patches[layer])
        with torch.no_grad():
            assert torch.equal(recorded.resume(recorded.streams[layer], layer, LAST), recorded.streams[LAST])
            assert torch.equal(recorded.resume(recorded.streams[0], 0, layer), recorded.streams[layer])


@pytest.mark.parametrize("kind", TRACED)
def test_how_blocks_are_called_does_not_depend_on_the_images(kind, folders):
    """What a pass from stored activations rests on."""
    backbone = whole(folders[kind])
    images = pixels(backbone, 3)
    recorded = backbone.recorded(images)
    height, width = backbone.preprocessing.image_size
    blank = backbone.recorded(torch.zeros(1, 3, height, width))
    with torch.no_grad():
        again = blank.resume(recorded.streams[1], 1, LAST)
    assert torch.equal(again, recorded.streams[LAST])


def test_a_restart_has_the_precision_of_the_backbone(folders):
    exact, narrow = (whole(folders["dinov2"], precision=precision) for precision in ("float32", "bfloat16"))
    images = pixels(exact, 3)
    recorded = narrow.recorded(images)
    assert torch.equal(recorded.streams[1][:, :1], narrow.activations(images, "cls")[1])
    with torch.no_grad():
        last = recorded.resume(recorded.streams[1], 1, LAST)
        of_exact = exact.recorded(images).resume(recorded.streams[1], 1, LAST)
    assert last.dtype == torch.float32
    assert torch.equal(last, recorded.streams[LAST])
    assert not torch.equal(last, of_exact)
    assert (last - of_exact).norm() < 0.05 * of_exact.norm()


@pytest.mark.parametrize("precision", ["tf32", "float32"])
def test_tf32_holds_in_the_blocks_forwards_and_backwards_and_nowhere_else(precision, folders, model):
    backbone = whole(folders["vit"], precision=precision)
    recorded = backbone.recorded(pixels(backbone, 2))
    seen: list[str] = []
    handle = recorded.blocks[2].register_forward_pre_hook(lambda *_: seen.append(of_products()))
    recorded.resume(recorded.streams[1], 1, 2)
    handle.remove()

    class Looking:
        def resume(self, stream, start, stop):
            kept = stream * 1.0
            kept.register_hook(lambda gradient: seen.append(of_products()))
            return kept

    attributed = Attributed(model.sae, 0, 1, TokenPlaces((0,)), model.probe, precision)
    attributed.of_batch(Looking(), model.stream[:4], [model.tree.inside[:, model.node("bird")] > 0])
    assert [each == "tf32" for each in seen] == [precision == "tf32"] * 2
    assert of_products() != "tf32"


@pytest.mark.parametrize("place", ["cls", "patches", "all", (2, 5)])
@pytest.mark.parametrize("kind", ["dinov2_with_registers", "siglip_vision_model"])
def test_gamma_one_changes_nothing_at_any_tokens(kind, place, folders):
    backbone, sae = whole(folders[kind]), random_sae()
    if place == "cls" and not backbone.spec.has_class_token:
        with pytest.raises(UserError, match="has no class token"):
            TokenPlaces.of("cls", "cls", backbone.spec)
        return
    recorded = backbone.recorded(pixels(backbone, 3))
    places = TokenPlaces.of(place, "cls", backbone.spec)
    edits = [LatentEdit(sae, torch.arange(48), "scale", torch.tensor([gamma])) for gamma in (1.0, 0.0)]
    several = [Intervention(tuple(LayerEdit(layer, places, edit) for layer in (2, 1))) for edit in edits]
    with torch.no_grad():
        same, changed = outcomes(recorded, 1, recorded.streams[1], several, LAST)
    assert torch.equal(same, recorded.streams[LAST])
    assert not torch.equal(changed, recorded.streams[LAST])


@pytest.mark.parametrize("kind", ["relu", "topk"])
def test_an_edit_is_its_formula(kind, folders):
    backbone, sae = whole(folders["dinov2_with_registers"]), random_sae(kind)
    stream = backbone.recorded(pixels(backbone, 2)).streams[1]
    latents = torch.tensor([3, 11, 40])
    values = torch.tensor([0.5, 2.0, -1.0])
    doses: dict[EditKind, torch.Tensor] = {"scale": torch.tensor([0.3]), "clamp": values, "add": values}
    for name, given in doses.items():
        edit = LatentEdit(sae, latents, name, given)
        for place in ("cls", "patches", "all", (0, 7)):
            places = TokenPlaces.of(place, "cls", backbone.spec)
            new = edited(stream, places, edit.change(visited(stream, places)))
            for image in range(2):
                for token in range(stream.shape[1]):
                    x = stream[image, token]
                    expected = x
                    if token in places.numbers:
                        z = sae.encode(x[None])
                        z_new = z.clone()
                        for latent, value in zip(latents.tolist(), values.tolist(), strict=True):
                            own = {"scale": z[0, latent] * 0.3, "clamp": value, "add": z[0, latent] + value}
                            z_new[0, latent] = own[name]
                        expected = x + sae.decode(z_new)[0] - sae.decode(z)[0]
                    torch.testing.assert_close(new[image, token], expected, rtol=1e-4, atol=1e-4)


def test_the_mean_of_the_patches_moves_all_of_them_by_the_same(folders):
    backbone, sae = whole(folders["vit"]), random_sae()
    stream = backbone.recorded(pixels(backbone, 2)).streams[1]
    places = TokenPlaces.of("own", "mean", backbone.spec)
    assert places == TokenPlaces(tuple(range(1, 17)), as_mean=True)
    edit = LatentEdit(sae, torch.arange(48), "scale", torch.zeros(1))
    change = edit.change(visited(stream, places))
    new = edited(stream, places, change)
    mean = stream[:, 1:].mean(1)
    z = sae.encode(mean)
    torch.testing.assert_close(change, sae.decode(torch.zeros_like(z)) - sae.decode(z), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(new[:, 1:], stream[:, 1:] + change[:, None], rtol=1e-4, atol=1e-4)
    assert torch.equal(new[:, 0], stream[:, 0])


def test_what_cannot_be_edited_is_refused_in_one_line(folders):
    backbone, sae = whole(folders["vit"]), random_sae()
    with pytest.raises(UserError, match="latent 48 is of another SAE: this one has 48 latents, 0 to 47"):
        LatentEdit(sae, torch.tensor([48]), "scale", torch.zeros(1))
    with pytest.raises(UserError, match="NaN or infinite: give finite numbers"):
        LatentEdit(sae, torch.tensor([4]), "scale", torch.tensor([float("inf")]))
    with pytest.raises(UserError, match="has no token 17: give numbers from 0 to 16"):
        TokenPlaces.of((3, 17), "cls", backbone.spec)
    with pytest.raises(UserError, match="has no edit"):
        Intervention(())
    recorded = backbone.recorded(pixels(backbone, 1))
    early = Intervention((LayerEdit(0, TokenPlaces((0,)), LatentEdit(sae, torch.tensor([4]), "scale", torch.ones(1))),))
    with pytest.raises(UserError, match="layer 0 cannot be edited in a pass from layer 1"):
        list(outcomes(recorded, 1, recorded.streams[1], [early], LAST))
