"""Drawn patches: the same ones in every run, every patch as often."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsae.extraction.config import ExtractionConfig, complete_extraction
from hsae.extraction.patch_sample import drawn_patches


def extraction(n_drawn, seed=0, **settings):
    return ExtractionConfig(tokens="patches", patches_per_image=n_drawn, seed=seed, **settings)


def numbered(n_images, n_patches, width=2):
    """Activations whose value says the image and the patch."""
    images = torch.arange(n_images)[:, None, None] * 1000.0
    return (images + torch.arange(n_patches)[None, :, None]).expand(-1, -1, width).clone()


@given(
    n_patches=st.integers(1, 40),
    share=st.floats(0, 1),
    seed=st.integers(0, 5),
    view=st.integers(0, 3),
    images=st.lists(st.integers(0, 10**6), min_size=1, max_size=4, unique=True),
)
def test_some_patches_of_every_image_in_its_order(n_patches, share, seed, view, images):
    n_drawn = max(1, round(share * n_patches))
    values = numbered(len(images), n_patches)
    found = drawn_patches(values, images, view, extraction(n_drawn, seed))
    assert found.shape == (len(images), n_drawn, 2)
    for row, image in enumerate(images):
        kept = [int(value) - 1000 * row for value in found[row, :, 0]]
        assert kept == sorted(set(kept)), "each patch once, in the order of the image"
        assert set(kept) <= set(range(n_patches))
        alone = drawn_patches(values[row : row + 1], [image], view, extraction(n_drawn, seed))
        assert torch.equal(alone[0], found[row]), "whatever batch the image is in"


def test_all_patches_where_none_are_drawn():
    values = numbered(2, 5)
    assert drawn_patches(values, [3, 4], 0, extraction(0)) is values


def test_seed_view_and_image_count():
    values = numbered(1, 50)
    kept = {
        tuple(drawn_patches(values, [image], view, extraction(10, seed))[0, :, 0].tolist())
        for image in (0, 1)
        for view in (0, 1)
        for seed in (0, 1)
    }
    assert len(kept) == 8


def test_every_patch_is_as_likely():
    values = numbered(1, 8)
    counts = np.zeros(8)
    for image in range(2000):
        for value in drawn_patches(values, [image], 0, extraction(2))[0, :, 0]:
            counts[int(value)] += 1
    assert np.abs(counts - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


@pytest.mark.parametrize(("n_drawn", "shard_images"), [(0, 64), (4, 1024)])
def test_shards_of_drawn_patches_hold_more_images(n_drawn, shard_images):
    made = complete_extraction({"tokens": "patches", "patches_per_image": n_drawn}, max_image_pixels=10**6)
    assert made.shard_images == shard_images


def test_settings_that_came_later_are_left_out_at_their_defaults():
    assert {"hook", "patches_per_image"}.isdisjoint(ExtractionConfig().model_dump())
    assert {"hook", "patches_per_image"}.isdisjoint(ExtractionConfig().model_dump(mode="json"))
    changed = extraction(4, hook="mlp").model_dump()
    assert (changed["patches_per_image"], changed["hook"]) == (4, "mlp")
    assert ExtractionConfig(**changed) == extraction(4, hook="mlp")
