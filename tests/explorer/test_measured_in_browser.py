"""Pages of a study with interventions and names in a real browser, and an edit of an uploaded image."""

from threading import Thread
from types import SimpleNamespace

import pytest
from tests.browser import opened, violations
from tests.explorer.test_browser import light_dark_and_narrow, wait_for_pictures
from tests.pipeline.in_process import run_jobs
from tests.pipeline.stages.interventions.small_plans import QUICK, plan_interventions, query
from tests.small import bare_scoring, register_small

from hsae.demo import clip_folder, images_folder
from hsae.explorer.serving import Cache, Explorer
from hsae.interventions.config import InterveneSettings
from hsae.text.config import NameSettings

EFFECTS = InterveneSettings(label_effects=4, n_random=1, n_shuffles=9, readouts=("probe",))
NAMES = NameSettings(by=str(clip_folder()), n_shuffles=9, images=2, latents=20)


@pytest.fixture(scope="module")
def measured(make_service, tmp_path_factory):
    """The explorer on a real port, with effects and names of one layer; the first tested latent counts as used."""
    service = make_service()
    register_small(service, n_classes=25)
    plan = plan_interventions(
        service, EFFECTS, sae=QUICK, scoring=bare_scoring(embeddings="last"),
        own={"intervene": EFFECTS, "names": NAMES},
    )  # fmt: skip
    assert set(run_jobs(service, plan)) == {"succeeded"}
    rows = query(service, "SELECT s.analysis_id, x.latent FROM latent_effect x JOIN intervention_set s"
                 " ON s.id = x.intervention_set_id JOIN name_set m ON m.analysis_id = s.analysis_id JOIN latent_name n"
                 " ON n.name_set_id = m.id AND n.latent = x.latent ORDER BY x.latent")  # fmt: skip
    assert len(rows) > 1
    query(
        service, "UPDATE latent_effect SET is_used = true WHERE latent = :latent RETURNING 1", latent=rows[0]["latent"]
    )
    explorer = Explorer(service.settings, Cache(tmp_path_factory.mktemp("cache")), host="127.0.0.1", port=0)
    thread = Thread(target=explorer.run)
    thread.start()
    yield SimpleNamespace(
        address=f"http://127.0.0.1:{explorer.port}", study=plan.study_id, analysis=rows[0]["analysis_id"],
        used=rows[0]["latent"], other=rows[1]["latent"],
    )  # fmt: skip
    explorer.stop()
    thread.join()


@pytest.mark.slow
def test_effects_and_names_can_be_read_by_everybody(measured, chromium):
    pages = {
        f"/latent/{measured.analysis}/sae/{measured.used}": "fires for it and used for it",
        f"/latent/{measured.analysis}/sae/{measured.other}": "effect at its label",
        f"/latents?study={measured.study}": "fires for it and used for it",
        f"/latents?study={measured.study}&used=true": "fires for it and used for it",
        f"/edit?study={measured.study}&latents={measured.used}": "What does the model see",
    }
    found = {}
    with opened(chromium, measured.address) as page:
        for path, words in pages.items():
            page.goto(measured.address + path)
            wait_for_pictures(page)
            assert words in page.content(), path
            found |= {(path, how): wrong for how, wrong in light_dark_and_narrow(page).items()}
        page.goto(f"{measured.address}/latent/{measured.analysis}/sae/{measured.used}")
        assert page.get_by_text("of shuffled words come as close").count() == 1
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_an_uploaded_image_is_edited_again_and_again(measured, chromium):
    """The script puts the answer into the page, so that the file stays chosen for the next edit."""
    image = sorted(images_folder().glob("*/*.webp"))[0]
    with opened(chromium, f"{measured.address}/edit?study={measured.study}&latents={measured.used}") as page:
        page.evaluate("window.stays = true")
        page.get_by_label("Image, at most").set_input_files(image)
        page.get_by_role("button", name="Edit").click()
        page.get_by_alt_text("The uploaded image").wait_for()
        assert page.locator("#edited table").first.locator("tbody a").inner_text() == str(measured.used)
        assert page.get_by_role("region", name="Nodes that move").locator("tbody tr").count() > 3
        assert violations(page) == []
        page.get_by_label("Latents", exact=True).fill(f"{measured.used}, {measured.other}")
        page.get_by_role("button", name="Edit").click()
        page.locator("#edited tbody a", has_text=str(measured.other)).first.wait_for()
        shown = page.locator("#edited table").first.locator("tbody a").all_inner_texts()
        assert shown == [str(measured.used), str(measured.other)]
        page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=measured.address)
        page.get_by_text("Copy as Python").click()
        page.locator("#edited").get_by_role("button", name="Copy").last.click()
        page.get_by_role("button", name="Copied").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert f'an.edit(["my.jpg"], [{measured.used}, {measured.other}]).to_pandas()' in copied
        assert page.evaluate("window.stays"), "the page was not loaded again"
        assert page.url.endswith(f"/edit?study={measured.study}&latents={measured.used}")
