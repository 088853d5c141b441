"""The picture of scores by layer."""

import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from tests.report.test_layer_table import row

from hsae.errors import UserError
from hsae.report.figure import figure_title, layer_figure
from hsae.report.layer_table import beside_controls


def rows(kinds=("relu", "topk"), bases=("sae", "neuron", "shuffled_labels", "shuffled_taxonomy"), value=0.5):
    given = [
        row(10 * kind + layer, layer, basis, value) | {"sae_kind": name}
        for kind, name in enumerate(kinds)
        for layer in range(3)
        for basis in bases
    ]
    return beside_controls(given)


@pytest.mark.parametrize(
    "given",
    [
        rows(),
        rows(kinds=("topk",)),
        rows(bases=("sae",)),
        rows(value=None),
        rows()[:1],
        [],
    ],
    ids=["both kinds", "one kind", "no controls", "all undefined", "one layer", "nothing"],
)
def test_a_png_of_its_own(tmp_path, given):
    path = tmp_path / "new" / "folder" / "layers.png"
    layer_figure(given, "some layers, ≥ 0.5", path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        picture.load()
        assert picture.width > 800
    assert [entry.name for entry in path.parent.iterdir()] == ["layers.png"]


def swept(*names: str):
    """Three layers of a TopK SAE in each of the settings."""
    return beside_controls(
        [
            row(10 * number + layer, layer, basis, number / 10) | {"sae_kind": "topk"}
            for number in range(len(names))
            for layer in range(3)
            for basis in ("sae", "neuron", "shuffled_taxonomy")
        ]
    )


@pytest.mark.parametrize("n", [2, 14])
def test_every_setting_has_a_line_of_its_own_in_each_panel(tmp_path, monkeypatch, n):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (drawn.append(figure), path.write_bytes(b"")))
    names = [f"topk x{number}" for number in range(n)]
    given = [row | {"sae": names[row["analysis_id"] // 10]} for row in swept(*names)]
    layer_figure(given, "a sweep", tmp_path / "layers.png")
    (figure,) = drawn
    panels = {axes.get_title(): axes.get_lines() for axes in figure.axes}
    fvu, nodes, probe = (
        next(lines for title, lines in panels.items() if words in title)
        for words in ("unexplained", "exact test", "probe")
    )
    assert [line.get_label() for line in fvu] == names
    assert [line.get_ydata()[0] for line in fvu] == [number / 10 for number in range(n)]
    assert len({line.get_color() for line in fvu}) == n
    solid = [line for line in nodes if line.get_linestyle() == "-"]
    assert [line.get_label() for line in solid] == names
    assert [list(line.get_xdata()) for line in solid] == [[0, 1, 2]] * n
    assert len(nodes) == 2 * n + 1  # and each with its shuffled taxonomy, and what the dashes mean
    assert len(probe) == n  # here each setting was given a probe of its own
    (legend,) = figure.legends
    assert [words.get_text() for words in legend.get_texts()] == [*names, "each with the taxonomy shuffled"]


@pytest.mark.parametrize("n", [2, 3, 4, 14])
def test_the_settings_of_a_sweep_have_their_intervals(tmp_path, drawn, n):
    """As bands; where these would cover each other, as bars beside each other."""
    names = [f"topk x{number}" for number in range(n)]
    given = [
        one
        | {"sae": names[number], "coherence_excess": number + 0.5, "coherence_excess_low": number}
        | {"coherence_excess_high": None if one["layer"] == 1 else number + 1}
        for one in swept(*names)
        for number in [one["analysis_id"] // 10]
    ]
    layer_figure(given, "a sweep", tmp_path / "layers.png")
    panels = {axes.get_title(): axes for axes in drawn[0].axes}
    (axes,) = [axes for title, axes in panels.items() if "coherence" in title]
    solid = [line for line in axes.get_lines() if line.get_label() in names]
    assert all(isinstance(one, PolyCollection if n < 4 else LineCollection) for one in axes.collections)
    for number, (line, interval) in enumerate(zip(solid, axes.collections, strict=True)):
        (band, *_) = interval.get_paths()
        assert (band.vertices[:, 1].min(), band.vertices[:, 1].max()) == (number, number + 1)
        assert tuple(interval.get_facecolor()[0][:3] if n < 4 else interval.get_color()[0][:3]) == to_rgb(
            line.get_color()
        )
    at = [line.get_xdata()[0] for line in solid]
    assert len(set(at)) == (1 if n < 4 else n)
    assert max(map(abs, at)) < 0.25
    (nodes,) = [axes for title, axes in panels.items() if "exact test" in title]
    assert not nodes.collections


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn; no file is written."""
    found: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (found.append(figure), path.write_bytes(b"")))
    return found


def lines_of(axes):
    return {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}


def test_the_shuffled_tree_is_that_of_the_many_shuffles(tmp_path, drawn):
    given = [
        row | {"f1_adjusted_inner_tree": 0.125, "coherence_excess_tree": 0.0}
        for row in rows(kinds=("topk",), value=0.5)
    ]
    layer_figure(given, "title", tmp_path / "layers.png")
    panels = {axes.get_title(): lines_of(axes) for axes in drawn[0].axes}
    (inner,) = [lines for title, lines in panels.items() if "inner nodes" in title]
    assert inner["shuffled taxonomy (topk)"] == [0.125] * 3
    (found,) = [lines for title, lines in panels.items() if "exact test" in title]
    assert found["shuffled taxonomy, few shuffles (topk)"] == [0.5] * 3


def test_layers_in_which_a_score_is_undefined_are_named(tmp_path, drawn):
    given = [row | {"lch_excess": 1.0 if row["layer"] == 2 else None} for row in rows(kinds=("topk",))]
    layer_figure(given, "title", tmp_path / "layers.png")
    said = {axes.get_title(): [words.get_text() for words in axes.texts] for axes in drawn[0].axes}
    (words,) = [words for title, words in said.items() if "lowest common hypernym" in title]
    assert words == ["undefined: topk 0-1"]


def test_the_papers_two_panels(tmp_path, drawn):
    given = [row | {"lch_height_raw_tree": 12.5, "in_sample": True} for row in rows(kinds=("topk",), value=0.5)]
    layer_figure(given, figure_title(given, "paper"), tmp_path / "layers.png", "paper")
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes] == ["LCH height", "ontological coverage"]
    height = lines_of(figure.axes[0])
    assert (height["TopK SAE"], height["shuffled taxonomy (topk)"]) == ([0.5] * 3, [12.5] * 3)
    assert all(axes.get_xlabel() for axes in figure.axes)
    assert figure.get_suptitle() == "m on d (in-sample): the paper's protocol, raw means of all latents"


@pytest.mark.parametrize(
    ("in_sample", "protocol", "title"),
    [
        ([True, True], "chance", "m on d (in-sample)"),
        ([False, False], "chance", "m on d (held out)"),
        ([False, True], "chance", "m on d (held out and in-sample)"),
        (
            [False, False],
            "paper",
            "m on d (held out): the paper's protocol but for the images (in-sample there: submit --split none)",
        ),
    ],
)
def test_the_title_says_what_is_in_sample(in_sample, protocol, title):
    given = [{"model": "m", "dataset": "d", "in_sample": each} for each in in_sample]
    assert figure_title(given, protocol) == title


def test_a_former_picture_is_replaced(tmp_path):
    path = tmp_path / "layers.png"
    path.write_text("old")
    layer_figure(rows(), "title", path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"


def test_a_path_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "layers.png"
    with pytest.raises(UserError, match="layers.png cannot be written") as error:
        layer_figure(rows(), "title", path)
    assert "\n" not in str(error.value)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_in_the_way_is_one_line_and_nothing_half_made_is_left(tmp_path):
    (tmp_path / "layers.png").mkdir()
    with pytest.raises(UserError, match="layers.png cannot be written"):
        layer_figure(rows(), "title", tmp_path / "layers.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["layers.png"]
