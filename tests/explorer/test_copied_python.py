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


def test_every_page_offers_python_that_runs(explored, in_notebook):
    mine = repr(str(next(images_folder().glob("*/*.webp"))))
    for name, path in every_page(explored).items():
        if name in ("nothing", "edit"):  # an edit needs the activations of the last layer, which the study lacks
            continue
        page = explored.get(path)
        codes = copied(page, "python")
        # Where nothing is shown, there is nothing to copy.
        assert codes or "Nothing" in page or "No pair fits" in page or "contains this text" in page, name
        for code in codes:
            assert in_notebook(code.replace('"my.jpg"', mine)) is not None, name


def test_its_rows_are_those_of_the_page(explored, in_notebook):
    page = explored.get(f"/latents?study={explored.wordnet}&layer=3&under=bird.n.01&min_f1_adjusted=0.2")
    (code,) = copied(page, "python")
    shown = {int(row[0]) for row in cells(page) if row and row[0].isdecimal()}
    assert 0 < len(shown) < 50
    assert set(in_notebook(code).latent) == shown


def test_its_rows_are_those_of_a_page_of_all_layers(explored, in_notebook):
    page = explored.get(f"/latents?study={explored.wordnet}&layer=all&under=bird.n.01&min_f1_adjusted=0.4")
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


def shown_numbers(page: str, column: int) -> list[int]:
    """The numbers in a column of a page's rows."""
    return [int(row[column]) for row in cells(page) if len(row) > column and row[column].isdecimal()]


def test_pairs_are_those_of_the_page(explored, in_notebook):
    page = explored.get(f"/pairs?study={explored.wordnet}&layer=3&source=taxonomy")
    (code,) = copied(page, "python")
    assert 'source="taxonomy"' in code
    found = in_notebook(code)
    assert 0 < len(shown_numbers(page, 0)) <= 50
    assert list(found.parent)[:50] == shown_numbers(page, 0)
    assert list(found.child)[:50] == shown_numbers(page, 2)


def test_latents_that_fire_on_an_image_are_those_of_the_page(explored, in_notebook):
    page = explored.get(f"/image/1/5?study={explored.wordnet}")
    found = in_notebook(copied(page, "python")[0])
    assert len(found) > 0
    assert list(found.latent)[:60] == shown_numbers(page, 0)
    assert [f"{value:.2f}" for value in found.activation][:60] == [row[1] for row in cells(page) if row[0].isdecimal()]


def test_a_search_finds_what_the_page_finds(explored, in_notebook):
    page = explored.get(f"/tree?study={explored.wordnet}&q=animal")
    found = in_notebook(copied(page, "python")[0])
    assert list(found.synset) == [row[0] for row in cells(page) if row and row[0] != "node"]
    best = [row[-3] for row in cells(page) if row and row[0] != "node"]
    assert ["" if row.latent != row.latent else f"{int(row.latent)}" for row in found.itertuples()] == best


def test_a_node_across_layers_is_that_of_the_page(explored, in_notebook):
    node = explored.one("SELECT id FROM synset WHERE name = 'animal.n.01'")
    page = explored.get(f"/node/{node}?study={explored.wordnet}")
    found = in_notebook(copied(page, "python")[0])
    rows = [row for row in cells(page) if len(row) == 11 and row[1].isdecimal()]
    assert [(str(row.layer), str(row.latent)) for row in found.itertuples()] == [(row[1], row[10]) for row in rows]


def test_a_latent_is_shown_with_its_maps_and_its_numbers(explored, in_notebook):
    (row,) = explored.sql("SELECT s.analysis_id, v.latent FROM latent_map v JOIN map_set s ON s.id = v.map_set_id"
                          " WHERE map_index IS NOT NULL LIMIT 1")  # fmt: skip
    show, numbers, *_ = copied(explored.get(f"/latent/{row['analysis_id']}/sae/{row['latent']}"), "python")
    assert "maps=True" in show
    assert "relevancy, image" in in_notebook(show)._repr_html_()
    assert list(in_notebook(numbers).latent) == [row["latent"]]


def test_parents_and_children_of_a_latent_are_a_table_of_each(explored, in_notebook):
    (row,) = explored.sql("SELECT analysis_id, parent FROM latent_edge WHERE basis = 'sae' AND implication IS NOT NULL"
                          " ORDER BY analysis_id, parent LIMIT 1")  # fmt: skip
    page = explored.get(f"/latent/{row['analysis_id']}/sae/{row['parent']}")
    parents, children = in_notebook(copied(page, "python")[-1])
    assert set(children.parent) == {row["parent"]}
    assert set(parents.child) <= {row["parent"]}
