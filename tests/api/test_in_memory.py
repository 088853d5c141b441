"""hsae.extract and hsae.train: the pipeline's own activations and weights, from arrays alone."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.api.conftest import SAES

import hsae
from hsae.catalog import Dataset, transaction
from hsae.datasets.split import split_images
from hsae.demo import backbone_folder
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.stored import read_listing


@pytest.fixture
def listing(analysis):
    """The data set's listing, and its root."""
    with transaction(analysis.connections.sessions) as session:
        dataset = session.get_one(Dataset, analysis.about["dataset_id"])
    return read_listing(analysis.connections.store, dataset_ref(dataset)), dataset.root


@pytest.fixture(scope="module")
def pictures():
    """Three images in memory."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40, 50, 3), np.uint8) for _ in range(3)]


def test_extract_gives_the_stored_activations(study, listing):
    table, root = listing
    paths = [f"{root}/{path}" for path in table["path"].to_pylist()[:20]]
    extracted = hsae.extract(paths, model=backbone_folder(), layers=[1, 3], device="cpu", batch_size=20)
    assert extracted.layers == (1, 3)
    for layer in (1, 3):
        np.testing.assert_allclose(extracted[layer], study.activations(layer)[:20].numpy(), rtol=1e-5, atol=1e-5)
    with pytest.raises(hsae.UserError, match="layer 2 was not extracted, only 1, 3"):
        extracted[2]
    assert "20 images" in repr(extracted)
    page = dataclasses.replace(extracted, spec=extracted.spec.model_copy(update={"name": "<script>"}))._repr_html_()
    assert "<td>3</td><td>20, 192</td><td>float32</td>" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_train_gives_the_stored_weights(analysis, study, listing):
    table, _ = listing
    trains = split_images(table, hsae.SplitConfig()).train
    x = study.activations(3).numpy()[trains]
    trained = hsae.train(x, SAES[1], device="cpu")
    assert not trained.sae.training
    for name, tensor in analysis.sae().to_tensors().items():
        assert torch.equal(trained.sae.to_tensors()[name], tensor), name
    assert trained.metrics.fvu == pytest.approx(analysis.about["sae_metrics"]["fvu"])
    stored_curve, curve = analysis.curve(), trained.curve()
    assert set(stored_curve.columns) - set(curve.columns) == {"vectors_per_second"}
    assert curve.step.iloc[-1] == analysis.metrics["n_steps"] == 200
    for name in curve.columns:
        np.testing.assert_allclose(stored_curve[name], curve[name], rtol=1e-4, atol=1e-6)
    held_out = analysis.metrics["evaluation"]["holdout"]
    assert held_out["l0_quantiles"] == trained.metrics.evaluation.holdout.l0_quantiles
    z = trained.encode(study.activations(3).numpy())
    stored = analysis.latent_activations().z
    np.testing.assert_allclose(z.toarray(), stored.toarray(), rtol=1e-4, atol=1e-4)


def test_images_in_every_form(pictures):
    model = backbone_folder()
    of_arrays = hsae.extract(pictures, model=model, layers="0-1", device="cpu")
    of_images = hsae.extract([Image.fromarray(one) for one in pictures], model=str(model), layers=[0, 1], device="cpu")
    assert of_arrays.layers == (0, 1)
    for layer in (0, 1):
        assert of_arrays[layer].shape == (3, 192)
        assert np.array_equal(of_arrays[layer], of_images[layer])


def test_tokens(pictures):
    given: Any = {"model": backbone_folder(), "layers": 2, "device": "cpu"}
    patches = hsae.extract(pictures, tokens="patches", **given)[2]
    mean = hsae.extract(pictures, tokens="mean", **given)[2]
    assert patches.ndim == 3
    assert np.array_equal(hsae.extract(pictures, tokens="mean", **{**given, "layers": np.int64(2)})[2], mean)
    np.testing.assert_allclose(patches.mean(1), mean, rtol=1e-4, atol=1e-5)
    trained = hsae.train(patches, kind="topk", k=4, expansion=2, n_steps=20, device="cpu")
    z = trained.encode(patches)
    each = trained.encode(patches.reshape(-1, 192)).toarray().reshape(3, -1, 384)
    assert z.shape == (3, 384)
    np.testing.assert_allclose(z.toarray(), each.max(1))


def test_hook_points(pictures):
    given: Any = {"model": backbone_folder(), "device": "cpu"}
    stream = hsae.extract(pictures, layers=[1, 2], **given)
    attention, mlp = (hsae.extract(pictures, layers=[2], hook=hook, **given) for hook in ("attention", "mlp"))
    assert (stream.hook, attention.hook) == ("residual", "attention")
    np.testing.assert_allclose(stream[1] + attention[2] + mlp[2], stream[2], rtol=1e-3, atol=1e-3)
    by_path = hsae.extract(pictures, hook="encoder.layer.2", **given)  # it names its layer
    assert by_path.layers == (2,)
    assert np.array_equal(by_path[2], stream[2])
    assert "at attention" in repr(attention)
    with pytest.raises(hsae.UserError, match=r"has no module encoder\.layer\.99: near ones are encoder\.layer\.5"):
        hsae.extract(pictures, hook="encoder.layer.99", **given)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        hsae.extract(pictures, **{**given, "colour": "red"})


def test_large_files_may_be_decoded_smaller(tmp_path):
    path = tmp_path / "large.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(noise).resize((1600, 1200), Image.Resampling.BICUBIC).save(path)
    given: Any = {"model": backbone_folder(), "layers": 2, "device": "cpu"}
    exact, scaled = (hsae.extract([path], decode=decode, **given)[2] for decode in ("exact", "scaled"))
    assert not np.array_equal(exact, scaled)
    cosine = (exact * scaled).sum() / np.linalg.norm(exact) / np.linalg.norm(scaled)
    assert cosine > 0.999
    with Image.open(path) as whole:
        assert np.array_equal(hsae.extract([whole], decode="scaled", **given)[2], exact), "an image in memory is whole"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers": [99]}, "has no layer 99: choose from 0 to 5"),
        ({"layers": "a-b"}, "layers a-b cannot be read"),
        ({"tokens": "all"}, "tokens 'all' is not known: choose from cls, registers, patches, mean"),
        ({"decode": "half"}, "decode 'half' is not known: choose from exact, scaled"),
        ({"layers": [1.0]}, "layer 1.0 is no number of a block: give whole numbers from 0"),
        ({"layers": None}, "layer None is no number of a block"),
        ({"device": "tpu9"}, "'tpu9' is no device"),
        ({"device": "mps"}, "device mps is not supported: give auto, cpu, cuda or cuda:1"),
        ({"device": "meta"}, "device meta is not supported"),
        ({"device": None}, "None is no device"),
        ({"model": "/absent/model"}, "/absent/model"),
    ],
)
def test_what_cannot_be_extracted(pictures, changes, words):
    with pytest.raises(hsae.UserError) as refused:
        hsae.extract(pictures, **{"model": backbone_folder(), "layers": [0], "device": "cpu", **changes})
    assert words in str(refused.value)


ROWS = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)


@pytest.mark.parametrize(
    ("x", "settings", "words"),
    [
        (ROWS, {"kind": "tokp"}, "kind 'tokp' is not valid"),
        (ROWS, {"widht": 3}, "widht is no setting of an SAE: choose from"),
        (ROWS, {"config": SAES[0], "k": 3}, "give a config or settings, not both: k"),
        (ROWS, {"config": {"kind": "topk"}}, "the config is a dict: give an hsae.SaeConfig, or its settings by name"),
        (ROWS[0], {}, r"the activations are [6]: give [n_images, d_model]"),
        (ROWS.astype(int), {}, "give floating-point numbers"),
        (np.full_like(ROWS, np.nan), {}, "holds NaN or infinity"),
        (ROWS, {"images": [1, 2]}, "give one whole number for each of the 30 rows"),
        ([["a"]], {}, "the activations are no array of numbers"),
    ],
)
def test_what_cannot_be_trained_on(x, settings, words):
    with pytest.raises(hsae.UserError) as refused:
        hsae.train(x, **{"n_steps": 2, "expansion": 1, **settings} if "config" not in settings else settings)
    assert words in str(refused.value)


def test_steps_are_told_and_images_are_held_out_whole():
    steps: list[int] = []
    trained = hsae.train(
        torch.from_numpy(ROWS), kind="topk", k=2, expansion=2, n_steps=7, holdout_share=0.2, device="cpu",
        images=np.arange(30) // 3, on_step=lambda report: steps.append(report.step),
    )  # fmt: skip
    assert steps == list(range(1, 8))
    assert trained.metrics.n_holdout_rows == 6  # of 2 of the 10 images
    assert "topk SAE, 12 latents" in repr(trained)
    for value in ("held out", "training", f"{trained.metrics.fvu:.3g}", f"{trained.metrics.train_fvu:.3g}"):
        assert f"<td>{value}</td>" in trained._repr_html_()
    with pytest.raises(hsae.UserError, match="the activations have 5 dimensions and the SAE 6"):
        trained.encode(ROWS[:, :5])
    with pytest.raises(hsae.UserError, match="row 2 of the activations holds NaN"):
        trained.encode(np.where(np.arange(30)[:, np.newaxis] == 2, np.nan, ROWS))
