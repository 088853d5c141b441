"""What the demo takes away: the edits in SQL, on images that neither trained nor selected, and where they are told."""

import json

import pytest

from hsae.cli.demo import EDITED, edits_request, lost_sentence, request
from hsae.interventions.config import InterveneSettings

OWN = """
    SELECT y.name AS node, i.layer, i.sae_kind, v.*, s.n_images, s.start, a.n_score
    FROM intervention v JOIN intervention_set s ON s.id = v.intervention_set_id
    JOIN analysis_input i ON i.analysis_id = s.analysis_id JOIN analysis a ON a.id = s.analysis_id
    JOIN synset y ON y.id = v.synset_id
    WHERE v.readout = 'probe' AND v.arm = 'latents'
"""
RANDOM = """
    SELECT y.name AS node, count(*) AS n_draws, avg(v.specificity) AS value, avg(v.specificity_low) AS low,
           avg(v.specificity_high) AS high, avg(v.specificity_log_odds) AS odds,
           avg(v.specificity_log_odds_low) AS odds_low, avg(v.specificity_log_odds_high) AS odds_high
    FROM intervention v JOIN synset y ON y.id = v.synset_id
    WHERE v.readout = 'probe' AND v.arm = 'random' GROUP BY y.name
"""
CURVE = """
    SELECT d.distance, d.log_odds_drop AS drop, d.log_odds_low AS low, d.log_odds_high AS high
    FROM intervention_distance d JOIN intervention v USING (intervention_set_id, number, readout)
    JOIN synset y ON y.id = v.synset_id
    WHERE y.name = 'vehicle.n.01' AND readout = 'probe' AND v.arm = 'latents' ORDER BY d.distance
"""


@pytest.fixture(scope="module")
def own(demo) -> dict[str, dict]:
    """The edit of each target's latents."""
    return {row["node"]: row for row in demo.query(OWN)}


@pytest.fixture(scope="module")
def random(demo) -> dict[str, dict]:
    """The means over the draws of as many random latents."""
    return {row["node"]: row for row in demo.query(RANDOM)}


def test_one_sae_of_one_layer_is_edited_on_the_scored_images(demo, own):
    assert set(own) == set(EDITED)
    for row in own.values():
        assert (row["layer"], row["sae_kind"], row["dose"]) == (5, "topk", 0.0)
        assert len(row["latents"]) == 64
        assert row["n_images"] == row["n_score"]
        assert row["start"] == "stored"
    assert demo.query("SELECT count(*) AS n FROM job WHERE kind = 'intervene'") == [{"n": 1}]


def test_vehicles_are_lost_and_random_latents_lose_nothing(own, random):
    vehicles, chance = own["vehicle.n.01"], random["vehicle.n.01"]
    assert vehicles["accuracy_inside_after"] < vehicles["accuracy_inside_before"]
    assert vehicles["specificity_low"] > 0
    assert vehicles["specificity_log_odds_low"] > 0
    assert vehicles["retention"] > 0.9
    assert chance["n_draws"] == 4
    assert chance["low"] <= 0 <= chance["high"]
    assert chance["odds_low"] <= 0 <= chance["odds_high"]
    assert vehicles["specificity"] > chance["high"]


def test_of_birds_no_more_is_said_than_is_shown(own, random):
    """Five classes of birds are scored: they move, and the interval does not tell it from nothing."""
    birds, chance = own["bird.n.01"], random["bird.n.01"]
    assert birds["n_inside"] == 5
    assert birds["specificity_low"] < 0 < birds["specificity_high"]
    assert birds["specificity"] > chance["value"]
    assert chance["low"] <= 0 <= chance["high"]


def test_vehicles_lose_more_than_what_is_far_from_them(demo):
    near, *far = demo.query(CURVE)
    assert near["distance"] == 0
    assert near["low"] > 0
    assert far
    assert all(row["drop"] < near["drop"] for row in far)


def test_latents_are_taken_away_one_by_one(demo):
    rows = demo.query("SELECT latent, effect, q, is_used FROM latent_effect WHERE readout = 'probe'")
    assert len(rows) == 20
    assert all(row["effect"] is not None and row["q"] is not None for row in rows)


def test_the_report_of_the_large_study_shows_the_edits(demo):
    page = (demo.pictures / "report.html").read_text()
    assert "What edits took away" in page
    for node in EDITED:
        assert f"64 latents of {node} taken away, layer 5" in page
    studies = json.loads(demo.admin("studies", "list", "--json").stdout)
    assert [study["name"] for study in studies] == ["edits in block 5", "dinov2-emoji on emoji"], (
        "the latest comes last"
    )


def test_the_last_lines_say_what_was_lost_with_the_numbers_of_the_catalog(demo, own, random):
    lines = demo.output.splitlines()  # behind the report's line there is progress
    end = next(number for number, line in enumerate(lines) if line.startswith("Report: "))
    for node in EDITED:
        edit, chance = own[node], random[node]
        (line,) = (line for line in lines if line.startswith(f"Without 64 latents of {node} in block 5 (topk SAE)"))
        for name in ("accuracy_inside", "accuracy_outside"):
            assert f"from {edit[f'{name}_before']:.2f} to {edit[f'{name}_after']:.2f}" in line
        assert f"{edit['specificity']:.2f} [{edit['specificity_low']:.2f}, {edit['specificity_high']:.2f}] more" in line
        assert f"random latents cost {chance['value']:.2f} [{chance['low']:.2f}, {chance['high']:.2f}] more" in line
        assert line.endswith("yes" if edit["specificity_low"] > 0 else "not shown")
        assert lines.index(line) in range(end - 3, end)
    assert "results interventions`" in lines[end - 1]
    assert "docs/interventions.md" in lines[end - 1]


def test_a_sentence_claims_nothing_where_the_interval_has_0():
    edit = {
        "target": "bird.n.01", "layer": 3, "sae_kind": "topk", "n_latents": 2, "accuracy_inside_before": 0.5,
        "accuracy_inside_after": 0.25, "accuracy_outside_before": 0.75, "accuracy_outside_after": 0.75,
        "specificity": 0.25, "specificity_low": -0.01, "specificity_high": 0.51, "random": 0.0, "random_low": -0.1,
        "random_high": 0.1,
    }  # fmt: skip
    assert lost_sentence(edit).endswith("above 0? not shown")
    assert "from 0.50 to 0.25 on its images and from 0.75 to 0.75 on all others: 0.25 [-0.01, 0.51]" in lost_sentence(
        edit
    )
    assert lost_sentence(edit | {"specificity_low": 0.01}).endswith("above 0? yes")


def test_the_edits_reuse_the_analysis_of_the_demo():
    whole = request()
    edits = edits_request(whole, range(6))
    assert edits.layers == (5,)
    assert [sae.kind for sae in edits.saes] == ["topk"]
    intervene = edits.own["intervene"]
    assert isinstance(intervene, InterveneSettings)
    assert intervene.nodes == EDITED
    same = {name: value for name, value in edits if name not in ("name", "layers", "saes", "own")}
    assert same == {name: value for name, value in whole if name in same}
