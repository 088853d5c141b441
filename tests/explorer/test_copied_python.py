"""What one copies as Python runs in a notebook, and gives what the page shows."""

import re

import pytest
from tests.explorer.test_pages import cells, copied, every_page

from hsae.demo import images_folder


@pytest.fixture
def in_notebook(explored, monkeypatch):
    """Runs copied code as a cell does: the value of its last line."""
    for name, value in explored.service.environment.items():
        monkeypatch.setenv(name, value)

    def run(code: str):
        *before, last = code.splitlines()
        if re.match(r"rows = ", last):  # of several analyses: the list itself
            before, last = [*before, last], "rows"
        names: dict[str, object] = {}
        exec("\n".join(before), names)  # noqa: S102 -- what the explorer itself wrote
        return eval(last, names)  # noqa: S307 -- as above

    return run


def test_every_page_that_offers_python_offers_code_that_runs(explored, in_notebook):
    n_codes = 0
    for name, path in every_page(explored).items():
        if name == "nothing":
            continue
        for code in copied(explored.get(path), "python"):
            assert in_notebook(code) is not None, name
            n_codes += 1
    assert n_codes > 10


def test_its_rows_are_those_of_the_page(explored, in_notebook):
    page = explored.get(f"/latents?study={explored.wordnet}&layer=3&under=bird.n.01&min_f1=0.2")
    (code,) = copied(page, "python")
    shown = {int(row[0]) for row in cells(page) if row and row[0].isdecimal()}
    assert 0 < len(shown) < 50
    assert set(in_notebook(code).latent) == shown


def test_its_rows_are_those_of_a_page_of_all_layers(explored, in_notebook):
    page = explored.get(f"/latents?study={explored.wordnet}&layer=all&under=bird.n.01&min_f1=0.4")
    (code,) = copied(page, "python")
    shown = sorted((int(row[1]), int(row[0])) for row in cells(page) if row and row[0].isdecimal())
    assert 0 < len(shown) < 50
    assert {layer for layer, _ in shown} == {1, 3}
    frames = in_notebook(code)
    assert sorted((row.layer, row.latent) for frame in frames for row in frame.itertuples()) == shown


def test_ones_own_image_is_encoded_and_explained(explored, in_notebook):
    image = next(images_folder().glob("*/*.webp"))
    files = {"image": ("mine.webp", image.read_bytes())}
    answer = explored.client.post(
        "/encode", files=files, data={"study": explored.wordnet}, headers={"origin": "http://127.0.0.1:8808"}
    )
    (code,) = copied(answer.text, "python")
    explained = in_notebook(code.replace('"my.jpg"', repr(str(image))))
    shown = [int(row[0]) for row in cells(answer.text) if row and row[0].isdecimal()]
    assert str(shown[0]) in explained._repr_html_()
