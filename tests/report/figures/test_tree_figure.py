"""The taxonomy as an icicle: places of boxes, and what is written into them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from hsae.report.figures.tree_figure import edited_tree_figure, icicle, tree_figure


def line(name, level, value=None, q=None):
    return {"synset": name, "level": level, "f1_adjusted": value, "q_node": q, "latent": None}


LINES = [
    line("animal.n.01", 0, 0.4, 0.001),
    line("dog.n.01", 1, 0.9, 0.0),
    line("bird.n.01", 1, -0.2, 0.5),
    line("duck.n.01", 2),
    line("owl.n.01", 2, 0.3, None),
]


def test_places():
    assert icicle(LINES) == [(0, 3), (0, 1), (1, 2), (1, 1), (2, 1)]
    assert icicle(LINES[:1]) == [(0, 1)]


@st.composite
def levels(draw):
    found = [0]
    for _ in range(draw(st.integers(0, 25))):
        found.append(draw(st.integers(1, found[-1] + 1)))
    return found


@given(levels())
def test_boxes_hold_the_boxes_below_them_and_leaves_fill_every_place_once(found):
    places = icicle([line(str(number), level) for number, level in enumerate(found)])
    leaves = []
    for number, ((top, size), level) in enumerate(zip(places, found, strict=True)):
        below = []
        for other in range(number + 1, len(found)):
            if found[other] <= level:
                break
            below.append(places[other])
        if not below:
            leaves.append(top)
            assert size == 1
        else:
            assert min(start for start, _ in below) == top
            assert max(start + height for start, height in below) == top + size
    assert leaves == list(range(len(leaves)))


@pytest.mark.parametrize("lines", [LINES, LINES[:1]])
def test_what_is_drawn(tmp_path, monkeypatch, lines):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (drawn.append(figure), path.write_bytes(b"")))
    tree_figure(lines, "animals", tmp_path / "tree.svg")
    axes = drawn[0].axes[0]
    texts = [text.get_text() for text in axes.texts]
    wanted = ["animal.n.01 0.40", "dog.n.01 0.90", "bird.n.01 -0.20?", "duck.n.01", "owl.n.01 0.30?"]
    assert texts == wanted[: len(lines)]
    assert axes.get_title(loc="left") == "animals"
    assert len(axes.patches) == len(lines)


def test_what_stands_above_an_edit_is_whole_and_within_the_figure(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (drawn.append(figure), path.write_bytes(b"")))
    about = "By the probe: specificity 1.53 in log-odds, beside random latents and LEACE. " * 3
    lines = [line | {"drop": 0.5} for line in LINES]
    edited_tree_figure(lines, "log-odds", "birds taken away", about, tmp_path / "tree.svg")
    (figure,) = drawn
    title = figure.axes[0].get_title(loc="left")
    first, *others = title.splitlines()
    assert first == "birds taken away"
    assert " ".join(others) == about.strip()
    figure.draw_without_rendering()
    box = figure.axes[0]._left_title.get_window_extent()
    assert box.x1 <= figure.bbox.x1
    assert box.width > figure.bbox.width / 2
