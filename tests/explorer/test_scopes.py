"""Which study, layer and SAE a page is about: an image's own data set, and filters that hold one by one."""

import pytest
from sqlalchemy import text
from tests.explorer.test_pages import every_page

from hsae.catalog import transaction
from hsae.explorer.parameters import LatentsQuery
from hsae.explorer.scope import AnalysisChoice, Scope, UnknownError, scope_of
from hsae.explorer.shown.addresses import address

GRID = tuple(
    AnalysisChoice(number, layer, sae, sae.split()[0], False)
    for number, (layer, sae) in enumerate(
        [(3, "relu x8"), (3, "topk x8"), (0, "relu x8"), (0, "topk x8"), (0, "topk x16")], start=1
    )
)


def test_an_image_never_has_the_latents_of_another_data_sets_image(explored):
    dataset = explored.one("SELECT id FROM dataset WHERE name = 'hostile'")
    page = explored.get(f"/image/{dataset}/1?study={explored.wordnet}")
    assert f"Study {explored.wordnet} scored the images of small, and this one is of hostile." in page
    assert "/sae/" not in page
    assert f'<a href="/image/{dataset}/1?study={explored.hostile}">' in page
    assert "Latents that fire here" in page
    own = explored.get(f"/image/{dataset}/1")
    assert "scored the images of" not in own
    assert "/sae/" in own


def test_an_image_offers_the_studies_of_its_own_data_set_alone(explored):
    dataset = explored.one("SELECT id FROM dataset WHERE name = 'hostile'")
    for page, other in (
        (explored.get(f"/image/{dataset}/1"), explored.wordnet),
        (explored.get("/image/1/1"), explored.hostile),
    ):
        assert '<select id="f-study"' not in page  # each has one study
        assert f'name="study" value="{other}"' not in page
    # A list of several data sets' studies still offers them all.
    assert '<select id="f-study"' in explored.get(f"/latents?study={explored.wordnet}")


def test_every_page_of_an_in_sample_study_says_so(explored):
    """Both studies are: of so few images each trains the SAE, chooses latents and is scored."""
    for name, path in every_page(explored).items():
        if name in {"nothing", "studies"}:
            continue
        page = explored.get(path)
        assert '<strong class="in-sample">in-sample</strong>: latents are chosen and scored' in page, name
        assert "on the images that choose" not in page, name
        assert "chosen on other images" not in page, name
    assert '<span class="in-sample">in-sample</span>' in explored.get("/")


def test_pages_of_a_held_out_study_do_not_say_in_sample(explored):
    change = "UPDATE analysis SET split = CAST(:split AS jsonb)"
    with transaction(explored.service.sessions) as session:
        session.execute(text(change), {"split": '{"train": 0.5, "select": 0.25, "score": 0.25, "seed": 0}'})
    try:
        for name in ("studies", "study", "tree", "node", "latents", "latent", "pairs", "image"):
            assert "in-sample" not in explored.get(every_page(explored)[name]), name
        assert "on the images that choose" in explored.get(f"/latents?study={explored.wordnet}")
    finally:
        with transaction(explored.service.sessions) as session:
            session.execute(text(change), {"split": None})


def test_a_page_of_several_analyses_says_which_are_in_sample():
    mixed = (AnalysisChoice(1, 3, "topk", "topk", True), AnalysisChoice(2, 4, "topk", "topk", False))
    assert Scope(1, "", mixed).in_sample == "some"
    assert Scope(1, "", mixed, chosen=mixed[0]).in_sample == "all"
    assert Scope(1, "", mixed, chosen=mixed[1]).in_sample == ""


@pytest.fixture
def grid(monkeypatch):
    """What an address makes of a study of two layers and several SAEs."""
    whole = Scope(7, "grid", GRID)
    monkeypatch.setattr("hsae.explorer.scope.study_scope", lambda session, study: whole)

    def ask(*, several: bool = True, **parameters: str) -> Scope:
        return scope_of(None, LatentsQuery.of({"study": "7", **parameters}), may_be_several=several)

    return ask


@pytest.mark.parametrize(
    ("layer", "sae", "wanted"),
    [
        ("all", "", [1, 2, 3, 4, 5]), ("all", "topk x8", [2, 4]), ("all", "topk x16", [5]),
        ("3", "", [1, 2]), ("3", "topk x8", [2]), ("0", "", [3, 4, 5]), ("", "", [1, 2]), ("", "relu x8", [1]),
    ],
)  # fmt: skip
def test_layer_and_sae_filter_one_by_one(grid, layer, sae, wanted):
    found = grid(layer=layer, sae=sae)
    assert found.wanted == wanted
    assert found.layer == (None if layer == "all" else int(layer or 3))
    if layer == "all" or not sae:
        assert found.sae == (sae or None)
        assert found.chosen is None
    else:
        assert found.chosen.id == wanted[0]


def test_a_page_of_one_analysis_takes_the_first_sae_of_its_layer(grid):
    assert grid(several=False, layer="0").chosen == GRID[2]
    assert grid(several=False, layer="all").chosen == GRID[0]


@pytest.mark.parametrize(("layer", "sae"), [("all", "nonsense"), ("3", "nonsense"), ("3", "topk x16"), ("9", "")])
def test_a_layer_or_an_sae_that_is_not_there_is_unknown(grid, layer, sae):
    with pytest.raises(UnknownError):
        grid(layer=layer, sae=sae)


def test_pages_of_all_layers_know_the_sae(explored):
    for path in ("/latents", "/pairs"):
        explored.get(f"{path}?study={explored.wordnet}&layer=all&sae=nonsense", 404)
        (sae,) = {row["sae_kind"] for row in explored.sql("SELECT sae_kind FROM analysis_input")}
        page = explored.get(f"{path}?study={explored.wordnet}&layer=all&sae={sae}")
        assert f"layer=all&amp;sae={sae}" in page or 'rel="next"' not in page


def test_an_address_keeps_the_first_layer():
    assert address("/latents", layer=0, min_f1=0.0, sae=None, open=[], q="") == "/latents?layer=0&min_f1=0.0"
