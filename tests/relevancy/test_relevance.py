"""Maps of every supported architecture against the paper's steps, done slowly for one image at a time."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.backbones.conftest import MODELS, N_SPECIAL
from tests.relevancy.small_backbones import loaded, pixels, random_sae, saved, slow_chefer

from hsae.backbones.architectures import is_traceable
from hsae.backbones.backbone import Backbone
from hsae.backbones.passes.traced_pass import NoAttentionWeightsError
from hsae.errors import UserError
from hsae.relevancy.config import MAP_METHODS
from hsae.relevancy.objective import LatentObjective
from hsae.relevancy.relevance import relevance, relevance_maps

# The types whose blocks pass on the residual stream, as an explanation needs it.
TRACED = [kind for kind in MODELS if is_traceable(kind)]

LAYER = 2


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder of every architecture, by its name."""
    root = tmp_path_factory.mktemp("backbones")
    return {kind: saved(kind, root) for kind in TRACED}


def latents_that_fire(backbone, images, sae, tokens, layer=LAYER):
    """For every image a latent that fires on it, of images that follow one another another one."""
    x = backbone.activations(images, tokens)[layer]
    z = sae.encode(x.flatten(0, 1)).view(len(images), -1, sae.n_latents).amax(1)
    return torch.tensor([int(torch.nonzero(row).flatten()[i % 3]) for i, row in enumerate(z)])


@pytest.mark.parametrize("kind", TRACED)
def test_plain_attention_gives_the_activations_of_the_fast_kernels(kind, folders):
    backbone = loaded(folders[kind], LAYER)
    images = pixels(backbone, 3)
    stream = backbone.traced(images, attention=True).stream.detach()
    patches = backbone.activations(images, "patches")[LAYER]
    torch.testing.assert_close(stream[:, N_SPECIAL.get(kind, 1) :], patches, rtol=1e-4, atol=1e-4)
    # ... and the model is as it was before.
    assert torch.equal(backbone.activations(images, "patches")[LAYER], patches)
    assert not patches.requires_grad
    without = backbone.traced(images, attention=False)
    assert without.attentions == ()
    torch.testing.assert_close(without.stream.detach()[:, N_SPECIAL.get(kind, 1) :], patches, rtol=0, atol=0)


@pytest.mark.parametrize("tokens", ["cls", "mean", "patches"])
@pytest.mark.parametrize("kind", TRACED)
def test_chefer_is_the_paper_s_matrix(kind, tokens, folders):
    if tokens == "cls" and N_SPECIAL.get(kind, 1) == 0:
        pytest.skip("it has no class token")
    backbone, sae = loaded(folders[kind], LAYER), random_sae()
    images = pixels(backbone, 3)
    latents = latents_that_fire(backbone, images, sae, tokens)
    maps = relevance(backbone, LAYER, LatentObjective(sae, latents, tokens), images)
    assert (maps.shape, maps.dtype, maps.requires_grad) == ((3, 4, 4), torch.float32, False)
    for image, latent, found in zip(images, latents.tolist(), maps, strict=True):
        expected = slow_chefer(kind, folders[kind], image, LAYER, sae, latent, tokens)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    assert (maps >= 0).all()


@pytest.mark.parametrize("layer", [0, 1])
def test_the_first_layers(layer, folders):
    backbone, sae = loaded(folders["dinov2_with_registers"], layer), random_sae()
    images = pixels(backbone, 2)
    latents = latents_that_fire(backbone, images, sae, "cls", layer)
    maps = relevance(backbone, layer, LatentObjective(sae, latents, "cls"), images)
    folder = folders["dinov2_with_registers"]
    expected = [
        slow_chefer("dinov2_with_registers", folder, image, layer, sae, latent, "cls")
        for image, latent in zip(images, latents.tolist(), strict=True)
    ]
    torch.testing.assert_close(maps, torch.stack(expected), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("tokens", ["cls", "mean", "patches"])
@pytest.mark.parametrize("sae_kind", ["relu", "topk"])
def test_a_map_does_not_depend_on_the_batch(sae_kind, tokens, folders):
    backbone, sae = loaded(folders["deit"], LAYER), random_sae(sae_kind)
    images = pixels(backbone, 5)
    latents = latents_that_fire(backbone, images, sae, tokens)
    seeds = [7, 8, 9, 10, 11]
    whole = relevance_maps(backbone, LAYER, LatentObjective(sae, latents, tokens), images, MAP_METHODS, seeds=seeds)
    assert tuple(whole.maps) == MAP_METHODS
    for i in range(5):
        objective = LatentObjective(sae, latents[i : i + 1], tokens)
        one = relevance_maps(backbone, LAYER, objective, images[i : i + 1], MAP_METHODS, seeds=seeds[i : i + 1])
        torch.testing.assert_close(one.activations, whole.activations[i : i + 1], rtol=1e-4, atol=1e-5)
        for method in MAP_METHODS:
            torch.testing.assert_close(one.maps[method], whole.maps[method][i : i + 1], rtol=2e-3, atol=1e-5)


def test_the_same_request_has_the_same_bits(folders):
    backbone, sae = loaded(folders["vit"], LAYER), random_sae()
    images = pixels(backbone, 4)
    objective = LatentObjective(sae, torch.tensor([1, 2, 3, 4]), "cls")
    first, second = (relevance_maps(backbone, LAYER, objective, images, MAP_METHODS).maps for _ in range(2))
    for method in MAP_METHODS:
        assert torch.equal(first[method], second[method])


@pytest.mark.parametrize("sae_kind", ["relu", "topk"])
def test_a_silent_latent_is_explained_by_its_pre_activation(sae_kind, folders):
    backbone, sae = loaded(folders["dinov2"], LAYER), random_sae(sae_kind)
    images = pixels(backbone, 3)
    x = backbone.activations(images, "cls")[LAYER][:, 0]
    silent = torch.tensor([int((row == 0).nonzero().flatten()[0]) for row in sae.encode(x)])
    found = relevance_maps(backbone, LAYER, LatentObjective(sae, silent, "cls"), images, ("chefer",))
    assert torch.equal(found.activations, torch.zeros(3))
    for image, latent, one in zip(images, silent.tolist(), found.maps["chefer"], strict=True):
        expected = slow_chefer("dinov2", folders["dinov2"], image, LAYER, sae, latent, "cls")
        torch.testing.assert_close(one, expected, rtol=1e-3, atol=1e-5)


def test_controls_by_their_definitions(folders):
    kind = "dinov2_with_registers"
    backbone, sae = loaded(folders[kind], LAYER), random_sae()
    images = pixels(backbone, 1)
    latents = latents_that_fire(backbone, images, sae, "cls")
    objective = LatentObjective(sae, latents, "cls")
    maps = relevance_maps(backbone, LAYER, objective, images, MAP_METHODS).maps
    traced = backbone.traced(images, attention=True)
    n_prefix = N_SPECIAL[kind]
    attention = traced.attentions[LAYER][0].detach()
    by_hand = torch.stack([head[0] for head in attention]).mean(0)[n_prefix:]
    torch.testing.assert_close(maps["attention"][0].flatten(), by_hand)
    patches = backbone.activations(images, "patches")[LAYER][0]
    torch.testing.assert_close(
        maps["activation"][0].flatten(), sae.encode(patches)[:, int(latents[0])], rtol=1e-3, atol=1e-4
    )
    pre = sae.pre_activations(sae.scale_inputs(traced.stream[:, 0]))[0, int(latents[0])]
    of_block, of_embeddings = torch.autograd.grad(pre, (traced.block_input, traced.embeddings))
    products = of_embeddings[0] * traced.embeddings[0].detach()
    norms = torch.tensor([float(np.linalg.norm(row)) for row in products[n_prefix:].numpy()])
    torch.testing.assert_close(maps["gradient"][0].flatten(), norms, rtol=1e-4, atol=1e-5)
    values, gradients = traced.block_input[0, n_prefix:].detach(), of_block[0, n_prefix:]
    weights = [float(gradients[:, channel].mean()) for channel in range(24)]
    cam = [max(0.0, sum(w * float(v) for w, v in zip(weights, row, strict=True))) for row in values]
    torch.testing.assert_close(maps["gradcam"][0].flatten(), torch.tensor(cam), rtol=1e-3, atol=1e-4)


def test_random_maps_depend_on_their_seed_alone(folders):
    backbone, sae = loaded(folders["vit"], LAYER), random_sae()
    images = pixels(backbone, 2)
    objective = LatentObjective(sae, torch.tensor([0, 0]), "cls")
    one, other = relevance_maps(backbone, LAYER, objective, images, ("random",), seeds=[5, 6]).maps["random"]
    assert not torch.equal(one, other)
    again = relevance_maps(backbone, LAYER, objective, images.flip(0), ("random",), seeds=[6, 5]).maps["random"]
    assert torch.equal(again, torch.stack([other, one]))


def test_wrong_requests(folders):
    backbone, sae = loaded(folders["siglip_vision_model"], LAYER), random_sae()
    images = pixels(backbone, 1)
    with pytest.raises(UserError, match="has no class token"):
        relevance(backbone, LAYER, LatentObjective(sae, torch.tensor([0]), "cls"), images)
    objective = LatentObjective(sae, torch.tensor([0]), "mean")
    with pytest.raises(ValueError, match="layer 1 is not the deepest of this backbone, 2"):
        relevance(backbone, 1, objective, images)
    with pytest.raises(ValueError, match="rollout is no method: choose from chefer"):
        relevance(backbone, LAYER, objective, images, cast("Any", "rollout"))


def test_a_backbone_that_gives_no_attention_weights_says_so(folders, monkeypatch):
    backbone, sae = loaded(folders["vit"], LAYER), random_sae()
    images = pixels(backbone, 1)
    objective = LatentObjective(sae, torch.tensor([0]), "cls")
    forward = backbone._model.forward

    def without_attentions(*arguments, **named):
        output = forward(*arguments, **named)
        output.attentions = None
        return output

    monkeypatch.setattr(backbone._model, "forward", without_attentions)
    with pytest.raises(
        NoAttentionWeightsError, match="ViTModel gives no attention weights .* choose the method gradcam"
    ):
        relevance(backbone, LAYER, objective, images)
    assert relevance(backbone, LAYER, objective, images, "gradcam").shape == (1, 4, 4)


def test_maps_have_the_precision_of_the_backbone(folders):
    """Products in bfloat16, forwards and backwards; what is added up is float32."""
    exact = loaded(folders["dinov2"], LAYER)
    narrow = Backbone.load(exact.spec, layers=[LAYER], device=torch.device("cpu"), precision="bfloat16")
    sae, images = random_sae(), pixels(exact, 3)
    latents = latents_that_fire(exact, images, sae, "cls")
    of_exact, of_narrow = (
        relevance_maps(backbone, LAYER, LatentObjective(sae, latents, "cls"), images, ("chefer", "gradcam"))
        for backbone in (exact, narrow)
    )
    stream = narrow.traced(images, attention=False).stream.detach()
    assert torch.equal(stream[:, 0], narrow.activations(images, "cls")[LAYER][:, 0])
    for method, maps in of_exact.maps.items():
        found = of_narrow.maps[method]
        assert found.dtype == torch.float32
        assert not torch.equal(found, maps)
        assert (found - maps).norm() < 0.1 * maps.norm()
