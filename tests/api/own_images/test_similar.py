"""The images of a data set most similar to one, and the latents that carry it."""

import numpy as np
import pytest
from tests.api.conftest import paths_of

import hsae


def slow_cosines(z, row):
    """The cosine of every row with one."""
    return [float(z[row] @ other / np.linalg.norm(z[row]) / (np.linalg.norm(other) or 1)) for other in z]


def test_similar_images_are_explained_by_shared_latents(analysis, study):
    stored = analysis.latent_activations()
    z, images = stored.z.toarray().astype(np.float64), stored.images.tolist()
    row = images.index(7)
    found = analysis.similar(7, k=6, n_latents=2)
    cosines = slow_cosines(z, row)
    expected = sorted((-round(cosine, 9), image) for cosine, image in zip(cosines, images, strict=True) if image != 7)[
        :6
    ]
    assert [each["image"] for each in found.rows] == [image for _, image in expected]
    assert [each["cosine"] for each in found.rows] == pytest.approx([-cosine for cosine, _ in expected], abs=1e-8)
    names = {row.latent: row.synset for row in analysis.image_latents(7).itertuples()}
    for each in found.rows:
        other = z[images.index(each["image"])]
        shares = z[row] * other / (z[row] @ other)
        best = [latent for latent in np.argsort(-shares, kind="stable")[:2].tolist() if shares[latent] > 0]
        assert [latent["latent"] for latent in each["latents"]] == best
        assert [latent["share"] for latent in each["latents"]] == pytest.approx(shares[best])
        assert [latent["synset"] for latent in each["latents"]] == [names[latent] for latent in best]
        assert paths_of(analysis, [each["image"]])[0].endswith(each["path"])
    x = study.activations(3).numpy().astype(np.float64)
    x -= x.mean(0)
    nearest = [images[place] for place in np.argsort(-np.round(slow_cosines(x, row), 9), kind="stable")]
    assert [each["image"] for each in found.by_activations] == [image for image in nearest if image != 7][:6]
    told = found.summary
    assert (told["image"], told["n_candidates"]) == (7, len(images) - 1)
    of_class = [analysis.similar(7, k=len(images)).by_activations, found.rows, found.by_activations]
    for name, rows in zip(("chance", "latents", "activations"), of_class, strict=True):
        assert told[f"same_class_{name}"] == pytest.approx(np.mean([each["synset"] == told["synset"] for each in rows]))
        assert told[f"bits_{name}"] == pytest.approx(np.mean([each["bits"] for each in rows]))
        assert all(each["same_class"] == (each["synset"] == told["synset"]) for each in rows)
    both = {each["image"] for each in found.rows} & {each["image"] for each in found.by_activations}
    assert told["found_by_both"] == pytest.approx(len(both) / 6)
    assert told["found_by_both_chance"] == pytest.approx(6 / told["n_candidates"])
    table = found.to_pandas()
    assert len(table) == sum(len(each["latents"]) for each in found.rows)
    assert list(table.columns)[:6] == ["image", "path", "cosine", "synset", "same_class", "bits"]
    assert list(table.columns)[6:] == ["latent", "share", "label", "f1_adjusted", "q"]
    assert table.label.tolist()[0] == found.rows[0]["latents"][0]["synset"]
    page = found._repr_html_()
    assert page.count("<img") == 6
    assert "at random" in page
    assert "of the same class" in repr(found)


def test_the_command_prints_the_same(analysis, admin_json, admin, studied):
    found = analysis.similar(7, k=4, n_latents=1)
    told = admin_json("results", "similar", 7, "--analysis", analysis.id, "--limit", 4, "--latents", 1)
    assert told == {
        "analysis_id": analysis.id,
        "summary": found.summary,
        "images": [*found.rows],
        "by_activations": [*found.by_activations],
    }
    (path,) = paths_of(analysis, [7])
    printed = admin(studied, "results", "similar", path, "--limit", 2)
    assert printed.exit_code == 0, printed.output
    assert "Analysis 4, the latest." in printed.output
    assert "Of the same class" not in printed.output  # the class of a file is not known
    assert admin(studied, "results", "similar", "absent.jpg").output.startswith("Error: absent.jpg cannot be read")


def test_an_image_of_one_s_own_finds_itself_in_the_data_set(analysis):
    (path,) = paths_of(analysis, [7])
    found = analysis.similar(path, k=3)
    assert found.rows[0]["image"] == found.by_activations[0]["image"] == 7
    assert found.rows[0]["cosine"] == pytest.approx(1, abs=1e-3)
    assert [each["image"] for each in found.rows[1:]] == [each["image"] for each in analysis.similar(7, k=2).rows]
    assert found.summary["same_class_chance"] is found.rows[0]["same_class"] is found.rows[0]["bits"] is None
    assert repr(found).endswith(f"3 of {found.summary['n_candidates']} images>")
    assert "of the same class" not in found._repr_html_()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"image": 10**6}, "small has no image 1000000, or its extraction could not read it"),
        ({"image": -1}, "image is -1: give a whole number from 0"),
        ({"image": True}, "image is True: give a whole number from 0"),
        ({"image": "absent.jpg"}, "absent.jpg cannot be read"),
        ({"image": 7, "k": 0}, "0 similar images were asked for: ask for at least 1"),
        ({"image": 7, "k": 2.5}, "k is 2.5: give a whole number from 0"),
    ],
)
def test_searches_that_make_no_sense(analysis, given, words):
    with pytest.raises(hsae.UserError, match=words):
        analysis.similar(**given)
