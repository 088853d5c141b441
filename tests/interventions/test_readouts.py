"""Readouts against the probes that they come from, and the model's own classifier against the whole model."""

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tests.backbones.conftest import MODELS, image_processor, random_images, randomise, save
from tests.relevancy.small_backbones import CPU

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.errors import UserError
from hsae.hierarchy.probes.ridge_probe import ridge_probes, ridge_scores
from hsae.interventions.own_classifier import load_classifier, matched_outputs
from hsae.interventions.readouts import LabelledRows, ReadRows, train_neighbours, train_probe
from hsae.taxonomy import Synset

ROWS = ReadRows(1, True)


def some_rows(seed, n=60, d=7, n_classes=5):
    centres = np.random.default_rng(7).normal(0, 1, (n_classes, d))  # the same for every seed
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    labels[:n_classes] = np.arange(n_classes)
    x = centres[labels] + rng.normal(0, 0.8, (n, d))
    return LabelledRows(x.astype(np.float32), labels)


@given(seed=st.integers(0, 100), n=st.sampled_from([7, 8, 60]), d=st.sampled_from([3, 7, 20]))
def test_ridge_scores_are_the_ridge_probe(seed, n, d):
    train, other = some_rows(seed, n, d), some_rows(seed + 1000, 40, d)
    fit = ridge_scores(train.x, train.labels)
    (probe,) = ridge_probes(train.x, train.labels, other.x, [np.arange(5)])
    assert fit.penalty == probe.penalty
    predicted = np.round(other.x.astype(np.float64) @ fit.weight + fit.intercept, 10).argmax(1)
    assert (predicted == probe.predicted).all()


def test_the_factor_of_the_logits_fits_other_images_best():
    train, select = some_rows(0), some_rows(1)
    train.labels[train.labels == 3] = 2  # a class that no training image has
    probe = train_probe(train, select, 5, ROWS, CPU)
    assert (float(probe.intercept[3]), float(probe.weight[:, 3].abs().max())) == (0, 0)
    stream = torch.from_numpy(select.x)[:, None]
    reading = probe.read(stream)
    known = select.labels != 3

    def loss(factor):
        logits = torch.from_numpy(reading.logits[known][:, [0, 1, 2, 4]] * factor)
        n = len(logits)
        target = torch.full((n, 4), 1 / (n + 2) / 3, dtype=torch.float64)
        target[torch.arange(n), torch.from_numpy(np.searchsorted([0, 1, 2, 4], select.labels[known]))] = 1 - 1 / (n + 2)
        return float(torch.nn.functional.cross_entropy(logits, target))

    assert loss(1.0) <= min(loss(0.97), loss(1.03)) + 1e-7
    fit = ridge_scores(train.x, np.searchsorted([0, 1, 2, 4], train.labels))
    expected = np.array([0, 1, 2, 4])[(select.x.astype(np.float64) @ fit.weight + fit.intercept).argmax(1)]
    assert (reading.predicted == expected).all()
    with pytest.raises(UserError, match="of one class"):
        train_probe(LabelledRows(train.x, train.labels * 0), select, 5, ROWS, CPU)


def test_neighbours_vote_without_log_odds():
    train = some_rows(0)
    readout = train_neighbours(train, 20, ROWS, CPU)
    assert readout.k == min(20, np.bincount(train.labels).min())
    reading = train_neighbours(train, 1, ROWS, CPU).read(torch.from_numpy(train.x)[:, None])
    assert reading.logits is None
    assert (reading.predicted == train.labels).all()


def test_the_row_that_readouts_see():
    stream = torch.arange(24.0).view(1, 4, 6)
    assert torch.equal(ROWS(stream), stream[:, 0])
    assert torch.equal(ReadRows(0, False)(stream), stream.mean(1))
    assert torch.equal(ReadRows(2, False)(stream), stream[:, 2:].mean(1))


CLASSES = [Synset(f"n0000000{i}", f"{name}.n.01", (name,), "") for i, name in enumerate(("hen", "eel", "saw", "axe"))]


@pytest.mark.parametrize("size", [32, 48])
@pytest.mark.parametrize("kind", ["vit", "dinov2", "deit"])
def test_the_own_classifier_is_the_whole_model(kind, size, tmp_path):
    config_class, model_class, tiny, processor = MODELS[kind]
    labels = {0: "n00000001", 1: "hen, chicken", 2: "moon", 3: "axe.n.01"}
    config = getattr(transformers, config_class)(**tiny, id2label=labels, label2id={v: k for k, v in labels.items()})
    name = model_class.replace("Model", "ForImageClassification")
    folder = save(tmp_path, randomise(getattr(transformers, name)(config)), image_processor(processor, size))
    spec = inspect_backbone(str(folder))
    backbone = Backbone.load(spec, layers=[1, 3], device=CPU)
    images = backbone.pixel_values(random_images(5))
    readout = load_classifier(spec, CLASSES, CPU)
    assert readout.outputs.tolist() == [1, 0, -1, 3]
    whole = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        options = {"interpolate_pos_encoding": size != 32} if kind != "dinov2" else {}
        expected = whole(images, **options).logits.double().numpy()
    for _ in range(2):
        logits = readout.read(backbone.recorded(images).streams[3]).logits
        np.testing.assert_allclose(logits[:, [0, 1, 3]], expected[:, [1, 0, 3]], rtol=1e-5, atol=1e-5)
        assert np.isneginf(logits[:, 2]).all()


def test_a_model_without_a_classifier_is_refused_in_one_line(tmp_path):
    from hsae.demo import backbone_folder

    with pytest.raises(UserError, match="has no classifier of its own: leave the readout classifier out"):
        load_classifier(inspect_backbone(str(backbone_folder())), CLASSES, CPU)
    assert matched_outputs({0: "moon"}, CLASSES).tolist() == [-1] * 4
    # A word of two classes, and two outputs for one class, mean neither.
    twice = [*CLASSES, Synset("n00000009", "hen.n.02", ("hen",), "")]
    assert matched_outputs({0: "hen", 1: "eel", 2: "n00000001", 3: "saw"}, twice).tolist() == [-1, -1, 3, -1, -1]
