"""The comparison of a study as a figure: what the panels show."""

import pytest
from matplotlib.figure import Figure

from hsae.report.figures.study_figure import strongest_baseline, study_figure


def score(layer, sae, basis, value, metric="coherence_excess"):
    low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
    return {
        "metric": metric, "analysis_id": layer, "layer": layer, "sae": sae, "basis": basis, "value": value,
        "ci_low": low, "ci_high": high,
    }  # fmt: skip


SCORES = [
    score(layer, sae, basis, value)
    for sae in ("relu", "topk <b>")
    for layer in range(3)
    for basis, value in (("sae", 0.3 + layer / 10), ("exemplar", 0.2), ("random", 0.1), ("shuffled_taxonomy", 0.01),
                         ("class_mean", 0.9))
]  # fmt: skip
DIFFERENCES = [
    score(layer, sae, "sae", value) | {"other_basis": other}
    for sae in ("relu", "topk <b>")
    for layer in range(3)
    for other, value in (("exemplar", 0.1 + layer / 10), ("random", 0.7), ("sae", 0.5))
]
TRENDS = [{"metric": "coherence_excess", "sae": "relu", "slope": 0.1, "ci_low": 0.05, "ci_high": 0.15}]


def draw(monkeypatch, tmp_path, scores=SCORES, differences=DIFFERENCES, trends=TRENDS):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (drawn.append(figure), path.write_bytes(b"")))
    metrics = {"coherence_excess": "coherence", "purity_mean": "of no row"}
    study_figure(metrics, scores, differences, trends, "a study", tmp_path / "study.pdf")
    return drawn[0].axes


def test_values_bands_and_the_difference_from_the_strongest_baseline(tmp_path, monkeypatch):
    left, right = draw(monkeypatch, tmp_path)
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == ["relu; rises with depth? yes", "topk <b>; rises with depth? unknown"]
    values = [list(line.get_ydata()) for line in left.lines]
    assert values == [[0.3, 0.4, 0.5], [0.01] * 3] * 2
    assert len(left.collections) == 2  # a band for each SAE
    points = [line for line in right.lines if line.get_marker() == "o"]
    assert [float(point.get_ydata()[0]) for point in points] == pytest.approx([0.1, 0.2, 0.3] * 2)


def test_undefined_numbers_leave_gaps(tmp_path, monkeypatch):
    scores = [score(layer, "relu", "sae", None) for layer in range(2)]
    _, right = draw(monkeypatch, tmp_path, scores=scores, differences=[], trends=[])
    assert len(right.lines) == 1  # the line at 0
    assert draw(monkeypatch, tmp_path, scores=[], differences=[], trends=[])


def test_the_strongest_baseline_is_no_ceiling_and_no_shuffle():
    assert strongest_baseline(SCORES[:5]) == "exemplar"
    assert strongest_baseline([score(0, "relu", "class_mean", 0.9), score(0, "relu", "random", None)]) is None
