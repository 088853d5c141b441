"""The rules of the pointing game by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.findings.real_layers import RealLayers
from benchmarks.relevancy.pointing_game import hit_of, interval
from benchmarks.relevancy.pointing_truth import (
    Collage,
    Labelled,
    collages,
    labelled_latents,
    pasted,
    with_known_truth,
)
from PIL import Image
from torch import Tensor

from hsae.hierarchy.scored_activations import ImageParts
from hsae.taxonomy import induce, load_taxonomy

LABELLED = Labelled(3, 1, "dog.n.01", 0.8, (0, 1), (2, 3, 4, 5, 6))


@pytest.mark.parametrize(("quarter", "row", "col"), [(0, 0, 1), (1, 1, 2), (2, 3, 0), (3, 2, 3)])
def test_a_peak_hits_the_quarter_that_it_lies_in_and_no_other(quarter, row, col):
    values = np.zeros((4, 4))
    values[row, col] = 1
    assert [hit_of(values, place) for place in range(4)] == [float(place == quarter) for place in range(4)]


def test_ties_share_and_the_middle_lies_in_no_quarter():
    assert [hit_of(np.zeros((4, 4)), place) for place in range(4)] == [0.25] * 4
    middle = np.zeros((3, 3))
    middle[1, 1] = 1
    assert [hit_of(middle, place) for place in range(4)] == [0.0] * 4


def test_intervals_draw_labels():
    same = interval(np.ones(6), np.array([0, 0, 1, 1, 2, 2]))
    assert same == {"mean": 1.0, "low": 1.0, "high": 1.0}
    # One label that decides alone: its images are no independent evidence.
    found = interval(np.array([1.0] * 50 + [0.0] * 50), np.array([0] * 50 + [1] * 50))
    assert (found["mean"], found["low"], found["high"]) == (0.5, 0.0, 1.0)


def test_collages_have_the_class_in_one_quarter_and_an_exchange_changes_one():
    found = collages([LABELLED], 8, seed=0)
    assert [one.quarter for one in found] == [0, 1, 2, 3] * 2
    for one in found:
        assert [image in LABELLED.inside for image in one.images] == [place == one.quarter for place in range(4)]
        exchanged = one.exchanged(one.quarter)
        assert set(exchanged.images) <= set(LABELLED.outside)
        assert [a == b for a, b in zip(one.images, exchanged.images, strict=True)].count(False) == 1


def test_a_collage_is_pasted_in_reading_order(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)]
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, colour in zip(paths, colours, strict=True):
        Image.new("RGB", (5, 7), colour).save(path)
    whole = pasted(Collage(LABELLED, 0, (0, 1, 2, 3), (0, 0, 0, 0), 0), paths, 10)
    assert [whole.getpixel(at) for at in ((2, 2), (17, 2), (2, 17), (17, 17))] == colours


class Identity:
    """An SAE whose latents are the activations."""

    def encode(self, x: Tensor) -> Tensor:
        return x


IDENTITY: Any = Identity()


@pytest.fixture
def planted(tmp_path):
    """Six images of each of three classes, the first three of which choose; a column for each planted latent."""
    tree = tmp_path / "tree.csv"
    tree.write_text("child,parent\nanimal,thing\nvehicle,thing\ndog,animal\ncat,animal\ncar,vehicle\n")
    taxonomy = induce(load_taxonomy(tree), ["dog", "cat", "car"])
    names = [taxonomy.synsets[node].name for node in taxonomy.classes.tolist()]
    of_image = np.repeat(["dog", "cat", "car"], 6)
    chooses = np.tile([True] * 3 + [False] * 3, 3)
    dog, cat, car = (of_image == name for name in ("dog", "cat", "car"))
    one = np.arange(18) == 12  # a car that chooses
    latents = {
        "all dogs but one": dog & (np.arange(18) != 0),
        "dogs": dog,
        "animals": dog | cat,
        "always": np.ones(18, bool),
        "one car": one,
        "cats that choose": cat & chooses,
        "cars": car,
    }
    return list(latents), RealLayers(
        activations={4: torch.from_numpy(np.stack([*latents.values()], 1).astype(np.float32))},
        image=torch.arange(18),
        view=torch.zeros(18, dtype=torch.int64),
        labels=np.array([names.index(name) for name in of_image]),
        taxonomy=taxonomy,
        parts=ImageParts(np.arange(0), np.flatnonzero(chooses), np.flatnonzero(~chooses)),
    )


def test_the_label_is_what_the_choosing_images_say_and_the_scored_ones_are_played(planted):
    """One that always fires has no label, nor one seen once; one that fires on no scored image cannot be played."""
    names, layers = planted
    found = {one.name: one for one in labelled_latents(layers, 4, IDENTITY, min_f1=0.3)}
    # A vehicle and a car are the same images: the deeper node is the label.
    assert {label: names[one.latent] for label, one in found.items()} == {
        "dog": "dogs", "animal": "animals", "car": "cars",
    }  # fmt: skip
    assert {one.f1_adjusted for one in found.values()} == {1.0}
    assert (found["dog"].inside, found["dog"].outside) == ((3, 4, 5), (9, 10, 11, 15, 16, 17))
    assert (found["animal"].inside, found["animal"].outside) == ((3, 4, 5, 9, 10, 11), (15, 16, 17))
    assert all(layers.taxonomy.synsets[one.node].name == label for label, one in found.items())


COLOURS = ((250, 0, 0), (0, 250, 0), (0, 0, 250), (90, 90, 90), (90, 90, 90), (90, 90, 90), (90, 90, 90))
RED, GREEN, BLUE = range(3)
NEEDS = ((RED,), (GREEN,), (RED, GREEN), (RED, GREEN, BLUE))
"""By latent the pictures without which it is silent."""


class Eye:
    """A backbone that sees which of the pictures a collage has; the SAE's latents are what needs them."""

    layers = (2, 5)

    def pixel_values(self, images: list[Image.Image]) -> Tensor:
        return torch.stack([torch.from_numpy(np.array(image)) for image in images])

    def activations(self, pixels: Tensor, tokens: str) -> dict[int, Tensor]:
        assert tokens == "cls"
        seen = [[bool((image == torch.tensor(colour)).all(-1).any()) for colour in COLOURS[:3]] for image in pixels]
        z = [[float(all(row[need] for need in needs)) for needs in NEEDS] for row in seen]
        return {5: torch.tensor(z)[:, None], 2: torch.zeros(len(z), 1, len(NEEDS))}


def test_the_truth_is_known_where_the_right_quarter_alone_decides(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(COLOURS))]
    for path, colour in zip(paths, COLOURS, strict=True):
        Image.new("RGB", (4, 4), colour).save(path)

    def candidates(latent: int) -> list[Collage]:
        """Red at the right place, green and blue at others; what replaces one is grey."""
        labelled = Labelled(latent, 1, "red.n.01", 1.0, (RED,), (GREEN, BLUE, 3, 4, 5, 6))
        return [Collage(labelled, 1, (GREEN, RED, BLUE, 3), (4, 5, 6, 4), seed) for seed in range(3)]

    eye: Any = Eye()
    silent = Collage(Labelled(0, 1, "red.n.01", 1.0, (RED,), (3, 4, 5)), 1, (3, 4, 5, 6), (3, 4, 5, 6), 9)
    given = [silent, *(collage for latent in range(4) for collage in candidates(latent))]
    truth = with_known_truth(given, eye, IDENTITY, paths, 6, n_each=2)
    # The second fires because of another quarter; the last one is silent without either of two others.
    assert [(game.labelled.latent, game.seed) for game in truth.games] == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert truth.n_firing == 12
    assert truth.firing_share == 12 / 13
    assert truth.firing_share_without == 3 / 13  # of the second, whose quarter was not exchanged
    assert with_known_truth([], eye, IDENTITY, paths, 6, n_each=2).games == []
