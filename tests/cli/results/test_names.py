"""results names: names by direction, by effect and by images; the same in Python, report and explorer."""

import json
from html import unescape

import numpy as np
import pytest
import torch
from sqlalchemy import text
from starlette.testclient import TestClient
from tests.cli.printing.widths import WIDTHS, assert_fits
from tests.cli.refusals import assert_one_line
from tests.docs.cookbook import cookbook_query
from tests.pipeline.in_process import attempt, run_jobs
from tests.small import bare_scoring, register_small, small_request

import hsae
from hsae.catalog import NameSet, transaction
from hsae.catalog.findings.reported.node_nulls import best_labelled_latents
from hsae.cli.printing.output import cell
from hsae.demo import backbone_folder, clip_folder
from hsae.errors import UserError
from hsae.explorer.app import make_app
from hsae.explorer.reading.sources import Cache, Sources
from hsae.interventions.config import InterveneSettings
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.stages.text.names import make_names
from hsae.report.page.card_values import card_values
from hsae.sae.config import SaeConfig
from hsae.split_config import SplitConfig
from hsae.store.keys import directions_key
from hsae.store.tensors import get_tensors
from hsae.text.config import NameSettings

N_CLASSES = 25
CLIP = str(clip_folder())
SAE = SaeConfig(kind="topk", k=8, expansion=2, n_steps=100)
BY_CLIP = NameSettings(by=CLIP, n_shuffles=99, images=4, latents=40)
METHODS = {"direction": ("embedding", CLIP, 2), "effect": ("residual", CLIP, 1), "images": ("residual", None, 5)}


def plan_names(service, method, settings=BY_CLIP):
    hook, model, layer = METHODS[method]
    request = small_request(
        model=model or str(backbone_folder()), layers=(layer,), saes=(SAE,), scoring=bare_scoring(),
        own={"names" if isinstance(settings, NameSettings) else "intervene": settings}, split=SplitConfig(),
    )  # fmt: skip
    extraction = request.extraction.model_copy(update={"tokens": "cls", "hook": hook})
    return submit(request.model_copy(update={"extraction": extraction}), service.settings, service.sessions)


@pytest.fixture(scope="module")
def named(make_service):
    """The last layers' embeddings, a middle layer of the CLIP, and the backbone without text, each with names."""
    service = make_service()
    register_small(service, n_classes=N_CLASSES)
    for method in METHODS:
        assert set(run_jobs(service, plan_names(service, method), "extract", "train", "analyze", "names")) == {
            "succeeded"
        }
    return service


def query(service, statement):
    with transaction(service.sessions) as session:
        return [dict(row) for row in session.execute(text(statement)).mappings()]


def rows(admin, service, *arguments):
    found = admin(service, "results", "names", "--study", "all", *arguments, "--limit", 10_000, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_names_agree_with_labels_more_often_than_shuffled_words(named, admin, method):
    found = [row for row in rows(admin, named, "--table", "agreement") if row["method"] == method]
    assert [row["height"] for row in found] == list(range(len(found)))
    counted = [row["n_agree"] for row in found]
    assert counted == sorted(counted)
    assert counted[-1] == found[0]["n_latents"]  # all share the root
    assert found[0]["n_agree"] > found[0]["n_agree_shuffled"]
    assert found[0]["shuffled_low"] <= found[0]["n_agree_shuffled"] <= found[0]["shuffled_high"]
    assert found[0]["p"] <= 0.05


def test_names_have_scores_margins_and_labels(named, admin):
    found = rows(admin, named)
    assert {row["method"] for row in found} == set(METHODS)
    scores = [row["score"] for row in found]
    assert scores == sorted(scores, reverse=True)
    for row in found:
        assert row["margin"] >= 0
        assert row["word"] != row["runner_up"] or row["margin"] == 0
        assert (row["n_images"] is None) == (row["method"] == "direction")
        assert (row["agreement_height"] is None) == (row["label"] is None)
        assert (row["agreement_height"] == 0) == (row["label"] is not None and row["label"] == row["synset"])
    per_method = {method: sum(row["method"] == method for row in found) for method in METHODS}
    assert per_method["effect"] <= 40
    assert per_method["images"] <= 40
    printed = admin(named, "results", "names", "--study", "all", "--limit", 10_000)
    assert printed.exit_code == 0, printed.output
    for row in found:
        assert row["word"] in printed.stdout
        assert cell(row["score"]) in printed.stdout
    for heading in ("score ↑", "margin ↑", "agree from height ↓"):
        assert heading in printed.stdout
    assert printed.stdout.endswith("\n\n↑ ↓: more, or less, is better.\n")


def test_names_come_by_their_margin_in_the_cookbook(named, admin):
    asked = admin(named, "db", "query", cookbook_query("What are latents called, and how sure is that?"), "--json")
    assert asked.exit_code == 0, asked.output
    shown = json.loads(asked.stdout)
    found = sorted(rows(admin, named), key=lambda row: (-row["margin"], row["name_set_id"], row["latent"]))[:50]
    assert [(row["method"], row["latent"], row["name"], row["label"], row["height"]) for row in shown] == [
        (row["method"], row["latent"], row["word"], row["label"], row["agreement_height"]) for row in found
    ]
    assert [float(row["margin"]) for row in shown] == pytest.approx([row["margin"] for row in found], abs=6e-4)
    assert all((row["chance"] is None) == (row["height"] is None) for row in shown)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_terminal_is_too_narrow_for_a_name(named, admin, width):
    longest = max((row["word"] for row in rows(admin, named)), key=len)
    assert_fits(admin, named, ("results", "names", "--study", "all", "--limit", 10_000), width, longest)
    assert_fits(admin, named, ("results", "names", "--table", "agreement", "--study", "all"), width, "height", "agree")


def test_every_job_is_shown(named, admin):
    for job in query(named, "SELECT id, title, state FROM job WHERE kind = 'names'"):
        shown = admin(named, "jobs", "show", job["id"])
        assert shown.exit_code == 0, shown.output
        for words in (job["title"], job["state"], "needs", "request", "result", "history"):
            assert words in shown.stdout


def test_a_filter_takes_the_node_that_a_name_means(named, admin):
    node = next(row["synset"] for row in rows(admin, named))
    found = rows(admin, named, "--node", node)
    assert {row["synset"] for row in found} == {node}
    assert len(rows(admin, named, "--under", "entity.n.01")) == len(rows(admin, named))


def test_the_first_directions_are_the_decoder_s(named):
    """And the score is the cosine that the stored arrays give."""
    (row,) = query(named, "SELECT * FROM name_set WHERE method = 'direction'")
    tensors, _ = get_tensors(named.store, directions_key(row["key"], row["directions_sha256"]), sha256=None)
    assert tensors["directions"].shape == (row["n_latents"], 64)
    np.testing.assert_allclose(tensors["directions"].norm(dim=1), 1, atol=1e-4)
    assert row["split"] == "score"


def test_a_concept_finds_latents_whose_name_it_is(named, admin):
    best = next(row for row in rows(admin, named) if row["method"] == "direction")
    found = rows(admin, named, "--concept", best["word"])
    cosines = [row["concept"] for row in found]
    assert cosines == sorted(cosines, reverse=True)
    first = next(row for row in found if row["method"] == "direction")
    assert (first["latent"], first["word"]) == (best["latent"], best["word"])
    phrase = admin(named, "results", "names", "--concept", "an animal of the sea", "--limit", 2)
    assert phrase.exit_code == 0, phrase.output
    assert "concept" in phrase.stdout
    assert_one_line(admin(named, "results", "names", "--concept", "qqqq"), "knows no word of 'qqqq'")
    assert_one_line(admin(named, "results", "names", "--concept", " "), "the concept is empty")
    assert_one_line(admin(named, "results", "names", "--concept", "dog", "--table", "agreement"), "leave --table out")


@pytest.fixture
def analysis(named, monkeypatch):
    """The analysis of the CLIP's embedding, in a notebook."""
    for name, value in named.environment.items():
        monkeypatch.setenv(name, value)
    (row,) = query(named, "SELECT analysis_id FROM name_set WHERE method = 'direction'")
    return hsae.open().analysis(row["analysis_id"])


@pytest.fixture
def client(named, tmp_path):
    """The explorer."""
    sources = Sources(named.settings, Cache(tmp_path))
    with TestClient(make_app(sources), base_url="http://127.0.0.1") as client:
        yield client
    sources.close()


def test_names_in_python_are_those_of_the_command(named, admin, analysis):
    found = rows(admin, named, "--analysis", analysis.id)
    table = analysis.names()
    assert list(zip(table.latent, table.word, table.score, strict=True)) == [
        (row["latent"], row["word"], row["score"]) for row in found
    ]
    assert analysis.names(limit=2).latent.tolist() == table.latent.tolist()[:2]
    assert set(analysis.names(under="fish.n.01").synset) < set(table.synset)
    agreement = rows(admin, named, "--analysis", analysis.id, "--table", "agreement")
    assert analysis.name_agreement().n_agree.tolist() == [row["n_agree"] for row in agreement]
    assert analysis.names(concept=table.word[0], limit=1).latent.tolist() == table.latent.tolist()[:1]
    for wrong in ("qqqq", " ", 3):
        with pytest.raises(UserError, match="qqqq|concept is"):
            analysis.names(concept=wrong)


def test_names_stand_beside_labels_in_tables_cards_and_pages(named, admin, analysis, client):
    """And the share of shuffled words that come as close to the label."""
    names = {row["latent"]: row for row in rows(admin, named, "--analysis", analysis.id)}
    chance = {row["height"]: row["n_agree_shuffled"] / row["n_latents"]
              for row in rows(admin, named, "--analysis", analysis.id, "--table", "agreement")}  # fmt: skip
    table = analysis.latents()
    called = table[table.text_name.notna()]
    of_table = {latent: row["word"] for latent, row in names.items() if latent in set(table.latent)}
    assert dict(zip(called.latent, called.text_name, strict=True)) == of_table
    best = max((row for row in names.values() if row["label"]), key=lambda row: (row["f1"], row["latent"]))
    latent, word = best["latent"], best["word"]
    assert analysis.latent(latent).name_height_chance[0] == pytest.approx(chance[best["agreement_height"]])
    assert f"named “{word}” by text" in analysis.show(latent, n=1).cards[0].scores
    with transaction(named.sessions) as session:
        cards = best_labelled_latents(session, [analysis.id], n_each=1000)
    for card in cards:
        shown = {value.name: value for value in card_values(card)}["name by text"]
        assert shown.value == names[card["latent"]]["word"]
        assert f"above the runner-up, {names[card['latent']]['runner_up']}; " in shown.beside
    page = unescape(client.get(f"/latent/{analysis.id}/sae/{latent}").text)
    assert f'<td class="strong">{word}</td>' in page
    assert "of shuffled words come as close" in page
    (study,) = query(named, f"SELECT study_id FROM analysis JOIN study_job USING (job_id) WHERE id = {analysis.id}")
    listed = client.get("/latents", params={"study": study["study_id"]} | {"named": word}).text
    same = called[called.f1_adjusted.notna() & called.text_name.str.contains(word, case=False, regex=False)]
    assert listed.count('class="name"') == min(50, len(same)) > 0
    assert "No latent fits" in client.get("/latents", params={"study": study["study_id"]} | {"named": "%"}).text


def test_a_word_is_a_text_wherever_it_stands(named, analysis, client):
    latent, word = analysis.latents(limit=1)[["latent", "text_name"]].iloc[0]  # it fires on scored images
    changed = text("UPDATE latent_name SET word = :word WHERE latent = :latent AND name_set_id ="
                   " (SELECT id FROM name_set WHERE analysis_id = :analysis)")  # fmt: skip
    values = {"latent": int(latent), "analysis": analysis.id}
    with transaction(named.sessions) as session:
        session.execute(changed, values | {"word": "<script>alert(1)</script>"})
    try:
        for html in (client.get(f"/latent/{analysis.id}/sae/{latent}").text, analysis.show(latent)._repr_html_()):
            assert "<script>alert(1)" not in html
            assert "&lt;script&gt;alert(1)" in html
    finally:
        with transaction(named.sessions) as session:
            session.execute(changed, values | {"word": word})


def test_a_lost_object_and_an_ended_attempt_are_made_again_to_the_same_bits(named):
    plan = plan_names(named, "effect", BY_CLIP.model_copy(update={"seed": 1, "latents": 9}))
    assert {job.status for job in plan.jobs if job.kind in ("extract", "train", "analyze")} == {"reused"}
    number = next(job.id for job in plan.jobs if job.kind == "names")
    with attempt(named, number, stop_at=8) as (request, context), pytest.raises(OSError, match="stopped"):
        make_names(request, context)
    assert len(query(named, "SELECT id FROM name_set")) == 3
    with attempt(named, number) as (request, context):
        summary = make_names(request, context)
    first = query(named, f"SELECT * FROM latent_name WHERE name_set_id = {summary['name_set']} ORDER BY latent")
    with attempt(named, number) as (request, context):  # the worker died after publishing: nothing is made again
        assert make_names(request, context) == summary
    with transaction(named.sessions) as session:
        row = session.get_one(NameSet, summary["name_set"])
        key = directions_key(row.key, row.directions_sha256)
    named.store.delete(key)
    with attempt(named, number) as (request, context):
        assert make_names(request, context) == summary
    again = query(named, f"SELECT * FROM latent_name WHERE name_set_id = {summary['name_set']} ORDER BY latent")
    assert again == first
    tensors, _ = get_tensors(named.store, key, sha256=None)
    assert torch.equal(tensors["latents"].sort().values, torch.tensor([row["latent"] for row in first]))
    with transaction(named.sessions) as session:
        session.execute(text(f"DELETE FROM name_set WHERE id = {summary['name_set']}"))


def test_zero_shot_reads_what_an_edit_takes_away(named):
    """Everything that two latents give in a middle layer, as the model's own text tower sees it."""
    settings = InterveneSettings(
        nodes=("fish.n.01",), choose="selectivity", max_density=1.0, controls=(), readouts=("zero_shot",), n_shuffles=9
    )
    plan = plan_names(named, "effect", settings)
    assert run_jobs(named, plan, "intervene") == ["succeeded"]
    (row,) = query(named, "SELECT * FROM intervention_readout")
    assert row["readout"] == "zero_shot"
    assert row["accuracy"] > 3 * row["chance"]
    assert row["log_odds"] is not None
    (edit,) = query(named, "SELECT * FROM intervention")
    assert edit["accuracy_inside_before"] >= edit["accuracy_inside_after"]
    assert edit["moved_inside"] > 0
