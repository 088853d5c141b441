"""The probe of reconstructions against scikit-learn's ridge classifier, on SAEs with a known reconstruction."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.linear_model import RidgeClassifier

from hsae.hierarchy.probes.ridge_probe import ridge_probes
from hsae.pipeline.stages.evaluation import class_probe
from hsae.pipeline.stages.evaluation.class_probe import ProbedRows, image_classes, probe_reconstruction
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import TrainingRows
from hsae.sae.rows.split import split_rows

CPU = torch.device("cpu")
N_IMAGES, D = 80, 6


def make_rows(n_tokens=1, n_views=1, n_images=N_IMAGES):
    """Images of four classes, and their classes; the rows of augmented views would mislead any probe."""
    generator = np.random.default_rng(0)
    classes = np.arange(n_images) % 4
    x = 2.0 * np.eye(D)[classes] + generator.normal(size=(n_images, D))
    image = np.repeat(np.arange(n_images), n_views * n_tokens)
    view = np.tile(np.repeat(np.arange(n_views), n_tokens), n_images)
    rows = x[image] + 0.3 * generator.normal(size=(len(image), D)) + 100.0 * (view > 0)[:, None]
    activations = torch.from_numpy(rows.astype(np.float32))
    return TrainingRows(activations, torch.from_numpy(image), torch.from_numpy(view)), classes


def make_sae(scale=1.0, **settings):
    """Reconstructs `scale` times the activations: one latent for either direction of every axis."""
    sae = SparseAutoencoder(SaeConfig(expansion=2, **{"holdout_share": 0.25, **settings}), D)
    both_ways = torch.cat([torch.eye(D), -torch.eye(D)])
    with torch.no_grad():
        sae.encoder_weight.copy_(both_ways)
        sae.decoder_weight.copy_(scale * both_ways)
    return sae


def probed(sae, rows, classes):
    return probe_reconstruction(sae, ProbedRows.of(rows, sae.config), classes, CPU)


def expected(rows, classes, sae):
    """Accuracy on both sides, and chance, by scikit-learn with the penalty that the probe chooses."""
    split = split_rows(rows, holdout_share=sae.config.holdout_share, seed=sae.config.seed)
    image = rows.image_index.numpy()
    scored = np.unique(image[split.holdout.numpy()])
    train = np.setdiff1d(np.unique(image), scored)

    def means(values, images):
        plain = rows.view.numpy() == 0
        return np.stack([values[(image == each) & plain].mean(axis=0) for each in images])

    x = rows.activations.double().numpy()
    with torch.no_grad():
        x_hat = sae(rows.activations).double().numpy()
    x_train, y_train = means(x, train), classes[train]
    (probe,) = ridge_probes(x_train.astype(np.float32), y_train, x_train[:1].astype(np.float32), [np.arange(4)])
    centred = x_train - x_train.mean(axis=0)
    model = RidgeClassifier(alpha=probe.penalty * (centred**2).sum() / D).fit(x_train, y_train)
    most = np.bincount(y_train).argmax()
    return (
        model.score(means(x, scored), classes[scored]),
        model.score(means(x_hat, scored), classes[scored]),
        (classes[scored] == most).mean(),
    )


@pytest.mark.parametrize(("n_tokens", "n_views"), [(1, 1), (3, 2)])
@pytest.mark.parametrize("scale", [1.0, -0.7, 0.0])
def test_equals_scikit_learn_on_the_means_of_plain_rows(n_tokens, n_views, scale):
    rows, classes = make_rows(n_tokens, n_views)
    sae = make_sae(scale)
    found = probed(sae, rows, classes)
    accuracy, reconstructed, chance = expected(rows, classes, sae)
    assert found.class_accuracy == pytest.approx(accuracy)
    assert found.class_accuracy_reconstructed == pytest.approx(reconstructed)
    assert found.class_accuracy_chance == pytest.approx(chance)
    assert found.class_accuracy > 0.6
    assert scale != 1.0 or reconstructed == accuracy


def test_classes_that_no_image_trains_count_as_wrong():
    rows, classes = make_rows()
    split = split_rows(rows, holdout_share=0.25, seed=0)
    held_out = np.unique(rows.image_index[split.holdout].numpy())
    unknown = classes.copy()
    unknown[held_out] = 99
    assert probed(make_sae(), rows, unknown).class_accuracy == 0.0


def test_many_images_are_drawn_with_the_seed(monkeypatch):
    monkeypatch.setattr(class_probe, "MOST_TRAIN_IMAGES", 30)
    monkeypatch.setattr(class_probe, "MOST_SCORED_IMAGES", 7)
    rows, classes = make_rows(n_tokens=2)
    found = probed(make_sae(), rows, classes)
    assert found == probed(make_sae(), rows, classes)
    assert found.class_accuracy * 7 == pytest.approx(round(found.class_accuracy * 7))


def test_it_is_undefined_without_held_out_images_or_with_one_class():
    rows, classes = make_rows()
    assert probed(make_sae(holdout_share=0.0), rows, classes) is None
    assert probed(make_sae(), rows, 0 * classes) is None


def test_classes_of_a_listing():
    assert image_classes(pa.table({"class_id": ["b", "a", "b"]})).tolist() == [1, 0, 1]
    assert image_classes(pa.table({"class_ids": [["b"], ["a", "b"]]})) is None
