"""The curves of trainings as a figure: what the panels show."""

import pytest
from matplotlib.figure import Figure

from hsae.errors import UserError
from hsae.report.figures.curve_figure import curve_figure


def point(step, **changes):
    return {
        "step": step, "loss": 1 / step, "fvu": 0.5 / step, "train_fvu": 0.4 / step, "l0": 10.0, "train_l0": 9.0,
        "dead_share": 0.0, "learning_rate": 1e-3, "vectors_per_second": 1000.0,
    } | changes  # fmt: skip


CURVES = {"topk <b>": [point(1), point(2)], "relu": [point(5, vectors_per_second=None), point(9)]}


def draw(monkeypatch, tmp_path, curves):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (drawn.append(figure), path.write_bytes(b"")))
    curve_figure(curves, "trainings", tmp_path / "curve.svg")
    return drawn[0].axes


def test_held_out_rows_are_solid_and_training_rows_dotted(tmp_path, monkeypatch):
    loss, fvu, l0, *others = draw(monkeypatch, tmp_path, CURVES)
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["topk <b>", "relu"]
    assert [list(line.get_ydata()) for line in loss.lines] == [[1, 0.5], [0.2, 1 / 9]]
    shown = [(line.get_linestyle(), list(line.get_xdata())) for line in fvu.lines if len(line.get_xdata())]
    assert shown == [("-", [1, 2]), (":", [1, 2]), ("-", [5, 9]), (":", [5, 9])]
    assert [text.get_text() for text in fvu.get_legend().get_texts()] == ["held-out rows", "training rows"]
    assert len(l0.lines) == 4
    assert [len(axes.lines) for axes in others] == [2, 2, 2]
    assert (loss.get_yscale(), fvu.get_yscale(), l0.get_yscale()) == ("log", "log", "linear")


def test_what_is_not_measured_is_said(tmp_path, monkeypatch):
    nothing = {"fvu": None, "train_fvu": None, "l0": None, "vectors_per_second": None}
    loss, fvu, l0, *_, speed = draw(monkeypatch, tmp_path, {"one": [point(1, **nothing), point(2, **nothing)]})
    assert loss.get_legend() is None
    for axes in (fvu, speed):
        assert [text.get_text() for text in axes.texts] == ["not measured"]
    assert [line.get_linestyle() for line in l0.lines] == [":"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_file_is_written(tmp_path, suffix):
    path = tmp_path / "new" / f"curve{suffix}"
    curve_figure(CURVES, "trainings", path)
    assert path.stat().st_size > 1_000
    with pytest.raises(UserError, match="is no file of a figure"):
        curve_figure(CURVES, "trainings", tmp_path / "curve.gif")
