"""Latents, nodes, the SAE and the user's own images, of one analysis."""

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from PIL import Image
from tests.api.conftest import paths_of
from tests.pipeline.in_process import run_study

import hsae
from hsae.api.arrays.images import pixels_of
from hsae.demo import backbone_folder, images_folder
from hsae.pipeline.planning.submit import submit
from hsae.store.keys import weights_key


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, []),
        ({"under": "animal.n.01", "min_f1": 0.2}, ["--under", "animal.n.01", "--min-f1", 0.2]),
        ({"basis": "exemplar", "limit": 3}, ["--basis", "exemplar", "--limit", 3]),
    ],
)
@pytest.mark.parametrize("what", ["latents", "nodes"])
def test_tables_are_the_rows_of_the_command_line(analysis, admin_json, what, options, asked):
    found = getattr(analysis, what)(**options)
    limit = [] if "--limit" in asked else ["--limit", 10**6]
    rows = admin_json("results", what, "--analysis", analysis.id, *asked, *limit)
    assert len(found) == len(rows) > 0
    columns = ["latent", "synset", "f1_adjusted"] if what == "latents" else ["synset", "height", "n_classes"]
    assert list(found.columns)[:3] == columns
    for shown, row in zip(found.to_dict("records"), rows, strict=True):
        for name, value in row.items():
            assert shown[name] == value or (value is None and pd.isna(shown[name])), name


def test_an_unknown_node_names_similar_ones(analysis):
    with pytest.raises(hsae.UserError, match="no data set has a node animl.n.01; did you mean animal.n.01"):
        analysis.nodes(under="animl.n.01")
    assert len(analysis.latents(under="animal.n.01", min_f1=1.01)) == 0
    assert list(analysis.latents(min_f1=1.01).columns)[:2] == ["latent", "synset"]


def test_the_sae_is_the_stored_one(analysis, studied):
    sae = analysis.sae()
    assert not sae.training
    assert not any(parameter.requires_grad for parameter in sae.parameters())
    x = torch.randn(5, sae.d_model, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sae(x), sae.decode(sae.encode(x)))
    assert (sae.encode(x) > 0).sum(1).max() <= 8


def test_lost_weights_are_told_and_made_again_by_the_next_submit(analysis, study, studied, request_of_study):
    key = weights_key(analysis.about["sae_key"], analysis.about["weights_sha256"])
    sound = studied.store.get(key)
    studied.store.put(key, b"damaged")
    try:
        with pytest.raises(hsae.UserError, match="is damaged .* submit again to make it anew"):
            analysis.sae()
        assert list(study.jobs().query("state == 'failed'").kind) == ["train"]
    finally:
        studied.store.put(key, sound)
    submit(request_of_study, studied.settings, studied.sessions)
    assert {job["state"] for job in run_study(studied, study.id)} == {"succeeded"}
    assert analysis.sae().d_model == 192


def test_own_images_have_the_latents_of_the_analysis(analysis):
    stored = analysis.latent_activations()
    paths = paths_of(analysis, stored.images[:10])
    z = analysis.encode(paths)
    assert z.shape == (10, analysis.n_latents)
    assert z.dtype == np.float32
    expected = stored.z[:10].toarray()
    assert ((z > 0) == (expected > 0)).mean() > 0.999  # the last bits depend on the batch
    np.testing.assert_allclose(z, expected, rtol=1e-3, atol=1e-3)
    with Image.open(paths[0]) as image:
        pixels = np.asarray(image.convert("RGB"))
        same = analysis.encode([paths[0], image, pixels])
    assert np.array_equal(same[0], same[1])
    assert np.array_equal(same[0], same[2])


def test_a_model_with_the_same_tower_is_steered(analysis):
    """By its number, an analysis knows layer and tokens; the model is anybody's, here the backbone by itself."""
    (path,) = paths_of(analysis, [7])
    latents = np.argsort(-analysis.encode([path])[0])[:3].tolist()
    model = transformers.AutoModel.from_pretrained(backbone_folder(), dtype=torch.float32).eval()
    pixels = pixels_of(analysis._backbone, [path])[0]

    def stream():
        with torch.no_grad():
            return model(pixels, output_hidden_states=True).hidden_states[analysis.layer + 1]

    plain = stream()
    with analysis.steer(model, dict.fromkeys(latents, 1.0)):
        assert torch.equal(stream(), plain)
    with analysis.steer(model, latents) as steering:
        steered = stream()
    assert steering.layer == analysis.layer == 3
    stored = analysis.encode([path])[0][latents]  # of activations that were rounded to float16
    np.testing.assert_allclose(steering.activations[0], stored, rtol=2e-3)
    sae = analysis.sae()
    z = sae.encode(plain[:, 0])
    new = z.clone()
    new[:, latents] = 0
    torch.testing.assert_close(steered[:, 0], plain[:, 0] + sae.decode(new) - sae.decode(z), rtol=1e-4, atol=1e-5)
    assert torch.equal(steered[:, 1:], plain[:, 1:])
    with analysis.steer(model, latents, tokens="patches"):
        assert torch.equal(stream()[:, 0], plain[:, 0])
    other = transformers.Dinov2Model(transformers.Dinov2Config(hidden_size=24, num_hidden_layers=2))
    words = r"tower of Dinov2Model \(dinov2, 2 blocks of 24\) is not .* 6 blocks of 192"
    with pytest.raises(hsae.UserError, match=words):
        analysis.steer(other, latents)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "there is no image"),
        ("cat.jpg", "give a list of images"),
        (["absent.jpg"], r"absent.jpg cannot be read \(No such file or directory\)"),
        ([np.zeros((4, 4, 3))], r"image 0 is float64\[4, 4, 3\]: give uint8\[height, width, 3\]"),
        ([3], "image 0 is a int: give the path of a file, a Pillow image or an array"),
        ([np.zeros((2, 1200, 3), np.uint8)], "image 0 cannot be used: 1200 x 2 pixels, one side more than 500 times"),
    ],
)
def test_images_that_cannot_be_used(analysis, images, words):
    with pytest.raises(hsae.UserError, match=words):
        analysis.encode(images)


def test_a_file_that_is_no_image(analysis, tmp_path):
    (tmp_path / "note.png").write_text("no image")
    with pytest.raises(hsae.UserError, match="note.png cannot be used: not a readable"):
        analysis.encode([tmp_path / "note.png"])


def test_explain_names_the_strongest_latents_beside_their_nulls(analysis):
    stored = analysis.latent_activations()
    row = stored.z[[0]].toarray()[0]
    explanation = analysis.explain(row, k=3)
    assert [one["latent"] for one in explanation.rows] == np.argsort(-row, kind="stable")[:3].tolist()
    table = explanation.to_pandas()
    assert list(table.columns) == [
        "latent", "activation", "synset", "f1_adjusted", "f1_adjusted_shuffled", "q", "coherence_excess", "text_name",
        "top_images",
    ]  # fmt: skip
    labels = analysis.latents().set_index("latent")
    for one in explanation.rows:
        if one["latent"] in labels.index:
            assert one["synset"] == labels.synset[one["latent"]]
            assert 0 <= one["f1_adjusted_shuffled"] <= 1
    page = explanation._repr_html_()
    assert page.count("<tr>") == 4
    assert "data:image/webp;base64," in page
    for z in (torch.from_numpy(row), stored.z[[0]], row[np.newaxis]):
        assert [one["latent"] for one in analysis.explain(z, k=3).rows] == [one["latent"] for one in explanation.rows]
    assert len(analysis.explain(row, k=10**6).rows) == (row > 0).sum()
    with pytest.raises(hsae.UserError, match=r"z is \[3\]: give one row of `encode`"):
        analysis.explain(row[:3])
    for z in ("x", [[1.0], [1.0, 2.0]], None):
        with pytest.raises(hsae.UserError, match="give one row of `encode`"):
            analysis.explain(z)
    with pytest.raises(hsae.UserError, match="z holds NaN"):
        analysis.explain(np.full_like(row, np.nan))


def test_the_three_questions_take_a_line_each(workspace):
    study = workspace.study()
    analysis = study.analysis(layer=3, k=8)
    dogs = analysis.latents(under="animal.n.01", min_f1=0.3)
    assert "<img" in analysis.show(dogs.latent[:2])._repr_html_()
    assert len(study.depth_test("coherence")) == 2
    assert len(analysis.explain(analysis.encode([next(path for path in images_folder().glob("*/*"))])[0]).rows) == 5


def test_latents_are_shown_by_number_list_or_table(analysis):
    table = analysis.latents(limit=2)
    expected = list(table.latent)
    for latents in (table, table.latent, table.latent.to_numpy(), table.latent.astype(float), iter(expected)):
        assert [card.latent for card in analysis.show(latents, n=1).cards] == expected
    assert [card.latent for card in analysis.show(np.int64(3), n=1).cards] == [3]
    for latents, words in (
        ("57", "the latents are the text '57': give a number, a list of numbers, or a table with a column latent"),
        (["57"], "'57' is no number of a latent"),
        ([1.5], "1.5 is no number of a latent"),
        ([np.nan], "nan is no number of a latent"),
        (None, "None is no number of a latent"),
        (table.drop(columns="latent"), "the table has no column latent"),
    ):
        with pytest.raises(hsae.UserError, match=words):
            analysis.show(latents)


@pytest.mark.parametrize("what", ["latents", "nodes"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": -1}, "limit is -1: give a whole number of rows, or None for all"),
        ({"limit": 1.5}, "limit is 1.5: give a whole number of rows"),
        ({"min_f1": "high"}, "min_f1 is 'high': give a number"),
        ({"basis": "nueron"}, "has no basis 'nueron': choose from sae, exemplar"),
        ({"basis": None}, "has no basis None: choose from sae, exemplar"),
    ],
)
def test_filters_that_fit_nothing_are_refused(analysis, what, options, words):
    with pytest.raises(hsae.UserError, match=words):
        getattr(analysis, what)(**options)


def test_only_nodes_have_shuffled_bases(analysis):
    assert len(analysis.nodes(basis="shuffled_taxonomy", limit=np.int64(2))) == 2
    with pytest.raises(hsae.UserError, match="has no basis 'shuffled_taxonomy'"):
        analysis.latents(basis="shuffled_taxonomy")
