"""Shards: which row is what, in which type, and what is refused."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.extraction.conftest import LAYERS, listing_of

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.datasets import open_image, source_at
from hsae.demo import backbone_folder
from hsae.errors import UserError
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.shards import extract_shard
from hsae.extraction.views import augmented_view

MAX_PIXELS = 10**6


def extract(backbone, root, listed, *, on_batch=lambda n: None, **changes):
    extraction = ExtractionConfig(**{"batch_size": 4, "max_image_pixels": MAX_PIXELS, **changes})
    return extract_shard(backbone, source_at(root), listed, extraction, on_batch=on_batch)


@pytest.mark.parametrize(("tokens", "n_tokens"), [("cls", 1), ("mean", 1), ("patches", 64)])
def test_rows_are_in_the_order_batch_view_image_token(backbone, images, tokens, n_tokens):
    (images / "2.webp").write_bytes(b"nothing")
    listed = listing_of(images, [f"{number}.webp" for number in range(7)])
    result = extract(backbone, images, listed, tokens=tokens, n_views=2, seed=5)
    assert [entry.image for entry in result.skipped] == [2]
    expected = [
        (image, view) for batch in ((0, 1, 3), (4, 5, 6)) for view in (0, 1) for image in batch for _ in range(n_tokens)
    ]
    assert tuple(result.activations) == LAYERS
    assert result.image_index.dtype == torch.int32
    assert result.view.dtype == torch.int16
    assert list(zip(result.image_index.tolist(), result.view.tolist(), strict=True)) == expected
    for layer, activations in result.activations.items():
        assert activations.shape == (len(expected), backbone.spec.d_model)
        rows = activations.view(-1, n_tokens, backbone.spec.d_model)
        for position, (image, view) in enumerate(expected[::n_tokens]):  # each image and view by itself
            picture = open_image(images / f"{image}.webp", max_pixels=MAX_PIXELS)
            if view:
                picture = augmented_view(picture, seed=5, index=image, view=view)
            alone = backbone.activations(backbone.pixel_values([picture]), tokens)[layer][0]
            torch.testing.assert_close(rows[position], alone, atol=1e-4, rtol=1e-4)


def test_the_same_call_gives_the_same_bits(backbone, images, listed):
    first, second = (extract(backbone, images, listed, tokens="patches", n_views=2) for _ in range(2))
    for layer in LAYERS:
        assert torch.equal(first.activations[layer], second.activations[layer])


def test_bfloat16_rows_are_the_float32_rows_rounded(backbone, images, listed):
    exact, rounded = (extract(backbone, images, listed, dtype=dtype) for dtype in ("float32", "bfloat16"))
    for layer in LAYERS:
        assert rounded.activations[layer].dtype == torch.bfloat16
        assert torch.equal(rounded.activations[layer], exact.activations[layer].bfloat16())
        assert torch.equal(rounded.image_index, exact.image_index)


def test_progress_counts_skipped_images_and_may_stop_the_pass(backbone, images):
    (images / "0.webp").write_bytes(b"nothing")
    listed = listing_of(images, [f"{number}.webp" for number in range(9)])
    counts: list[int] = []
    extract(backbone, images, listed, on_batch=counts.append)
    assert counts == [4, 8, 9]

    def stop(n_done: int) -> None:
        raise KeyboardInterrupt(n_done)

    with pytest.raises(KeyboardInterrupt, match="4"):
        extract(backbone, images, listed, on_batch=stop)


def test_a_range_without_a_readable_image_is_all_skipped(backbone, images):
    for number in range(5):
        (images / f"{number}.webp").write_bytes(b"nothing")
    listed = listing_of(images, [f"{number}.webp" for number in range(5)])
    result = extract(backbone, images, listed)
    assert [entry.image for entry in result.skipped] == [0, 1, 2, 3, 4]
    assert len(result.image_index) == 0
    assert all(len(activations) == 0 for activations in result.activations.values())


def _changed_backbone(folder, layers, *, preprocessor=None, weights=None) -> Backbone:
    for source in backbone_folder().iterdir():
        (folder / source.name).write_bytes(source.read_bytes())
    if preprocessor:
        path = folder / "preprocessor_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | preprocessor))
    if weights:
        tensors = load_file(folder / "model.safetensors")
        for name, value in weights.items():
            tensors[name] = torch.full_like(tensors[name], value)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return Backbone.load(inspect_backbone(str(folder)), layers=layers, device=torch.device("cpu"))


def test_nan_is_named_by_layer(images, listed, tmp_path):
    nan_in_block_2 = {"encoder.layer.2.norm2.weight": float("nan")}
    (tmp_path / "model").mkdir()
    broken = _changed_backbone(tmp_path / "model", (1, 2, 3), weights=nan_in_block_2)
    with pytest.raises(UserError, match=r"layer 2 of .* NaN or infinite .*0\.webp") as error:
        extract(broken, images, listed)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("n_views", [1, 2])
def test_nan_is_named_by_image(tmp_path, n_views):
    # White overflows float32 when it is scaled so; black stays 0.
    (tmp_path / "model").mkdir()
    scaled = {"rescale_factor": 1e38, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    broken = _changed_backbone(tmp_path / "model", LAYERS, preprocessor=scaled)
    for number, colour in enumerate(["black", "black", "black", "white", "black", "white"]):
        Image.new("RGB", (80, 80), colour).save(tmp_path / f"{number}.png")
    listed = listing_of(tmp_path, [f"{number}.png" for number in range(6)])
    with pytest.raises(UserError, match=r"layer 1 .* activations for 3\.png"):
        extract(broken, tmp_path, listed, batch_size=2, n_views=n_views)
