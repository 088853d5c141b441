"""The report in a real browser, from disk, with the network off: what one clicks works, and everybody can read it."""

import pytest
from tests.browser import COLOUR_RULES, NARROW, opened, violations
from tests.report.page.conftest import EVIL, HELD_OUT, IN_SAMPLE
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def file(reported, tmp_path_factory):
    return reported.report(HELD_OUT, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def in_sample_file(reported, tmp_path_factory):
    return reported.report(IN_SAMPLE, tmp_path_factory.mktemp("report") / "report.html")


def ready(page):
    """The page, once all of its figures are drawn."""
    page.wait_for_selector("html[data-ready=yes]")
    wait_for(lambda: page.evaluate("document.querySelectorAll('[data-figure]:not(.js-plotly-plot)').length === 0"))
    page.wait_for_selector("#taxonomy-figure .slice")
    return page


@pytest.fixture(scope="module")
def untouched(chromium, file):
    """A page that no test changes."""
    with opened(chromium, file.as_uri(), offline=True) as page:
        yield ready(page)


@pytest.fixture
def page(chromium, file):
    with opened(chromium, file.as_uri(), offline=True) as page:
        yield ready(page)


def traces(page, selector: str) -> list[dict]:
    """What Plotly draws: names, visibility and values."""
    return page.eval_on_selector(
        selector, "plot => plot.data.map(({name, visible, x, y}) => ({name, visible, x, y: y && [...y]}))"
    )


@pytest.mark.slow
def test_the_curves_are_those_of_the_catalog(untouched, reported):
    drawn = {one["name"]: one for one in traces(untouched, "[data-figure=layers-0]")}
    for kind in ("topk", "relu"):
        wanted = reported.rows(
            "SELECT i.layer, v.value FROM layer_interval v JOIN analysis_input i USING (analysis_id)"
            " JOIN study_job s ON s.job_id = i.job_id WHERE s.study_id = :study AND v.basis = 'sae'"
            " AND v.metric = 'coherence_excess' AND i.sae_kind = :kind ORDER BY i.layer",
            study=HELD_OUT, kind=kind,
        )  # fmt: skip
        assert drawn[f"{kind} SAE"]["y"] == pytest.approx([row["value"] for row in wanted])
    shown = [name for name, one in drawn.items() if one["visible"] is True]
    assert len({kind for kind in ("topk", "relu") for name in shown if kind in name}) == 1, "one SAE, until asked"


def test_the_slider_shows_another_layer(page, reported):
    slider, figure = page.locator("#taxonomy-layer"), "#taxonomy-figure"
    colours = f"document.querySelector('{figure}').data[0].marker.colors"
    before = page.evaluate(colours)
    assert page.locator("#taxonomy-layer-shown").inner_text() == "3"
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#taxonomy-layer-shown").inner_text() == "1"
    assert slider.get_attribute("aria-valuetext") == "layer 1"
    wait_for(lambda: page.evaluate(f"{colours}.join() !== {before!r}.join()"))
    kind = page.locator("#taxonomy-sae").input_value().split()[0]
    data = page.eval_on_selector(figure, "plot => [plot.data[0].ids, plot.data[0].customdata]")
    cells = dict(zip(*data, strict=True))
    best = reported.rows(
        "SELECT v.synset_id, v.f1_adjusted, v.latent FROM node_best_latent v JOIN analysis_input i USING (analysis_id)"
        " JOIN study_job s ON s.job_id = i.job_id WHERE s.study_id = :study AND v.basis = 'sae' AND v.layer = 1"
        " AND v.sae_kind = :kind AND v.f1_adjusted IS NOT NULL",
        study=HELD_OUT, kind=kind,
    )  # fmt: skip
    checked = [row for row in best if str(row["synset_id"]) in cells]
    assert len(checked) > 10
    for row in checked:
        assert cells[str(row["synset_id"])][2] == f"{row['f1_adjusted']:.2f}"
        assert f"latent {row['latent']}," in cells[str(row["synset_id"])][5]


@pytest.mark.slow
def test_a_click_goes_into_a_node_and_the_layer_may_change_there(page):
    page.locator("#taxonomy-figure .slice path").nth(1).click()
    level = "document.querySelector('#taxonomy-figure').data[0].level"
    wait_for(lambda: page.evaluate(f"!!{level}"))
    inside = page.evaluate(level)
    page.locator("#taxonomy-layer").focus()
    page.keyboard.press("ArrowLeft")
    wait_for(lambda: page.evaluate("document.querySelector('#taxonomy-layer-shown').value === '1'"))
    assert page.evaluate(level) == inside


def test_a_card_opens_by_mouse_and_by_keyboard(page):
    first, second = page.locator(".card").nth(0), page.locator(".card").nth(1)
    first.locator("summary").click()
    first.locator("[data-histogram] .bars").first.wait_for()
    assert first.get_by_role("rowheader", name="adjusted F1").is_visible()
    second.locator("summary").focus()
    page.keyboard.press("Enter")
    second.locator("[data-histogram] .bars").first.wait_for()


@pytest.mark.slow
def test_the_filter(page):
    cards = page.locator(".card")
    visible = page.locator(".card:not([hidden])")
    n_all = cards.count()
    page.fill("#filter-text", EVIL)
    found = visible.count()
    assert 0 < found < n_all
    whole = "card => card.textContent + [...card.querySelectorAll('[alt]')].map(image => image.alt)"
    for locator, is_there in ((visible, True), (page.locator(".card[hidden]"), False)):
        texts = locator.evaluate_all(f"cards => cards.map({whole})")
        assert {EVIL in text for text in texts} == {is_there}
    assert page.locator("#filter-count").inner_text() == f"{found} of {n_all} shown"
    page.fill("#filter-text", "")
    page.select_option("#filter-layer", "1")
    page.select_option("#filter-sae", "relu SAE")
    assert visible.count() == page.locator(".card[data-layer='1'][data-sae='relu SAE']").count() > 0
    page.fill("#filter-text", "nothing is called so")
    assert visible.count() == 0
    assert page.locator("#filter-count").inner_text() == f"0 of {n_all} shown"


@pytest.mark.slow
def test_links(page):
    page.get_by_role("link", name="Latents", exact=True).click()
    wait_for(lambda: page.evaluate("Math.abs(document.querySelector('#latents').getBoundingClientRect().top) < 200"))
    with page.expect_download() as download:
        page.get_by_role("link", name="layers.csv").click()
    assert download.value.path().read_text().startswith("sae,layer,fvu")


@pytest.mark.slow
def test_a_link_to_a_latent_opens_its_card(chromium, file, untouched):
    anchor = untouched.locator(".card").last.get_attribute("id")
    with opened(chromium, f"{file.as_uri()}#{anchor}", offline=True) as there:
        assert ready(there).locator(f"#{anchor}").get_attribute("open") is not None


def test_no_name_runs_and_all_are_shown_as_they_are(untouched):
    assert untouched.locator("h1").inner_text().endswith("on <img src=x onerror=alert(3)>")
    assert untouched.locator("img[src=x]").count() == 0
    labels = untouched.eval_on_selector("#taxonomy-figure", "plot => plot.querySelector('.sunburstlayer').textContent")
    assert EVIL in labels


@pytest.mark.slow
@pytest.mark.parametrize("name", ["file", "in_sample_file"])
def test_everybody_can_read_it_light_and_dark(chromium, request, name):
    with opened(chromium, request.getfixturevalue(name).as_uri(), offline=True) as page:
        ready(page).locator(".card summary").first.click()
        page.locator("[data-histogram] .bars").first.wait_for()
        assert violations(page) == []
        page.emulate_media(color_scheme="dark")
        assert violations(page, *COLOUR_RULES) == []


@pytest.mark.slow
def test_a_narrow_window_scrolls_in_one_direction(chromium, file):
    with opened(chromium, file.as_uri(), offline=True, size=NARROW) as page:
        assert ready(page).evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.slow
def test_figures_follow_the_readers_choice_of_dark(page):
    colour = "getComputedStyle(document.querySelector('[data-figure=hero-0] .xtitle')).fill"
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    wait_for(lambda: page.evaluate(f"{colour} !== '{light}'"))
