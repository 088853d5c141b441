"""Which study, layer and SAE a page is about: an image's own data set, and filters that hold one by one."""

from sqlalchemy import text
from tests.explorer.test_pages import every_page

from hsae.catalog import transaction
from hsae.explorer.scope import AnalysisChoice, Scope


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
