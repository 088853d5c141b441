"""Every page in a real browser: no console error, nothing that axe-core finds, by keyboard, dark and light, narrow."""

from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.browser import COLOUR_RULES, NARROW, WIDE, opened, violations
from tests.explorer.test_pages import every_page
from tests.waiting import wait_for

from hsae.demo import images_folder
from hsae.explorer.serving import Cache, Explorer
from hsae.explorer.shown.numbers import adjusted, number


@pytest.fixture(scope="module")
def address(explored, tmp_path_factory):
    """The explorer on a real port."""
    explorer = Explorer(explored.service.settings, Cache(tmp_path_factory.mktemp("cache")), host="127.0.0.1", port=0)
    thread = Thread(target=explorer.run)
    thread.start()
    yield f"http://127.0.0.1:{explorer.port}"
    explorer.stop()
    thread.join()


# The pages' policy forbids eval, with which `wait_for_function` would look again and again.
ALL_LOADED = """Promise.all([...document.images].map((image) => {
    image.loading = "eager";
    return image.complete || new Promise((done) => { image.onload = image.onerror = done; });
}))"""


def wait_for_pictures(page) -> None:
    """Until every image is there, also the lazy ones far below, and every figure is drawn.

    An image that cannot be had has a placeholder, so all of them load.
    """
    page.evaluate(f"async () => {{ await {ALL_LOADED}; }}")
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    for place in page.locator("[data-figure], #picture").all():
        place.locator(".main-svg").first.wait_for()


def light_dark_and_narrow(page) -> dict[str, list[str]]:
    """What axe finds on a page in light and in dark colours; a narrow one may be no wider than its window."""
    wait_for_pictures(page)
    found = {"light": violations(page)}
    page.emulate_media(color_scheme="dark")
    found["dark"] = violations(page, *COLOUR_RULES)
    page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
    # Figures follow by and by.
    wait_for(lambda: page.evaluate(BEYOND) <= 0, 60, lambda: f"{page.url} is too wide")
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    page.emulate_media(color_scheme="light")
    return found


BEYOND = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.slow
def test_every_page_can_be_read_and_used_by_everybody_light_dark_and_narrow(explored, chromium, address):
    """Of a narrow page only its tables scroll sideways. Each is loaded once: that takes longer than to look at it."""
    found = {}
    with opened(chromium, address) as page:
        for name, path in every_page(explored).items():
            if name == "nothing":
                continue
            page.goto(address + path)
            found |= {(name, how): wrong for how, wrong in light_dark_and_narrow(page).items()}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.slow
def test_the_pictures_zoom_and_names_stay_text(explored, chromium, address):
    for name in ("picture", "hostile picture"):
        with opened(chromium, address + every_page(explored)[name]) as page:
            page.wait_for_selector("#picture .slice")
            n_slices = page.locator("#picture .slice").count()
            assert n_slices > 3
            page.locator("#picture .slice").nth(1).click()
            page.wait_for_function("document.querySelectorAll('#picture .pathbar').length > 0")
            assert page.locator("#picture script").count() == 0
            page.set_content("")


def test_the_zoom_of_the_picture_is_in_its_address_and_leads_to_the_node(explored, chromium, address):
    with opened(chromium, address + every_page(explored)["picture"]) as page:
        link = page.locator("#picture-node")
        root = link.inner_text()
        page.wait_for_selector("#picture .slice")
        page.locator("#picture .slice").nth(1).click()
        page.wait_for_url("**zoom=*")
        node = parse_qs(urlsplit(page.url).query)["zoom"][0]
        name = explored.one("SELECT name FROM synset WHERE id = :id", id=int(node))
        assert link.inner_text() == name != root
        with page.expect_navigation():
            page.get_by_role("button", name="Show").click()
        assert parse_qs(urlsplit(page.url).query)["zoom"] == [node], "the form keeps it"
        page.wait_for_selector("#picture .slice")
        assert page.evaluate("document.getElementById('picture').data[0].level") == node
        zoomed = page.url
        page.locator("#picture .pathbar").first.click()
        page.wait_for_url(lambda url: "zoom=" not in url)
        assert link.inner_text() == root
        page.goto(zoomed)
        assert link.inner_text() == name
        link.click()
        page.wait_for_url(f"**/node/{node}?*")
        assert page.get_by_role("heading", name=name).count() == 1
    explored.get(f"{every_page(explored)['picture']}&zoom=999999999", 404)


def test_which_latents_are_of_a_node_and_what_do_they_look_like_takes_one_click(explored, chromium, address):
    (best,) = explored.sql(
        "SELECT v.latent, v.f1_adjusted, l.top_images FROM node_best_latent v JOIN latent l USING (analysis_id, basis,"
        " latent) JOIN analysis_input i USING (analysis_id)"
        " WHERE i.dataset = 'hostile' AND v.basis = 'sae' AND v.synset = 'pair'"
    )
    with opened(chromium, address) as page:
        page.get_by_label("Search a synset, a class or a word").fill("pai")
        page.get_by_role("button", name="Search").click()
        row = page.get_by_role("row", name="pair").first
        row.wait_for()
        wait_for_pictures(page)
        assert row.get_by_role("link", name=str(best["latent"]), exact=True).count() == 1
        assert adjusted(best["f1_adjusted"]) in row.inner_text()
        shown = [image.get_attribute("alt") for image in row.locator("img").all()]
        assert shown == [f"image {top['image']}" for top in best["top_images"]][: len(shown)] != []


def test_does_structure_grow_with_depth_takes_one_click(explored, chromium, address):
    rows = explored.sql(
        "SELECT l.value, t.mean FROM layer_interval l JOIN analysis_input i USING (analysis_id)"
        " JOIN layer_tree_shuffle t USING (analysis_id, metric) WHERE i.dataset = 'small' AND l.basis = 'sae'"
        " AND metric = 'coherence_excess' ORDER BY i.layer"
    )
    with opened(chromium, address) as page:
        page.get_by_role("link", name="dinov2-emoji on small").first.click()
        page.get_by_role("heading", name="Does structure rise with depth?").wait_for()
        wait_for_pictures(page)
        layers = page.get_by_role("region", name="Layers").first.inner_text()
        assert "best baseline" in layers
        assert "shuffled tree" in layers
        assert len(rows) == 2
        for row in rows:
            assert number(row["value"]) in layers
            assert number(row["mean"]) in layers


def test_my_own_image_takes_one_click(explored, chromium, address):
    image = next(images_folder().glob("*/*.webp"))
    with opened(chromium, address) as page:
        page.get_by_label("Image, at most").set_input_files(image)
        page.get_by_role("button", name="Encode").click()
        page.get_by_alt_text("The uploaded image").wait_for()
        assert page.locator("tbody tr").count() > 0


@pytest.fixture
def empty(explored):
    """The number of a study without an analysis, for the test."""
    (row,) = explored.sql("INSERT INTO study (name, request) VALUES ('empty', '{}') RETURNING id")
    yield row["id"]
    explored.sql("DELETE FROM study WHERE id = :id RETURNING 1", id=row["id"])


def test_pages_without_an_answer_can_be_read_by_everybody(explored, chromium, address, empty):
    refused = {
        address + path: words
        for path, words in {
            "/nothing": "There is no such page.",
            "/study/999999": "There is no study 999999.",
            f"/latents?study={explored.wordnet}&min_f1=much": "The address of this page has a mistake: min_f1",
        }.items()
    }
    said = {
        f"{address}/tree?study={empty}": f"Study {empty} has no analysis yet",
        f"{address}/study/{empty}": "there is nothing to show",
    }
    found = {}
    for url, words in (refused | said).items():
        with opened(chromium, url, refused=refused) as page:
            assert page.get_by_text(words).count() == 1, url
            found[url] = violations(page)
    assert {url: wrong for url, wrong in found.items() if wrong} == {}


def test_from_the_studies_to_a_latent_and_its_images(explored, chromium, address):
    with opened(chromium, address) as page:
        page.get_by_role("link", name="dinov2-emoji on small").first.click()
        page.wait_for_url("**/study/*")
        page.get_by_role("link", name="latents", exact=True).last.click()
        page.wait_for_url("**/latents?*")
        page.get_by_label("Label under node").fill("animal.n.01")
        page.get_by_role("button", name="Show").click()
        page.wait_for_url("**under=animal*")
        assert page.get_by_label("Label under node").input_value() == "animal.n.01"
        page.locator("tbody tr td a").first.click()
        page.wait_for_url("**/latent/**")
        wait_for_pictures(page)
        assert page.locator(".gallery img").count() > 0
        page.locator(".gallery a").first.click()
        page.wait_for_url("**/image/**")
        assert page.get_by_role("heading", name="Latents that fire here").count() == 1


def test_the_search_finds_and_the_tree_opens_by_keyboard(explored, chromium, address):
    with opened(chromium, f"{address}/tree?study={explored.wordnet}&depth=1") as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        n_lines = page.locator("tbody tr").count()
        page.get_by_role("link", name="Open", exact=False).first.focus()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        page.keyboard.press("Enter")
        page.wait_for_url("**open=*")
        assert page.locator("tbody tr").count() > n_lines
        page.get_by_label("Search a synset, a class or a word").fill("animal.n.01")
        page.keyboard.press("Enter")
        page.wait_for_url("**/node/*")
        assert page.get_by_role("heading", name="animal.n.01").count() == 1


def test_what_is_copied_is_what_is_shown(explored, chromium, address):
    with opened(chromium, address + every_page(explored)["pairs"]) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
        page.get_by_text("Copy as SQL").click()
        page.get_by_role("button", name="Copy").first.click()
        page.get_by_role("button", name="Copied").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.strip() == page.locator("pre.sql").inner_text().strip()
        explored.db_query(copied)


def test_an_upload_shows_its_latents(explored, chromium, address):
    image = next(images_folder().glob("*/*.webp"))
    with opened(chromium, f"{address}/encode?study={explored.wordnet}") as page:
        page.get_by_label("Image, at most").set_input_files(image)
        page.get_by_role("button", name="Encode").click()
        page.get_by_alt_text("The uploaded image").wait_for()
        assert page.locator("tbody tr").count() > 0
        assert violations(page) == []
