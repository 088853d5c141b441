"""Names by cosine: against a loop, and directions that are planted in the bundled CLIP's space."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from tests.small import _load_taxonomy

from hsae.backbones.backbone import Backbone
from hsae.backbones.hooks.names import EMBEDDING
from hsae.backbones.inspection import inspect_backbone
from hsae.demo import clip_folder, images_listing
from hsae.taxonomy import induce
from hsae.text.config import TEMPLATES
from hsae.text.names import WordEmbeddings, concept_cosines, nearest_words
from hsae.text.vocabulary import known_entries, taxonomy_vocabulary

N_CLASSES = 40


def test_names_are_those_of_a_loop():
    torch.manual_seed(0)
    units = torch.nn.functional.normalize(torch.randn(9, 5, dtype=torch.float64), dim=1)
    centred = torch.nn.functional.normalize(units - units.mean(0), dim=1)
    directions = torch.randn(6, 5)
    directions[3] = 0
    found = nearest_words(directions, WordEmbeddings(centred, units.mean(0)))
    for latent, direction in enumerate(directions.double()):
        if latent == 3:
            assert (found.word[3], found.runner_up[3]) == (-1, -1)
            assert np.isnan(found.score[3])
            continue
        cosines = []
        for unit in units:
            other = unit - units.mean(0)
            cosines.append(float(direction @ other / direction.norm() / other.norm()))
        order = sorted(range(9), key=lambda word: -cosines[word])
        assert [found.word[latent], found.runner_up[latent]] == order[:2]
        assert found.score[latent] == pytest.approx(cosines[order[0]])
        assert found.margin[latent] == pytest.approx(cosines[order[0]] - cosines[order[1]])
    assert len(nearest_words(torch.empty(0, 5), WordEmbeddings(centred, units.mean(0))).word) == 0


@pytest.fixture(scope="module")
def space(tower):
    """The words of some bundled classes, and the mean embedding of the images of each, those of one style apart."""
    with images_listing().open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    wnids = sorted({row["label"] for row in rows if row["group"] == "fxemoji"})[:N_CLASSES]
    taxonomy = induce(_load_taxonomy(None), wnids)
    vocabulary = known_entries(taxonomy_vocabulary(taxonomy), tower.knows, "clip")
    spec = inspect_backbone(str(clip_folder()), hook=EMBEDDING)
    backbone = Backbone.load(spec, layers=(spec.n_layers - 1,), device=torch.device("cpu"), hook=EMBEDDING)
    chosen = [row for row in rows if row["label"] in wnids]
    pictures = [Image.open(images_listing().parent / row["path"]).convert("RGB") for row in chosen]
    embedded = backbone.activations(backbone.pixel_values(pictures), "cls")[spec.n_layers - 1][:, 0].double()
    units = torch.nn.functional.normalize(embedded, dim=1)

    def class_means(*, held_out):
        is_own = [(row["group"] == "fxemoji") == held_out for row in chosen]
        means = []
        for wnid in wnids:
            own = [at for at, row in enumerate(chosen) if is_own[at] and row["label"] == wnid]
            means.append(units[own].mean(0))
        return torch.stack(means) - units[[at for at, own in enumerate(is_own) if own]].mean(0)

    nodes = {taxonomy.synsets[entry.node].id: number for number, entry in enumerate(vocabulary)}
    return vocabulary, WordEmbeddings.of(vocabulary, TEMPLATES, tower), class_means, np.array([nodes[w] for w in wnids])


def test_directions_planted_at_words_have_their_names(space):
    vocabulary, words, _, _ = space
    rng = torch.Generator().manual_seed(0)
    noise = torch.nn.functional.normalize(torch.randn(words.centred.shape, generator=rng, dtype=torch.float64), dim=1)
    found = nearest_words(3.0 * words.centred + 0.6 * noise, words)
    assert (found.word == np.arange(len(vocabulary))).mean() > 0.9
    assert (found.margin > 0).all()


def test_directions_planted_by_images_have_the_names_of_their_classes(space):
    """Differences of images, as latents stand for them; chance is one in as many words as there are."""
    _, words, class_means, expected = space
    seen = nearest_words(class_means(held_out=False), words)
    unseen = nearest_words(class_means(held_out=True), words)
    assert (seen.word == expected).mean() > 0.5
    assert (unseen.word == expected).mean() > 5 / len(words.centred)


def test_a_concept_is_nearest_to_its_own_direction(space, tower):
    _, words, _, _ = space
    for number in (0, 5, 11):
        concept = words.centred[number] + words.mean
        cosines = concept_cosines(words.centred, concept, words.mean)
        assert cosines.argmax() == number
        assert cosines[number] == pytest.approx(1.0)
