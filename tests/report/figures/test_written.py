"""Files of figures: three formats, each the same bytes every time, and one line for what cannot be written."""

import re

import pytest
from matplotlib.figure import Figure
from PIL import Image

from hsae.errors import UserError
from hsae.report.figures.palette import colours
from hsae.report.figures.written import write_figure


def figure() -> Figure:
    drawn = Figure(figsize=(3, 2))
    drawn.subplots().plot([0, 1], [0, 1], label="a & <b>")
    return drawn


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")])
def test_the_suffix_decides_and_the_bytes_are_the_same_every_time(tmp_path, suffix, start):
    paths = [tmp_path / f"{number}" / f"figure{suffix}" for number in range(2)]
    for path in paths:
        write_figure(figure(), path)
    first, second = (path.read_bytes() for path in paths)
    assert first.startswith(start)
    assert first == second
    assert [entry.name for entry in paths[0].parent.iterdir()] == [f"figure{suffix}"]


def test_a_vector_figure_has_no_pixels(tmp_path):
    write_figure(figure(), tmp_path / "figure.svg")
    assert "<image" not in (tmp_path / "figure.svg").read_text()
    write_figure(figure(), tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        picture.load()


@pytest.mark.parametrize("name", ["figure.jpg", "figure", ".svg"])
def test_another_format_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=re.escape("must end in .png, .svg, .pdf")):
        write_figure(figure(), tmp_path / name)


def test_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_figure(figure(), tmp_path / "file" / "figure.svg")


@pytest.mark.parametrize("n", [0, 1, 7, 8, 40])
def test_every_line_has_a_colour_of_its_own(n):
    assert len({str(colour) for colour in colours(n)}) == n
