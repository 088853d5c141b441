"""Which study, layer and SAE a page is about: an image's own data set, and filters that hold one by one."""


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
