"""What docs/sql.md asks of interventions: its numbers are those of the tables, each beside its null."""

import pytest
from tests.docs.cookbook import cookbook_query
from tests.pipeline.in_process import run_jobs
from tests.pipeline.stages.interventions.small_plans import QUICK, plan_interventions, query
from tests.small import register_small

from hsae.catalog import transaction
from hsae.catalog.findings.interventions.listed import listing
from hsae.catalog.queries.score_filter import ScoreFilter
from hsae.interventions.config import InterveneSettings

N_TESTED = 3
SETTINGS = InterveneSettings(
    nodes=("bird.n.01", "fish.n.01"), choose="selectivity", max_density=1.0, n_latents=4, n_random=2, n_shuffles=9,
    doses=(0.0, 0.5), label_effects=N_TESTED, steer=2, steer_images=10,
)  # fmt: skip
LAYERS = (1, 3)


@pytest.fixture(scope="module")
def edited(make_service):
    """Interventions in two layers, each of its own analysis."""
    service = make_service()
    register_small(service, n_classes=25)
    assert set(run_jobs(service, plan_interventions(service, SETTINGS, layers=LAYERS, sae=QUICK))) == {"succeeded"}
    return service


@pytest.fixture
def ask(edited):
    """The rows of a question."""
    return lambda question: query(edited, cookbook_query(question).strip().removesuffix(";"))


@pytest.fixture
def stored(edited):
    """The rows of a table."""

    def rows(table):
        with transaction(edited.sessions) as session:
            return listing(table)(session, ScoreFilter(limit=100_000))

    return rows


def near(shown, value) -> bool:
    """Whether a rounded number is a value."""
    return shown is value is None or float(shown) == pytest.approx(value, abs=6e-4)


def of(rows, **wanted):
    """The rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def test_specificity_stands_beside_its_controls(ask, stored):
    edits = stored("edits")
    rows = ask("Does an edit take its node away and nothing else, beside its controls?")
    assert len(rows) == len(LAYERS) * 2 * 2 * 2  # nodes, readouts, doses
    for row in rows:
        same = of(edits, layer=row["layer"], readout=row["readout"], synset=row["node"], dose=row["dose"])
        (latents,) = of(same, arm="latents")
        assert near(row["specificity"], latents["specificity"])
        assert near(row["low"], latents["specificity_low"])
        assert near(row["high"], latents["specificity_high"])
        random = [edit["specificity"] for edit in of(same, arm="random")]
        assert len(random) == SETTINGS.n_random
        assert near(row["random_latents"], sum(random) / len(random))
        assert near(row["greatest_random"], max(random))
        for column, arm in (("neurons",) * 2, ("probe_direction", "probe"), ("class_mean",) * 2, ("leace",) * 2):
            (control,) = of(same, arm=arm)
            assert near(row[column], control["specificity"])


def test_the_distance_curve_stands_beside_shuffled_trees(ask, stored):
    curve = of(stored("distances"), arm="latents")
    rows = ask("Do classes near the edited node lose more than far ones?")
    assert len(rows) == len(curve) > 0
    for point in curve:
        same = {name: point[name] for name in ("layer", "readout", "dose", "distance")}
        (row,) = of(rows, node=point["target"], **same)
        assert near(row["accuracy_drop"], point["accuracy_drop"])
        assert near(row["shuffled_high"], point["accuracy_null_high"])
        assert near(row["log_odds_shuffled_low"], point["log_odds_null_low"])


def test_latents_stand_beside_neurons_and_random_directions(ask, stored):
    shares = stored("steerability")
    rows = ask("How many latents of each layer steer the model, beside neurons?")
    assert len(rows) == len(shares) / 3 > 0
    for row in rows:
        same = of(shares, layer=row["layer"], amount=row["amount"], readout=row["readout"])
        for column, unit in (("latents", "latents"), ("neurons", "neurons"), ("random_directions", "random")):
            (share,) = of(same, units=unit)
            assert near(row[column], share["share"])


def test_used_latents_come_first(edited, ask, stored):
    effects = stored("labels")
    assert not any(row["is_used"] for row in effects), "nine draws give no small q"
    weakest = min(effects, key=lambda row: row["effect"])
    mark = "UPDATE latent_effect SET is_used = (latent = :latent AND intervention_set_id = :of) RETURNING latent"
    query(edited, mark, latent=weakest["latent"], of=weakest["intervention_set_id"])
    try:
        rows = ask("Which latents are used for their label, and which only fire for it?")
        counts = ask("How many latents of each layer does the model use for their label?")
    finally:
        query(edited, mark, latent=-1, of=-1)
    assert len(rows) == len(effects)
    first = of(rows, is_used=True)
    assert first == rows[: len(first)]
    assert {(row["layer"], row["latent"], row["label"]) for row in first} == {
        (weakest["layer"], weakest["latent"], weakest["synset"])
    }
    assert {(row["layer"], row["tested"], row["used"]) for row in counts} == {
        (layer, N_TESTED, int(layer == weakest["layer"])) for layer in LAYERS
    }
