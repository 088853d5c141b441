"""Latents one by one as a job: rows in SQL, and where people see them: command line, Python, explorer and report."""

import json
import re
from contextlib import contextmanager
from html import unescape
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import text
from starlette.testclient import TestClient
from tests.api.test_notebooks import FOLDER, run, shown
from tests.cli.refusals import assert_one_line
from tests.pipeline.in_process import run_jobs
from tests.pipeline.stages.interventions.small_plans import QUICK, plan_interventions, query
from tests.small import bare_scoring, register_small

import hsae
from hsae.catalog import Synset, transaction
from hsae.catalog.findings.reported.node_nulls import best_labelled_latents
from hsae.cli.main import cli
from hsae.datasets import ImageFile
from hsae.demo import images_folder
from hsae.errors import UserError
from hsae.explorer.app import make_app
from hsae.explorer.reading.sources import Cache, Sources
from hsae.interventions.config import NEEDED, UNITS, InterveneSettings
from hsae.pipeline.planning.study_file.spec import read_block
from hsae.report.page.card_values import card_values

N_TESTED, N_DRIVEN = 5, 4
ALONE = InterveneSettings(
    label_effects=N_TESTED, n_random=2, n_shuffles=49, steer=N_DRIVEN, steer_images=20, steer_amounts=(0.001, 0.5)
)


@pytest.fixture(scope="module")
def made(make_service):
    """Latents of layer 3 alone; no node is edited."""
    service = make_service()
    register_small(service, n_classes=28)
    plan = plan_interventions(service, ALONE, sae=QUICK, scoring=bare_scoring(embeddings="last"))
    assert set(run_jobs(service, plan)) == {"succeeded"}
    return SimpleNamespace(service=service, study=plan.study_id)


@pytest.fixture
def admin(made, monkeypatch):
    """Runs `hsae-admin ARGUMENTS`."""
    for name, value in made.service.environment.items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(cli, [str(argument) for argument in arguments])


@contextmanager
def pages(made, folder):
    """A client of the explorer."""
    sources = Sources(made.service.settings, Cache(folder))
    try:
        yield TestClient(make_app(sources), base_url="http://127.0.0.1", headers={"origin": "http://127.0.0.1"})
    finally:
        sources.close()


def test_the_surest_latents_have_an_effect_at_their_label(made):
    rows = query(made.service, "SELECT x.*, l.label_synset_id FROM latent_effect x JOIN intervention_set s"
                 " ON s.id = x.intervention_set_id JOIN latent l ON l.analysis_id = s.analysis_id AND l.basis = 'sae'"
                 " AND l.latent = x.latent ORDER BY x.readout, x.latent")  # fmt: skip
    assert [row["readout"] for row in rows] == ["knn"] * N_TESTED + ["probe"] * N_TESTED
    for row in rows:
        assert row["synset_id"] == row["label_synset_id"]
        assert row["unit"] == ("log_odds" if row["readout"] == "probe" else "accuracy")
        assert row["chance_low"] <= row["chance_high"]
        assert 1 <= row["n_draws"] <= 2
        assert 0 < row["p"] <= row["q"] <= 1
        assert row["is_used"] == (row["q"] <= 0.05 and row["effect"] > max(0, row["chance_high"]))
        if row["readout"] == "knn":
            assert row["effect"] == row["accuracy_effect"]
    assert query(made.service, "SELECT number FROM intervention") == []
    assert query(made.service, "SELECT id FROM intervention_contrast") == []


def test_units_are_driven_and_shares_fall_with_the_amount(made):
    rows = query(made.service, "SELECT * FROM intervention_steerability ORDER BY units, amount")
    assert [(row["units"], row["amount"]) for row in rows] == [(unit, a) for unit in UNITS for a in (0.001, 0.5)]
    for row in rows:
        assert (row["readout"], row["n_units"]) == ("probe", N_DRIVEN)  # a vote has no distribution
        assert 0 < row["n_images"] <= 20
        assert row["share_low"] <= row["share"] <= row["share_high"]
        assert row["moved"] > 0
    for little, much in zip(rows[::2], rows[1::2], strict=True):
        assert little["share"] >= much["share"]
        assert (little["shift"] >= 0.001) <= (little["share"] >= 0.5)


def test_a_second_set_is_what_is_shown_and_one_latent_is_marked(made, admin, tmp_path):
    """The command line, Python, the pages and the cards agree on what is used."""
    chosen = query(
        made.service, "SELECT latent, effect FROM latent_effect WHERE readout = 'probe' ORDER BY effect DESC"
    )
    used = chosen[0]["latent"]
    with transaction(made.service.sessions) as session:
        session.connection().exec_driver_sql(f"UPDATE latent_effect SET is_used = (latent = {used})")

    def latents(*options):
        found = admin("results", "latents", "--limit", 1000, "--json", *options)
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout)

    measured = [row for row in latents() if row["is_used"] is not None]
    assert {row["latent"] for row in measured} == {row["latent"] for row in chosen}
    assert {row["effect_readout"] for row in measured} == {"probe"}
    assert [row["latent"] for row in latents("--used")] == [used]
    best = [row["latent"] for row in latents("--min-effect", chosen[1]["effect"])]
    assert sorted(best) == sorted(row["latent"] for row in chosen[:2])
    printed = admin("results", "latents", "--used")
    assert "yes" in printed.stdout
    assert "~latents: 97.5 % of random ones" in printed.stdout

    workspace = hsae.open()
    analysis = workspace.study(made.study).analysis(layer=3)
    frame = analysis.latents()
    frame = frame[frame.is_used == True]  # noqa: E712 -- None where nothing was measured
    assert frame.latent.tolist() == [used]
    assert frame.label_effect.tolist() == [chosen[0]["effect"]]
    assert analysis.latents(used=True).latent.tolist() == [used]
    assert analysis.latents(min_effect=np.float64(chosen[1]["effect"])).latent.tolist() == best
    assert analysis.latents(used=False, min_stability=-1).empty
    with transaction(made.service.sessions) as session:
        cards = best_labelled_latents(session, [analysis.id], n_each=1000)
    shown = {card["latent"]: [value.name for value in card_values(card)] for card in cards}
    assert all(("effect at the label, log-odds" in names) == (latent in {row["latent"] for row in chosen})
               for latent, names in shown.items())  # fmt: skip
    with pages(made, tmp_path) as client:
        page = client.get(f"/latent/{analysis.id}/sae/{used}").text
        assert "fires for it and used for it" in page
        assert "effect at its label" in page
        listed = client.get("/latents?used=true").text
        assert listed.count("fires for it and used for it") == 1
        assert "an.latents(used=True)" in unescape(listed) or "an.latents(used=True," in unescape(listed)
        other = next(row["latent"] for row in chosen if row["latent"] != used)
        assert "fires for it and used for it" not in client.get(f"/latent/{analysis.id}/sae/{other}").text
        silent = next(row["latent"] for row in latents() if row["is_used"] is None)
        assert "effect at its label" not in client.get(f"/latent/{analysis.id}/sae/{silent}").text
    with transaction(made.service.sessions) as session:
        session.connection().exec_driver_sql(f"UPDATE latent_effect SET is_used = (latent = {cards[0]['latent']})")
    done = admin("report", made.study, "-o", tmp_path / "it.html")
    assert done.exit_code == 0, done.output
    said = re.findall(r'id="latent-\d+-(\d+)"|(fires for it and used for it)', (tmp_path / "it.html").read_text())
    (badge,) = (place for place, (_, text) in enumerate(said) if text)
    assert said[badge - 1][0] == str(cards[0]["latent"])


def test_what_cannot_be_is_refused_when_the_study_is_planned(made):
    def refused(settings, **extraction):
        with pytest.raises(UserError) as caught:
            plan_interventions(made.service, settings, sae=QUICK, **extraction)
        return str(caught.value)

    assert "no data set has a node bird.n.99" in refused(InterveneSettings(nodes=("bird.n.99",)))
    assert "small has no class at or under" in refused(InterveneSettings(nodes=(unused_node(made.service),)))
    line = refused(ALONE, hook="mlp")
    assert "interventions edit class and patch tokens of the residual stream" in line
    assert line.endswith("leave --intervene out")


def unused_node(service):
    """A node of the catalog that the data set lacks, as another data set may have brought it."""
    with transaction(service.sessions) as session:
        session.add(Synset(taxonomy="wordnet-3.0", wnid="n99999999", name="lost.n.01", definition="", lemmas=[]))
    return "lost.n.01"


def test_a_file_may_ask_for_latents_alone(made, admin, tmp_path):
    path = tmp_path / "alone.yaml"
    path.write_text("label_effects: 3\nreadouts: [knn]\nsteer: 2\n")
    assert_one_line(
        admin("submit", "--layer", 3, "--intervene", path), str(path), "steer needs a readout with probabilities"
    )
    path.write_text("n_random: 3\n")
    assert_one_line(
        admin("submit", "--layer", 3, "--intervene", path),
        "intervene.nodes or label_effects or steer or loss_recovered is missing",
    )


def test_the_loss_recovered_alone(made, admin, tmp_path):
    """Asked for by itself it is a set of its own; beside anything else it is measured anyway, and changes no key."""
    path = tmp_path / "loss.yaml"
    path.write_text("loss_recovered: true\nreadouts: [probe]\n")
    assert read_block(path, "intervene", needed=NEEDED).is_asked
    both = ALONE.model_copy(update={"loss_recovered": True})
    assert both.key_fields() == ALONE.key_fields()
    own = InterveneSettings(loss_recovered=True, readouts=("probe",))
    assert own.key_fields() == InterveneSettings(readouts=("probe",)).key_fields() | {"loss_recovered": True}
    scoring = bare_scoring(embeddings="last")
    plan = plan_interventions(made.service, own, sae=QUICK, scoring=scoring)
    assert run_jobs(made.service, plan, "intervene") == ["succeeded"]
    rows = query(made.service, "SELECT * FROM intervention_readout WHERE readout = 'probe'"
                 " ORDER BY intervention_set_id")  # fmt: skip
    beside, alone = ({k: v for k, v in row.items() if k != "intervention_set_id"} for row in rows)
    assert alone == beside
    assert alone["loss_recovered_mean"] is not None
    latest = rows[-1]["intervention_set_id"]
    for table in ("intervention", "latent_effect", "intervention_steerability"):
        found = query(made.service, f"SELECT * FROM {table} WHERE intervention_set_id = :set", set=latest)
        assert found == []
    analysis = hsae.open().study(made.study).analysis(layer=3)
    frame = analysis.readouts()
    assert frame.readout.tolist() == ["knn", "probe", "probe"]
    assert frame.loss_recovered_mean.tolist()[1:] == [alone["loss_recovered_mean"]] * 2
    (number,) = (row["id"] for row in query(made.service, "SELECT id FROM sae"))
    shown = json.loads(admin("sae", "show", number, "--json").output)
    assert {name: shown[name] for name in ("loss_recovered_by", "loss_recovered_mean", "cross_entropy")} == {
        "loss_recovered_by": "probe", **{name: alone[name] for name in ("loss_recovered_mean", "cross_entropy")},
    }  # fmt: skip
    assert "loss of the probe recovered: " in admin("sae", "show", number).output
    printed = admin("results", "interventions", "--table", "readouts")
    assert "recovered" in printed.stdout


def test_one_s_own_image_is_edited_in_python_and_on_a_page(made, admin, tmp_path):
    """By hand: the class token after the block without what the latents add, and the rest of the backbone."""
    path = sorted(images_folder().glob("*/*.webp"))[0]
    workspace = hsae.open()
    an = workspace.study(made.study).analysis(layer=3)
    z = an.encode([path])[0]
    latents = np.argsort(-z)[:3].tolist()
    assert (z[latents] > 0).all()
    found = an.edit([path], latents)
    sae, editor = an.sae(), an._editor
    with path.open("rb") as opened, ImageFile(opened, "it", max_pixels=10**7) as file:
        recorded = editor.backbone.recorded(editor.backbone.pixel_values([file.decode()]))
    stream = recorded.streams[3].clone()
    plain = sae.encode(stream[:, 0])
    changed = plain.clone()
    changed[:, latents] = 0
    stream[:, 0] += sae.decode(changed) - sae.decode(plain)
    logits = editor.readout.probe.logits(recorded.resume(stream, 3, 5)).numpy()
    p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert found.after == pytest.approx(p @ editor.tree.inside, abs=1e-5)
    assert found.activations[0] == pytest.approx(z[latents], rel=1e-4)
    assert found.before[0, found.nodes.index("entity.n.01")] == pytest.approx(1)
    assert found.accuracy > found.chance
    table = found.to_pandas()
    assert table.change.abs().round(12).is_monotonic_decreasing
    assert "entity.n.01" not in set(table.synset)
    assert "hsae-edited" in found._repr_html_()
    assert found.node(table.synset[0])[0] == pytest.approx(table.before[0])
    same = an.edit([path, path], {latents[0]: 1.0})
    assert np.array_equal(same.before, same.after)
    for given, line in (
        ({9999: 0.0}, "latent 9999 is of another SAE"),
        ({1: float("nan")}, "latent 1 is changed by nan: give a finite number"),
        ([], "no latent is edited"),
    ):
        with pytest.raises(UserError, match=line):
            an.edit([path], given)
    with pages(made, tmp_path) as client:
        assert "What does the model see" in client.get("/edit").text
        fields = {"study": str(made.study), "layer": "3", "latents": ", ".join(map(str, latents)), "value": "0"}
        answer = client.post("/edit", files={"image": ("a.webp", path.read_bytes())}, data=fields)
        assert answer.status_code == 200, answer.text[:2000]
        shown = re.findall(r'<tr><td>([^<]+)</td><td class="num">([^<]+)</td>', answer.text)
        assert [node for node, _ in shown] == table.synset[: len(shown)].tolist()
        copied = f'an.edit(["my.jpg"], [{", ".join(map(str, latents))}]).to_pandas()'
        assert copied in unescape(answer.text)
        for changes, status, line in (
            ({"latents": ""}, 400, "No latent is edited"),
            ({"latents": "one"}, 400, "latents"),
            ({"latents": "9999"}, 422, "latent 9999 is of another SAE"),
            ({"kind": "double"}, 400, "kind"),
        ):
            refused = client.post("/edit", files={"image": ("a", path.read_bytes())}, data=fields | changes)
            assert (refused.status_code, line in refused.text) == (status, True), refused.text
        assert client.post("/edit", files={"image": ("a", b"no image")}, data=fields).status_code == 422
        assert client.post("/edit", data=fields).status_code == 400


@pytest.mark.slow
def test_the_notebook_that_unlearns_birds(made, admin, tmp_path, monkeypatch):
    """Its own words are read by people; here every cell runs, and the tables are there."""
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    notebook = run(FOLDER / "unlearn_bird.ipynb", tmp_path)
    pages = "".join(shown(notebook, "text/html"))
    assert "hsae-edited" in pages
    assert "as many others" in pages
    assert len(shown(notebook, "image/png")) == 1


def test_a_last_layer_that_is_not_stored_is_one_line(made, admin):
    with transaction(made.service.sessions) as session:
        session.execute(text("UPDATE activation_set SET manifest_sha256 = NULL WHERE layer = 5"))
    an = hsae.open().study(made.study).analysis(layer=3)
    with pytest.raises(UserError, match="no cls activations of small are stored: submit the"):
        an.edit([images_folder()], [0])
