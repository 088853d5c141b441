"""hsae-admin results interventions and submit --intervene: from a file to tables, and one line where it is no good."""

import json

import pytest
from sqlalchemy import text
from tests.cli.printing.widths import assert_fits
from tests.cli.refusals import MODEL, assert_one_line
from tests.pipeline.in_process import run_study
from tests.small import bare_scoring, register_small, small_request

import hsae
from hsae.catalog import transaction
from hsae.catalog.findings.interventions.beside_random import edits_beside_random
from hsae.catalog.findings.interventions.listed import TABLES, listing
from hsae.catalog.findings.interventions.pictured import pictured_edits, taken_away
from hsae.catalog.queries.known_names import find_nodes
from hsae.catalog.queries.score_filter import ScoreFilter
from hsae.interventions.config import InterveneSettings
from hsae.pipeline.planning.study_file import read_spec
from hsae.pipeline.planning.submit import submit
from hsae.sae.config import SaeConfig

SETTINGS = InterveneSettings(
    nodes=("bird.n.01", "fish.n.01"), choose="selectivity", max_density=1.0, n_latents=4, n_random=2, n_shuffles=9,
    label_effects=3, steer=2, steer_images=10,
)  # fmt: skip
LEGENDS = {
    "edits": "↑: more is better.", "contrasts": "↑ ↓: more, or less, is better.", "labels": "↑: more is better.",
    "readouts": "↑ ↓: more, or less, is better.",
}  # fmt: skip
SAE = SaeConfig(kind="topk", k=8, expansion=2, n_steps=60)


@pytest.fixture(scope="module")
def edited(make_service):
    """Interventions in layers 1 and 3, each of its own analysis."""
    service = make_service()
    register_small(service, n_classes=25)
    request = small_request(saes=(SAE,), scoring=bare_scoring(), own={"intervene": SETTINGS}, name="edited")
    plan = submit(request, service.settings, service.sessions)
    assert {job["state"] for job in run_study(service, plan.study_id)} == {"succeeded"}
    return service


def test_tables_for_people_and_programs(edited, admin):
    with transaction(edited.sessions) as session:
        expected = {table: listing(table)(session, ScoreFilter(limit=100_000)) for table in TABLES}
    for table in TABLES:
        found = admin(edited, "results", "interventions", "--table", table, "--limit", 100_000, "--json")
        assert found.exit_code == 0, found.output
        rows = json.loads(found.stdout)
        assert len(rows) == len(expected[table]) > 0
        assert {row["sae"] for row in rows} == {"topk x2"} or all(row["sae"] for row in rows)
        nodes = {row[name] for row in rows for name in ("synset", "target") if row.get(name) is not None}
        longest = max(nodes, key=len, default="readout")
        printed = admin(edited, "results", "interventions", "--table", table, "--limit", 100_000)
        assert printed.exit_code == 0, printed.output
        assert {name for name in nodes if name not in printed.stdout} == set()
        assert (printed.stdout.splitlines()[-1] == LEGENDS.get(table)) == (table in LEGENDS), printed.stdout
        for width in (40, 80):
            arguments = ("results", "interventions", "--table", table, "--limit", 100_000)
            assert_fits(admin, edited, arguments, width, longest)
    edits = expected["edits"]
    assert {row["synset"] for row in edits} == {"bird.n.01", "fish.n.01"}
    assert {row["layer"] for row in edits} == {1, 3}


def test_tables_in_python_are_those_of_the_command(edited, admin, monkeypatch):
    for name, value in edited.environment.items():
        monkeypatch.setenv(name, value)
    analysis = hsae.open().study(1).analysis(layer=3)
    for table in TABLES:
        found = admin(edited, "results", "interventions", "--table", table, "--layer", 3, "--limit", 100_000, "--json")
        rows, frame = json.loads(found.stdout), analysis.interventions(table)
        assert set(frame.columns) == set(rows[0])
        for name in {"readout", "specificity", "accuracy_drop", "effect", "share"} & set(rows[0]):
            assert frame[name].where(frame[name].notna(), None).tolist() == [row[name] for row in rows], table
        assert len(analysis.interventions(table, limit=1)) == 1
    edits = analysis.interventions()
    assert edits.equals(analysis.interventions("edits"))
    assert set(analysis.interventions(node="fish.n.01").synset) == {"fish.n.01"} < set(edits.synset)
    assert set(analysis.interventions("effects", under="fish.n.01").target) == set(edits.synset)
    assert analysis.interventions(node="animal.n.01").empty
    assert analysis.interventions("readouts").loss_recovered_mean.equals(analysis.readouts().loss_recovered_mean)


def test_the_job_is_shown(edited, admin):
    jobs = json.loads(admin(edited, "jobs", "list", "--json").stdout)
    for number in (job["id"] for job in jobs if job["kind"] == "intervene"):
        shown = admin(edited, "jobs", "show", number)
        assert shown.exit_code == 0, shown.output
        for words in ("intervene ", "succeeded", "needs", "request", "bird.n.01, fish.n.01", "result", "history"):
            assert words in shown.stdout


def test_filters(edited, admin):
    def rows(*arguments):
        found = admin(edited, "results", "interventions", *arguments, "--limit", 100_000, "--json")
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout)

    assert {row["synset"] for row in rows("--node", "bird.n.01")} == {"bird.n.01"}
    assert {row["layer"] for row in rows("--layer", 3, "--table", "distances")} == {3}
    effects = rows("--table", "effects", "--node", "fish.n.01", "--layer", 1)
    assert {(row["synset"], row["target"]) for row in effects} == {
        ("fish.n.01", "bird.n.01"), ("fish.n.01", "fish.n.01"),
    }  # fmt: skip
    assert {row["synset"] for row in rows("--under", "bird.n.01")} == {"bird.n.01"}
    assert len(rows("--table", "readouts", "--layer", 1)) == 2
    refused = admin(edited, "results", "interventions", "--node", "bird.n.77")
    assert_one_line(refused, "no data set has a node bird.n.77")


def test_the_taxonomy_is_drawn_in_the_colours_of_what_was_lost(edited, admin, tmp_path):
    drawn = admin(edited, "results", "interventions", "--node", "bird.n.01", "--plot", tmp_path / "lost.svg")
    assert drawn.exit_code == 0, drawn.output
    assert f"Figure: {tmp_path / 'lost.svg'}" in drawn.stderr
    picture = (tmp_path / "lost.svg").read_text()
    assert "4 latents of bird.n.01 taken away, layer" in picture
    assert "of random latents" in picture
    assert "LEACE" in picture
    one = admin(edited, "results", "interventions", "--node", "bird.n.01", "--limit", 1, "--plot", tmp_path / "one.svg")
    assert one.exit_code == 0, one.output
    assert "greatest of 2 edits" in (tmp_path / "one.svg").read_text(), "of all layers, whatever is listed"
    refused = admin(edited, "results", "interventions", "--plot", tmp_path / "lost.doc")
    assert "lost.doc" in refused.stderr
    made = admin(edited, "report", "1", "-o", tmp_path / "report.html")
    assert made.exit_code == 0, made.output
    page = (tmp_path / "report.html").read_text()
    assert "What edits took away" in page
    assert "4 latents of fish.n.01 taken away, layer" in page
    assert page.count("Chosen as the greatest of 2 edits of this node") == 2
    with transaction(edited.sessions) as session:
        (edit,) = pictured_edits(session, [1, 2], targets=find_nodes(session, ["bird.n.01"]), limit=9)
        rows = listing("edits")(session, ScoreFilter(nodes=tuple(find_nodes(session, ["bird.n.01"])), limit=1000))
        of_latents = [row for row in rows if row["arm"] == "latents" and row["readout"] == "probe"]
        best = max(of_latents, key=lambda row: row["specificity_log_odds"])
        beside = [row for row in rows if row["readout"] == "probe"
                  and row["intervention_set_id"] == best["intervention_set_id"]]  # fmt: skip
        random = [row["specificity_log_odds"] for row in beside if row["arm"] == "random"]
        (leace,) = (row["specificity_log_odds"] for row in beside if row["arm"] == "leace")
        assert (edit["specificity"], edit["n_edits"]) == (best["specificity_log_odds"], 2)
        assert (edit["low"], edit["high"]) == (best["specificity_log_odds_low"], best["specificity_log_odds_high"])
        assert edit["random"] == pytest.approx(sum(random) / len(random))
        assert (edit["n_random"], edit["random_least"], edit["random_greatest"], edit["leace"]) == (
            SETTINGS.n_random, min(random), max(random), leace,
        )  # fmt: skip
        taken = taken_away(session, edit)
        effects = listing("effects")(session, ScoreFilter(limit=100_000))
    expected = {
        row["synset_id"]: row["log_odds_before"] - row["log_odds_after"]
        for row in effects
        if (row["intervention_set_id"], row["number"], row["readout"])
        == (edit["intervention_set_id"], edit["number"], "probe")
        and row["log_odds_before"] is not None
    }
    assert {node: row["drop"] for node, row in taken.items()} == pytest.approx(expected)


def test_sets_of_an_earlier_format_are_not_listed_beside_those_of_the_same_request(edited):
    everything = ScoreFilter(limit=100_000)
    with transaction(edited.sessions) as session:
        analyses = [1, 2]
        listed = {table: listing(table)(session, everything) for table in TABLES}
        pictured = pictured_edits(session, analyses, limit=9)
        assert {row["n_edits"] for row in pictured} == {2}
        # What a set of format 1 has: another key, no `layers`, rows of its own. Its numbers here are the same.
        copies = [
            "INSERT INTO intervention_set OVERRIDING SYSTEM VALUE SELECT r.* FROM intervention_set s,"
            " jsonb_populate_record(s, jsonb_build_object('id', -s.id, 'key', 'earlier' || s.id,"
            " 'config', (s.config - 'layers') || '{\"format\": 1}')) r"
        ]
        copies += [
            f"INSERT INTO {table} SELECT r.* FROM {table} x, jsonb_populate_record(x, jsonb_build_object("
            "'intervention_set_id', -x.intervention_set_id)) r"
            for table in ("intervention", "intervention_readout")
        ]
        for copy in copies:
            assert session.execute(text(f"{copy} RETURNING 1")).all()
        assert {table: listing(table)(session, everything) for table in TABLES} == listed
        assert pictured_edits(session, analyses, limit=9) == pictured
        # Another request's set, such as one with other doses, stays.
        session.execute(text("UPDATE intervention_set SET config = config || '{\"doses\": [0.5]}' WHERE id < 0"))
        both = listing("edits")(session, everything)
        assert len(both) == 2 * len(listed["edits"])
        edits = pictured_edits(session, analyses, limit=9)
        assert {row["n_edits"] for row in edits} == {4}
        assert all(row["intervention_set_id"] > 0 for row in edits), "of equals the latest"
        session.rollback()


def test_edits_stand_beside_the_mean_of_random_latents(edited):
    """Of the sets that the study asked for, by one readout; as the table of edits has them."""
    with transaction(edited.sessions) as session:
        found = edits_beside_random(session, 1, "probe")
        assert edits_beside_random(session, 2, "probe") == []
        rows = listing("edits")(session, ScoreFilter(limit=100_000))
    assert [(row["layer"], row["target"]) for row in found] == [
        (layer, node) for layer in (1, 3) for node in ("bird.n.01", "fish.n.01")
    ]

    def of(edit, arm):
        wanted = (edit["layer"], edit["target"], arm, "probe")
        return [row for row in rows if (row["layer"], row["synset"], row["arm"], row["readout"]) == wanted]

    for edit in found:
        (own,), random = of(edit, "latents"), of(edit, "random")
        assert edit["n_latents"] == len(own["latents"]) == 4
        assert edit["sae_kind"] == "topk"
        assert edit["n_draws"] == len(random) == SETTINGS.n_random
        for name in ("accuracy_inside_after", "accuracy_outside_before", "specificity", "specificity_low"):
            assert edit[name] == own[name], name
        for end in ("", "_low", "_high"):
            values = [row[f"specificity{end}"] for row in random]
            expected = None if None in values else pytest.approx(sum(values) / len(values))  # of one class: no interval
            assert edit[f"random{end}"] == expected, end
    assert any(edit["random_low"] is not None for edit in found)


def test_submit_takes_a_file_with_the_fields_or_with_the_block(service, admin, tmp_path):
    register_small(service, n_classes=25)
    command = ("submit", "--layer", 1, *MODEL, "--split", "none", "--sae", "topk", "--k", 4, "--expansion", 2)
    plain = json.loads(admin(service, *command, "--json").stdout)
    assert "intervene" not in {job["kind"] for job in plain["jobs"]}
    fields = "nodes: [bird.n.01]\nchoose: attribution\ndoses: [0, 0.5]\n"
    own, block = tmp_path / "own.yaml", tmp_path / "study.yaml"
    own.write_text(fields)
    block.write_text(
        f"layers: 1\nmodel: {MODEL[1]}\nsplit: none\nsaes: [{{kind: topk, k: 4, expansion: 2}}]\nintervene:\n"
        + "".join(f"  {line}\n" for line in fields.splitlines())
    )
    keys = set()
    for path in (own, block):
        planned = json.loads(admin(service, *command, "--intervene", path, "--json").stdout)
        (job,) = (job for job in planned["jobs"] if job["kind"] == "intervene")
        assert "(nodes=bird.n.01, choose=attribution, doses=0.0+0.5)" in job["title"]
        assert planned["study"] == plain["study"]
        keys.add(job["id"])
    assert len(keys) == 1
    request = read_spec(block).request(service.settings, folder=tmp_path)
    assert request.own["intervene"] == InterveneSettings(nodes=("bird.n.01",), choose="attribution", doses=(0.0, 0.5))
    assert type(request).model_validate_json(request.model_dump_json()) == request


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("nodes: []\n", "intervene.nodes or label_effects or steer or loss_recovered is missing"),
        ("[1, 2]\n", "intervene.nodes or label_effects or steer or loss_recovered is missing"),
        ("nodes: [bird.n.01]\ndoses: [.inf]\n", "intervene.doses.0: inf is not valid"),
        ("nodes: [bird.n.01]\ndoses: [.nan]\n", "intervene.doses.0: nan is not valid"),
        ("nodes: [bird.n.01]\nreadouts: [clip]\n", "intervene.readouts.0: 'clip' is not valid"),
        ("nodes: [bird.n.01]\nlatents: [4]\n", "latents are listed with `choose: given`"),
        ("loss_recovered: true\nreadouts: [knn]\n", "loss_recovered needs a readout with probabilities"),
        ("nodes: [bird.n.01]\nquantile: 0.5\n", "a quantile is what latents are clamped to"),
        ("nodes: [bird.n.01]\nlayers: together\nsteer: 2\n", "single latents (steer) are those of one layer: leave"),
        ("nodes: [bird.n.01]\nlayers: all\n", "intervene.layers: 'all' is not valid"),
        ("intervene: {nodes: [bird.n.01], dose: 0}\n", "intervene.dose is no field of a study: did you mean doses?"),
        ("nodes: [bird.n.01\n", "line 2"),
    ],
)
def test_a_file_that_is_no_good_is_refused_in_one_line(service, admin, tmp_path, content, line):
    path = tmp_path / "birds.yaml"
    path.write_text(content)
    refused = admin(service, "submit", "--layer", 1, *MODEL, "--intervene", path)
    assert_one_line(refused, str(path), line)


def test_more_edits_than_anybody_reads_are_refused(service, admin, tmp_path):
    register_small(service, n_classes=2)
    path = tmp_path / "many.yaml"
    path.write_text(f"nodes: [a, b, c]\nn_random: 100\ndoses: {[dose / 20 for dose in range(20)]}\n")
    refused = admin(service, "submit", "--layer", 1, *MODEL, "--split", "none", "--intervene", path)
    assert_one_line(refused, "asks for 6300 edits per SAE", "more than 5000")


def test_without_interventions_one_line_says_how_to_make_them(make_service, admin):
    service = make_service()
    register_small(service, n_classes=2)
    request = small_request(layers=(1,), saes=(SAE,), scoring=bare_scoring())
    run_study(service, submit(request, service.settings, service.sessions).study_id)
    found = admin(service, "results", "interventions")
    assert found.exit_code == 0
    assert "No interventions fit" in found.stdout
    assert "several layers in one pass (`layers: together`) are listed under the deepest" in found.stdout
