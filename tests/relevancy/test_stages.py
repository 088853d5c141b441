"""Grad-CAM and its controls where blocks differ in width and number of patches, against the whole model's gradients."""

import pytest
import torch
import transformers
from tests.backbones.conftest import STAGED, image_processor, new_model, save
from tests.relevancy.small_backbones import loaded, pixels, random_sae, saved

from hsae.backbones.inputs import rows_and_columns
from hsae.backbones.passes.traced_pass import NoAttentionWeightsError
from hsae.relevancy.config import MapMethod
from hsae.relevancy.objective import LatentObjective
from hsae.relevancy.relevance import relevance, relevance_maps

BLOCKS = ("SwinLayer", "ConvNextLayer", "ConvNextV2Layer", "DINOv3ConvNextLayer")
WIDTHS, SIDES = (12, 24, 24), (8, 4, 4)
METHODS: tuple[MapMethod, ...] = ("gradcam", "gradient", "activation", "random")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    return {kind: save(root / kind, new_model(kind), image_processor(STAGED[kind][3])) for kind in STAGED}


def tokens_of(tensor):
    """A map of channels first as tokens, place by place; tokens as they are."""
    if tensor.ndim == 3:
        return tensor
    rows, columns = tensor.shape[2:]
    return torch.stack([tensor[:, :, row, column] for row in range(rows) for column in range(columns)], 1)


def slow_maps(kind, folder, image, layer, sae, latent, tokens):
    """By method the map of one image, with the whole model and gradients down to its pixels."""
    model = getattr(transformers, STAGED[kind][1]).from_pretrained(folder, dtype=torch.float32).eval()
    blocks = [module for module in model.modules() if type(module).__name__ in BLOCKS]
    given, got = {}, {}
    for number, block in enumerate(blocks):

        def enter(module, arguments, number=number):
            arguments[0].retain_grad()
            given[number] = arguments[0]

        def leave(module, arguments, output, number=number):
            got[number] = output[0] if isinstance(output, tuple) else output

        block.register_forward_pre_hook(enter)
        block.register_forward_hook(leave)
    model(image[None].clone().requires_grad_())
    stream = tokens_of(got[layer])[0]
    x = stream.mean(0, keepdim=True) if tokens == "mean" else stream
    pre = sae.pre_activations(sae.scale_inputs(x))[:, latent]
    pre[int(sae.encode(x)[:, latent].argmax())].backward()
    values, gradients = (tokens_of(one)[0] for one in (given[layer].detach(), given[layer].grad))
    weights = gradients.mean(0)
    cam = torch.stack([(weights * value).sum().clamp(min=0) for value in values])
    embedded = (tokens_of(given[0].detach())[0] * tokens_of(given[0].grad)[0]).norm(dim=1).view(8, 8)
    side = SIDES[layer]
    covered = embedded.split(8 // side)  # rows of the embeddings that a row of the layer covers
    norms = torch.stack([part.mean() for rows in covered for part in rows.split(8 // side, dim=1)])
    return {
        "gradcam": cam.view(side, side),
        "gradient": norms.view(side, side),
        "activation": sae.encode(stream.detach())[:, latent].view(side, side),
    }


@pytest.mark.parametrize("tokens", ["mean", "patches"])
@pytest.mark.parametrize("layer", range(3))
@pytest.mark.parametrize("kind", STAGED)
def test_maps_are_their_definitions(kind, layer, tokens, folders):
    backbone, sae = loaded(folders[kind], layer), random_sae(d_model=WIDTHS[layer])
    images = pixels(backbone, 3)
    z = sae.encode(backbone.activations(images, tokens)[layer].flatten(0, 1)).view(3, -1, sae.n_latents).amax(1)
    latents = torch.tensor([int(torch.nonzero(row).flatten()[i]) for i, row in enumerate(z)])
    found = relevance_maps(backbone, layer, LatentObjective(sae, latents, tokens), images, METHODS)
    torch.testing.assert_close(found.activations, z.gather(1, latents[:, None])[:, 0], rtol=1e-4, atol=1e-4)
    for i, (image, latent) in enumerate(zip(images, latents.tolist(), strict=True)):
        expected = slow_maps(kind, folders[kind], image, layer, sae, latent, tokens)
        for method, one in expected.items():
            torch.testing.assert_close(found.maps[method][i], one, rtol=1e-3, atol=1e-4, msg=method)
    assert found.maps["random"].shape == (3, SIDES[layer], SIDES[layer])
    # ... and the model is as it was before.
    again = backbone.activations(images, tokens)[layer]
    assert not again.requires_grad


@pytest.mark.parametrize("method", ["chefer", "attention"])
@pytest.mark.parametrize("kind", STAGED)
def test_they_give_no_attention_weights_and_say_so(kind, method, folders):
    backbone = loaded(folders[kind], 2)
    objective = LatentObjective(random_sae(), torch.tensor([0]), "mean")
    with pytest.raises(NoAttentionWeightsError, match="Model gives no attention weights .* choose the method gradcam"):
        relevance(backbone, 2, objective, pixels(backbone, 1), method)


def test_a_model_of_images_as_patches(tmp_path):
    """SigLIP 2 takes patches and not images, and gives no attention weights of every size of an image."""
    backbone, sae = loaded(saved("siglip2_vision_model", tmp_path), 2), random_sae()
    images = pixels(backbone, 2)
    x = backbone.activations(images, "patches")[2]
    latents = sae.encode(x.flatten(0, 1)).view(2, 16, -1).amax(1).argmax(1)
    found = relevance_maps(backbone, 2, LatentObjective(sae, latents, "patches"), images, METHODS).maps
    each = [sae.encode(one)[:, latent].view(4, 4) for one, latent in zip(x, latents.tolist(), strict=True)]
    torch.testing.assert_close(found["activation"], torch.stack(each), rtol=1e-4, atol=1e-4)
    assert (found["gradcam"] >= 0).all()
    assert found["gradcam"].flatten(1).amax(1).gt(0).any()
    assert found["gradient"].shape == (2, 4, 4)


@pytest.mark.parametrize(
    ("n_patches", "proportion", "grid"),
    [
        (49, 1.0, (7, 7)),
        (50, 1.0, None),  # 5 x 10 is nothing like a square
        (72, 2.0, (12, 6)),
        (112, 100 / 230, (7, 16)),  # cut to whole patches of 14
        (7, 1.0, None),
        (0, 1.0, None),
    ],
)
def test_rows_and_columns(n_patches, proportion, grid):
    assert rows_and_columns(n_patches, proportion) == grid
