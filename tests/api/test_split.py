"""hsae.split: the pipeline's parts, so that what is scored did not train the SAE."""

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.small import quick_scoring

import hsae
from hsae.demo import backbone_folder, images_folder

TREE = [("cat", "pet"), ("dog", "pet"), ("cow", "farm"), ("hen", "farm"), ("pet", "animal"), ("farm", "animal")]
LABELS = [name for name in ("cat", "dog", "cow", "hen") for _ in range(10)]
PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_parts_are_those_of_shares():
    parts = hsae.split(LABELS, "0.5/0.25/0.25", taxonomy=TREE)
    assert sorted([*parts.train, *parts.select, *parts.score]) == list(range(40))
    z = np.random.default_rng(0).random((40, 3), np.float32)
    scores = hsae.score(z, LABELS, taxonomy=TREE, split=hsae.SplitConfig())
    for part in ("train", "select", "score"):
        assert np.array_equal(getattr(scores.parts, part), getattr(parts, part))
    same = hsae.score(z, LABELS, taxonomy=TREE, split=parts)
    assert same.latent_rows() == scores.latent_rows()
    other = hsae.split(LABELS, hsae.SplitConfig(seed=1), taxonomy=TREE)
    assert not np.array_equal(other.train, parts.train)


def test_the_example_of_the_page_scores_images_that_did_not_train(monkeypatch, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    code = next(block for block in blocks if "hsae.extract" in block)
    folders = sorted(folder for folder in images_folder().iterdir() if len(list(folder.iterdir())) > 3)[:6]
    paths = [path for folder in folders for path in sorted(folder.iterdir())]
    lines = [line for line in code.splitlines() if not line.startswith("images, labels = ")]
    code = "\n".join(lines).replace('"facebook/dinov2-base"', "MODEL")
    trained_on: list[np.ndarray] = []
    train, score = hsae.train, hsae.score

    def quick_train(x: np.ndarray, **settings: Any) -> hsae.Trained:
        trained_on.append(x)
        return train(x, **{**settings, "n_steps": 5})

    monkeypatch.setattr(hsae, "train", quick_train)
    monkeypatch.setattr(hsae, "score", lambda *of, **more: score(*of, **more, scoring=quick_scoring(embeddings="own")))
    (tmp_path / "example.py").write_text(code)
    given = {"hsae": hsae, "MODEL": backbone_folder(), "images": paths, "labels": [path.parent.name for path in paths]}
    names = runpy.run_path(str(tmp_path / "example.py"), given)
    parts, x = names["scores"].parts, names["x"]
    assert np.array_equal(trained_on[0], x[parts.train])
    assert len(parts.score)
    assert not set(parts.train) & set(parts.score)


@pytest.mark.parametrize(
    ("labels", "shares", "words"),
    [
        (LABELS, "none", "a split needs shares of three parts such as 0.5/0.25/0.25: 'none' leaves all in one"),
        (LABELS, None, "a split needs shares of three parts"),
        (LABELS, 0.5, "the split is a float: give shares such as '0.5/0.25/0.25'"),
        (LABELS, (0.5, 0.25, 0.25), "the split is a tuple: give shares"),
        (None, "0.5/0.25/0.25", "the labels are a NoneType: give a list with a name for each image"),
        (Path("labels.csv"), "0.5/0.25/0.25", "Path: give a list with a name for each image"),
        (["cat", "dgo", "cow", "hen"], "0.5/0.25/0.25", "'dgo' is no node of the taxonomy edges"),
    ],
)
def test_what_cannot_be_split(labels, shares, words):
    with pytest.raises(hsae.UserError) as refused:
        hsae.split(labels, shares, taxonomy=TREE)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("score", "words"),
    [
        ([39, 40], "split.score has positions 39 to 40: there are 40 images"),
        ([-1, 3], "split.score has positions -1 to 3: there are 40 images"),
        ([], "split.score is float64[0]: give the positions of its images"),
        ([True, False], "split.score is bool[2]: give the positions of its images"),
    ],
)
def test_parts_of_other_images(score, words):
    parts = hsae.ImageParts(np.arange(20), np.arange(20, 30), np.array(score))
    with pytest.raises(hsae.UserError) as refused:
        hsae.score(np.ones((40, 2), np.float32), LABELS, taxonomy=TREE, split=parts)
    assert words in str(refused.value)
